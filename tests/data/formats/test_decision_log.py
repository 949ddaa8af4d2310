"""Our own decision log is read as it was written, and joined with the outcomes of the answers."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.example import example_from
from querytier.data.examples import Examples
from querytier.data.formats.canonical import is_passed_over
from querytier.data.formats.decision_log import DECISION_FIELDS
from querytier.data.formats.recognise import Format
from querytier.data.ingest.labelled_log import LabelledLog, Reading
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.data.text_view import text_view
from querytier.data.values import BadRecordError
from querytier.errors import LogError, UsageError
from querytier.serve.decision import Decision
from querytier.serve.log.decision_log import DecisionLog, LogSettings

CHEAP = Decision("cheap", 0.2, -0.1, 0.2, 0.5, "classifier", 0.9, "v1", 1.5)
FRONTIER = replace(CHEAP, tier="frontier", decision_score=0.8)


def said(folder, *outcomes):
    """Write outcomes as another program may; return the file."""
    path = folder / "outcomes.jsonl"
    path.write_text("".join(json.dumps(outcome) + "\n" for outcome in outcomes))
    return path


def source(folder, *, scores=True):
    path = folder / "decisions.jsonl"
    return LogSource(path, scores=folder / "outcomes.jsonl" if scores else None)


def examples_in(*sources, quarantine):
    log = LabelledLog(sources, Reading(max_bad_share=1.0), quarantine)
    return Examples.concatenated([batch.examples for batch in log]), log.account


@given(st.lists(st.text(st.characters(), max_size=60), min_size=1, max_size=8))
def test_any_text_that_is_logged_is_the_text_that_is_read(tmp_path_factory, queries):
    folder = tmp_path_factory.mktemp("log")
    with DecisionLog(folder) as log:
        for query in queries:
            log.append(CHEAP, query)
    made = source(folder, scores=False)
    records = list(made.records())
    assert len(records) == len(queries)
    for query, record in zip(queries, records, strict=True):
        if not query.strip():
            assert is_passed_over(record)
            continue
        values = made.columns().values(record.fields)
        if not text_view(query):
            with pytest.raises(BadRecordError, match="query empty"):
                example_from(values, LabelRules(), "")
            continue
        example = example_from(values, LabelRules(), "")
        # Every log loses lone surrogates, which no table can store.
        stored = query.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        assert (example.query, text_view(example.query)) == (stored, text_view(query))
        assert (example.tier, example.propensity, example.policy) == ("cheap", 0.9, "v1")


def test_outcomes_are_joined_with_decisions_by_id(tmp_path):
    with DecisionLog(tmp_path, clock=lambda: 1_935_900_000.25) as log:
        good = log.append(CHEAP, "one", conversation="talk-1")
        bad = log.append(CHEAP, "two", domain="shop")
        log.append(CHEAP, "three")
        dear = log.append(FRONTIER, "four")
        log.append_outcome(good, outcome=0.9, cost=0.001)
        log.append_outcome(bad, feedback="Thumbs-down")
        log.append_outcome(dear, outcome=1.0, cost=0.02)
    examples, account = examples_in(source(tmp_path), quarantine=tmp_path / "bad.jsonl")
    assert examples.needs_frontier.tolist()[:2] == [0.0, 2 / 3]
    assert examples.unlabelled.tolist() == [
        "",
        "",
        "cheap_score missing; outcome missing",
        "cheap_score missing; only the frontier answer known",
    ]
    assert examples.cheap_cost.tolist()[0] == 0.001
    assert examples.frontier_cost.tolist()[3] == 0.02
    assert examples.outcome.tolist()[3] == 1.0
    assert examples.feedback.tolist()[1] == "thumbs_down"
    assert (examples.group[0], examples.domain[1]) == ("talk-1", "shop")
    assert set(examples.time) == {"2031-05-07T06:00:00.250000Z"}
    assert set(examples.policy) == {"v1"}
    assert not account.quarantined
    assert not account.passed_over


def test_the_latest_value_of_each_field_of_an_outcome_wins(tmp_path):
    with DecisionLog(tmp_path) as log:
        log.append(CHEAP, "Hi", id="a")
    said(
        tmp_path,
        {"id": "a", "time": "2031-05-07T09:00:00Z", "outcome": 0.3, "feedback": "retry"},
        {"id": "a", "time": "2031-05-07T11:00:00+03:00", "outcome": 0.9, "cost": 0.5},
        {"id": "a", "time": "2031-05-07T10:00:00Z", "cost": 0.7, "outcome": None},
        {"id": "a", "cost": 9},
    )
    examples, _ = examples_in(source(tmp_path), quarantine=tmp_path / "bad.jsonl")
    joined = (examples.outcome[0], examples.feedback[0], examples.cheap_cost[0])
    assert joined == (0.3, "retry", 0.7)
    said(tmp_path, {"id": "a", "outcome": 0}, {"id": "a", "outcome": True})
    examples, _ = examples_in(source(tmp_path), quarantine=tmp_path / "bad.jsonl")
    assert examples.outcome[0] == 1.0, "without times the later line"


def test_scores_of_both_tiers_make_the_label_not_the_outcome(tmp_path):
    with DecisionLog(tmp_path) as log:
        spared, needed, half, dear = (log.append(CHEAP, text) for text in ("a", "b", "c", "d"))
        log.append_outcome(spared, feedback="thumbs_down")
        log.append_outcome(spared, cheap_score=1.0, frontier_score=1.0)
        log.append_outcome(needed, outcome=0.9, cheap_score=0.0)
        log.append_outcome(needed, frontier_score=1.0)
        log.append_outcome(half, cheap_score=0.0)
        log.append_outcome(dear, cheap_score=1, frontier_score=0, cost=0.5)
    examples, account = examples_in(source(tmp_path), quarantine=tmp_path / "bad.jsonl")
    assert examples.needs_frontier.tolist()[:2] == [0.0, 1.0]
    assert examples.needs_frontier.tolist()[3] == 0.0
    assert examples.unlabelled.tolist() == ["", "", "frontier_score missing; outcome missing", ""]
    assert examples.label_source.tolist()[:2] == ["cheap_fails_frontier_succeeds"] * 2
    assert examples.cheap_score.tolist()[1] == 0.0
    assert examples.frontier_score.tolist()[:2] == [1.0, 1.0]
    assert not account.quarantined


def test_bad_outcomes_are_quarantined_and_unknown_ones_counted(tmp_path):
    with DecisionLog(tmp_path) as log:
        log.append(CHEAP, "Hi", id="a")
    bad = [
        {"id": "a", "outcome": 7},
        {"id": "a", "feedback": "great"},
        {"id": "a", "cost": -1},
        {"id": "a", "time": "late", "cost": 1},
        {"id": "a", "outcome": None},
        {"outcome": 1},
    ]
    with said(tmp_path, {"id": "b", "outcome": 1}, *bad, {"id": "b", "cost": 2}).open("a") as file:
        file.write('{"id": "a", "outc')
    examples, account = examples_in(source(tmp_path), quarantine=tmp_path / "bad.jsonl")
    assert math.isnan(examples.outcome[0])
    assert account.quarantined == {"bad outcome": 7}
    assert account.passed_over == {"outcome of no decision in these logs": 1}
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert lines[0]["reason"] == "bad outcome: outcome outside [0, 1]: 7"
    assert lines[-1]["reason"] == "bad outcome: not JSON"


def test_files_of_one_log_report_unknown_outcomes_once(tmp_path):
    ids = []
    with DecisionLog(tmp_path, settings=LogSettings(max_bytes=2000)) as log:
        for n in range(30):
            ids.append(log.append(CHEAP, f"query {n}"))
            log.append_outcome(ids[-1], outcome=n % 2)
        log.append_outcome("nobody", outcome=1)
    with (tmp_path / "outcomes.jsonl").open("a") as file:
        file.write("{\n")
    paths = tuple(sorted(tmp_path.glob("decisions*.jsonl")))
    assert len(paths) > 2
    parts = [LogSource(p, scores=tmp_path / "outcomes.jsonl", parts=paths) for p in paths]
    examples, account = examples_in(*parts, quarantine=tmp_path / "bad.jsonl")
    assert dict(zip(examples.id, examples.outcome, strict=True)) == {
        own_id: n % 2 for n, own_id in enumerate(ids)
    }
    assert account.passed_over == {"outcome of no decision in these logs": 1}
    assert account.quarantined == {"bad outcome": 1}


@pytest.mark.parametrize(
    ("reason", "policy"),
    [
        ("classifier", "v1"),
        ("explore", "v1"),
        ("override", "v1+override"),
        ("conversation", "v1+conversation"),
        ("fallback:timeout", "v1+fallback:timeout"),
    ],
)
def test_decisions_not_made_by_the_classifier_have_their_own_policy(tmp_path, reason, policy):
    with DecisionLog(tmp_path) as log:
        log.append(replace(CHEAP, reason=reason), "Hi")
    (record,) = source(tmp_path, scores=False).records()
    assert (record.fields["policy"], record.fields["propensity"]) == (policy, 0.9)
    assert set(record.fields) == set(DECISION_FIELDS)


def test_decisions_without_a_text_are_passed_over(tmp_path):
    with DecisionLog(tmp_path, settings=LogSettings(text="hash")) as log:
        log.append_outcome(log.append(CHEAP, "Hi"), outcome=1)
    made = source(tmp_path)
    assert made.recognised() is Format.QUERYTIER
    with pytest.raises(LogError, match=r"none of the 0 records is usable \(query kept as a hash"):
        examples_in(made, quarantine=tmp_path / "bad.jsonl")
    with DecisionLog(tmp_path) as log:
        log.append(replace(CHEAP, reason="fallback:empty"), " \u200b")
        log.append(replace(CHEAP, reason="fallback:error"), [7])
        log.append(CHEAP, "Hi")
    examples, account = examples_in(made, quarantine=tmp_path / "bad.jsonl")
    assert len(examples) == 1
    assert account.passed_over == {"query kept as a hash only": 1, "decision without a query": 2}
    assert not account.quarantined


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"outcome": 1.1},
        {"outcome": float("nan")},
        {"outcome": "good"},
        {"feedback": "meh"},
        {"feedback": "  "},
        {"cost": -0.1},
        {"outcome": 1.0, "cost": float("inf")},
        {"cheap_score": 1.5},
        {"cheap_score": 0.0, "frontier_score": -1},
    ],
)
def test_an_invalid_outcome_is_refused_with_the_cure(tmp_path, wrong):
    with DecisionLog(tmp_path) as log:
        with pytest.raises(ValueError, match=r"give an outcome in \[0, 1\], a feedback"):
            log.append_outcome("a", **wrong)
        with pytest.raises(ValueError, match="give the id that came with the decision"):
            log.append_outcome("", outcome=1)
    assert not (tmp_path / "outcomes.jsonl").exists()


@given(
    st.none() | st.floats(0, 1),
    st.none() | st.sampled_from(["thumbs_up", "Thumbs down", "retry", "escalation", True, -1]),
    st.none() | st.floats(0, allow_infinity=False),
)
def test_every_accepted_outcome_is_read(tmp_path_factory, outcome, feedback, cost):
    folder = tmp_path_factory.mktemp("log")
    with DecisionLog(folder) as log:
        own_id = log.append(CHEAP, "Hi")
        try:
            log.append_outcome(own_id, outcome=outcome, feedback=feedback, cost=cost)
        except ValueError:
            assert outcome is feedback is cost is None
            return
    made = source(folder)
    (record,) = made.records()
    example = example_from(made.columns().values(record.fields), LabelRules(), "")
    assert example.outcome == outcome or (outcome is None and math.isnan(example.outcome))
    assert example.cheap_cost == cost or (cost is None and math.isnan(example.cheap_cost))
    assert bool(example.feedback) == (feedback is not None)


def test_scores_for_a_format_without_scores_are_a_usage_error(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"query": "Hi", "needs_frontier": 1}\n')
    with pytest.raises(UsageError, match=r"with querytier decisions, .* not with plain"):
        list(LogSource(path, scores=said(tmp_path)).records())


def test_three_hundred_decisions_go_from_the_log_to_examples(tmp_path, call):
    logs = tmp_path / "logs"
    with DecisionLog(logs, settings=LogSettings(max_bytes=30_000)) as log:
        for n in range(300):
            decision = FRONTIER if n % 3 == 0 else CHEAP
            own_id = log.append(decision, f"Where is order {n}?", conversation=f"talk-{n // 2}")
            if n % 5 == 0:
                log.append_outcome(own_id, feedback="thumbs_up", cost=0.01)
            elif n % 2 == 0:
                log.append_outcome(own_id, outcome=0.25)
        log.append_outcome("nobody", outcome=1)
    _, out, _ = call("data", "inspect", logs / "decisions.jsonl")
    assert "next: add --scores outcomes.jsonl" in out
    decisions, scores = sorted(logs.glob("decisions*.jsonl")), logs / "outcomes.jsonl"
    assert len(decisions) > 2
    code, out, _ = call("data", "inspect", logs / "decisions.jsonl", "--scores", scores, "--json")
    found = json.loads(out)
    assert (code, found["format"], found["bad"]) == (0, "querytier", {})
    assert (
        found["propensities"]
        == sum(found["tiers"].values())
        == found["rows"] - sum(found["passed_over"].values())
    )
    code, out, _ = call("prepare", *decisions, "--scores", scores, "--out", tmp_path / "run")
    assert code == 0
    summary = json.loads((tmp_path / "run" / "data" / "summary.json").read_text())
    labelled = [n for n in range(300) if n % 3 and (n % 5 == 0 or n % 2 == 0)]
    assert (summary["rows"], summary["usable"]) == (300, len(labelled))
    assert summary["one_sided"] == {
        "tiers": {"cheap": 200, "frontier": 100},
        "outcomes": 60 + 120,
        "propensities": 300,
        "policies": {"v1": 300},
    }
    assert summary["positive"] == sum(n % 5 > 0 for n in labelled)
    assert summary["passed_over"] == {"outcome of no decision in these logs": 1}
    assert summary["quarantined"] == {}
    assert "outcome of no decision in these logs: 1" in out
