"""`querytier off-policy` on simulated one-sided logs with both outcomes known."""

import io
import json
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from querytier.cli.main import main
from querytier.eval.off_policy.estimators import ESTIMATORS
from querytier.eval.off_policy.page import headline, policy_rows
from querytier.eval.rankings import keyword_tier
from querytier.pipeline.scoring import decide_all, load_for_evaluation

ARTIFACT = Path(__file__).parents[1] / "fixtures" / "artifacts" / "format-2"
POLICIES = [
    "artifact",
    "keyword_heuristic",
    "always_cheap",
    "always_frontier",
    "coin_at_artifact_rate",
]
ROWS, SOME = 1000, 400
HARD = ["Prove that {} is optimal", "Derive a schedule for {}, step by step", "Debug why {} fails"]
EASY = ["What time does {} open?", "Say hello to {}", "Translate {} into French"]
THINGS = ["the bakery", "a ferry", "the archive", "our greenhouse", "this sensor", "the choir"]
CHEAP_COST, FRONTIER_COST = 0.001, 0.02


def both_outcomes(random):
    """Return queries, and both tiers' outcomes: frontier is better on hard queries."""
    hard = random.random(ROWS) < 0.4
    queries = [
        f"{random.choice(HARD if one else EASY).format(random.choice(THINGS))} ({n})"
        for n, one in enumerate(hard)
    ]
    cheap = (random.random(ROWS) < np.where(hard, 0.35, 0.85)).astype(float)
    frontier = (random.random(ROWS) < np.where(hard, 0.8, 0.9)).astype(float)
    return queries, cheap, frontier


def logged(random, queries, cheap, frontier, explored=0.3):
    """Return a router's log: the heuristic's tier, or a random tier in a share of the rows."""
    rows = []
    for n, query in enumerate(queries):
        greedy = keyword_tier(query)
        tier = random.choice(["cheap", "frontier"]) if random.random() < explored else greedy
        chance = 1 - explored / 2 if tier == greedy else explored / 2
        rows.append(
            {
                "id": f"q-{n}",
                "query": query,
                "tier": str(tier),
                "outcome": (frontier if tier == "frontier" else cheap)[n],
                "propensity": chance,
                "cost": FRONTIER_COST if tier == "frontier" else CHEAP_COST,
                "policy": "keywords-1",
            }
        )
    return rows


@pytest.fixture(scope="module")
def truth():
    return both_outcomes(np.random.default_rng(1))


@pytest.fixture(scope="module")
def rows(truth):
    return logged(np.random.default_rng(2), *truth)


def answer(folder, lines, *options):
    """Write a log and run the verb on it; return exit code, output and the record."""
    params, log, out = folder / "params.yaml", folder / "router.jsonl", folder / "out"
    params.write_text("evaluate: {bootstrap: 100}\n")
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    log.write_text("\n".join(texts) + "\n")
    arguments = [log, "--artifact", ARTIFACT, "--out", out, "--params", params, *options]
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.setattr(sys, "argv", ["querytier", "off-policy", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
    path = out / "off_policy.json"
    record = json.loads(path.read_text()) if path.exists() else None
    return exit_.value.code or 0, printed.getvalue(), record


@pytest.fixture
def asked(tmp_path):
    return partial(answer, tmp_path)


@pytest.fixture(scope="module")
def answered(rows, tmp_path_factory):
    """Return exit code, output and record for the whole log, and the folder of results."""
    folder = tmp_path_factory.mktemp("off_policy")
    return *answer(folder, rows), folder / "out"


def without(rows, *names):
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


def test_intervals_cover_the_true_outcome_of_every_policy(answered, rows, truth):
    code, printed, record, out = answered
    queries, cheap, frontier = truth
    decisions = decide_all(load_for_evaluation(ARTIFACT), queries)
    ours = np.array([decision.tier == "frontier" for decision in decisions])
    keyword = np.array([keyword_tier(query) == "frontier" for query in queries])
    rates = [ours, keyword, np.zeros(ROWS), np.ones(ROWS), np.full(ROWS, ours.mean())]
    assert code == 0
    assert [row["name"] for row in record["rows"]] == POLICIES
    for row, rate in zip(record["rows"], rates, strict=True):
        assert row["overlap"]["reason"] is None
        assert row["overlap"]["new_frontier_rate"] == pytest.approx(rate.mean())
        outcome = (cheap + rate * (frontier - cheap)).mean()
        cost = (CHEAP_COST + rate * (FRONTIER_COST - CHEAP_COST)).mean()
        for column, value, tolerance in (("outcome", outcome, 1e-3), ("cost", cost, 1e-5)):
            for estimator in ESTIMATORS:
                found = row[column][estimator]
                assert found["low"] - tolerance <= value <= found["high"] + tolerance
    assert 0.05 < ours.mean() < 0.95
    assert record["logging"]["outcome"]["value"] == pytest.approx(
        np.mean([row["outcome"] for row in rows])
    )
    assert record["logging"]["policies"] == {"keywords-1": ROWS}
    assert record["reasons"] == {"classifier": ROWS}
    for name in ["logging router", *POLICIES]:
        assert name in printed
    assert "…" not in printed
    assert headline(record) in printed
    assert not (out / "quarantine.jsonl").exists()


def test_leads_are_paired_differences(answered):
    record = answered[2]
    ours, keyword = record["rows"][:2]
    for column in ("outcome", "cost"):
        for estimator in ESTIMATORS:
            lead = keyword["behind_artifact"][column][estimator]
            values = [row[column][estimator] for row in (ours, keyword)]
            assert lead["value"] == pytest.approx(values[0]["value"] - values[1]["value"])
            assert ours["behind_artifact"][column][estimator]["value"] == 0
            over_log = ours[column]["lead"][estimator]["value"]
            logging = record["logging"][column]["value"]
            assert over_log == pytest.approx(values[0]["value"] - logging)


def test_the_page_agrees_with_the_json(answered):
    _, _, record, out = answered
    page = unescape((out / "off_policy.html").read_text()).replace("\N{NO-BREAK SPACE}", " ")
    assert headline(record) in page
    for row in policy_rows(record):
        assert f"<td>{row.name}</td><td>{row.frontier_rate}</td>" in page
        for cells in row.cells.values():
            for cell in filter(None, cells):
                value, _, interval = cell.partition(" ")
                below = f'<small class="interval">{interval}</small>' if interval else ""
                assert f">{value}{below}</td>" in page
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)|url\((?!#)|@import|<script""", page)
    assert len(re.findall(r'<svg role="img" aria-label="New policy[^"]{20,}"', page)) == 1
    words = re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL).lower().split()
    assert not {"nan", "none"} & set(words)


def test_a_log_without_exploration_cannot_evaluate_an_artifact(asked, truth, tmp_path):
    rows = logged(np.random.default_rng(3), *truth, explored=0.0)[:SOME]
    code, printed, record = asked(rows)
    assert code == 1
    assert "This log cannot evaluate the artifact: the log never has" in printed
    found = {row["name"]: row for row in record["rows"]}
    assert record["cannot_claim"] == found["artifact"]["overlap"]["reason"]
    assert found["artifact"]["outcome"]["snips"]["value"] is None
    page = (tmp_path / "out" / "off_policy.html").read_text()
    assert f"cannot evaluate</span>: {record['cannot_claim']}" in page
    # The log can evaluate the router that wrote it.
    keyword = found["keyword_heuristic"]["outcome"]["ips"]["value"]
    assert keyword == pytest.approx(record["logging"]["outcome"]["value"])


@pytest.mark.parametrize("missing", [1, SOME])
def test_missing_propensities_are_reported_and_not_assumed(asked, rows, tmp_path, missing):
    code, printed, record = asked([*without(rows[:missing], "propensity"), *rows[missing:SOME]])
    assert code == 1
    words = f"{missing} of {SOME} rows have no propensity, and none is assumed"
    assert words in printed
    assert record["cannot_claim"].startswith(words)
    assert all(row["overlap"]["reason"].startswith(words) for row in record["rows"])
    assert "The overlap is unknown" in (tmp_path / "out" / "off_policy.html").read_text()


def test_rows_left_out_are_counted_and_reported(asked, rows, tmp_path):
    lines = [
        *without(rows[:30], "outcome"),
        *without(rows[30:50], "tier"),
        *rows[50:SOME],
        "{",
        json.dumps({**rows[0], "id": "x", "propensity": 2}),
        json.dumps({**rows[0], "id": "y", "tier": "middle"}),
    ]
    code, printed, record = asked(lines)
    n = record["n"]
    assert code == 0
    assert [n["rows"], n["evaluated"], n["quarantined"]] == [SOME + 3, SOME - 50, 3]
    assert [n["without_tier"], n["without_outcome"]] == [20, 30]
    assert n["evaluated"] + n["without_tier"] + n["without_outcome"] + 3 == n["rows"]
    assert "without an outcome or feedback: 30, without a tier: 20" in printed
    assert "in quarantine.jsonl: " in printed
    assert "not JSON: 1" in printed
    quarantine = (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["line"] for line in quarantine) == [SOME + n for n in (1, 2, 3)]
    page = (tmp_path / "out" / "off_policy.html").read_text()
    assert "20 without a tier, 30 without an outcome or feedback, 3 in quarantine" in page
    assert "30 answers without an outcome are left out" in page


def test_feedback_replaces_missing_outcomes_and_no_cost_is_assumed(asked, rows, tmp_path):
    said = [{**row, "feedback": "thumbs_up" if row["outcome"] else "retry"} for row in rows[:SOME]]
    code, printed, record = asked(without(said, "outcome", "cost"))
    stated = asked(without(rows[:SOME], "cost"))[2]
    assert code == 0
    assert record["n"]["outcome_from_feedback"] == SOME
    assert f"outcomes taken from feedback: {SOME}" in printed
    assert f"Its cost is unknown: {SOME} of {SOME} rows have no cost" in printed
    assert record["rows"][0]["outcome"] == stated["rows"][0]["outcome"]
    assert "cost of 1,000 queries" not in (tmp_path / "out" / "off_policy.html").read_text()


def test_logs_without_usable_rows_are_refused_with_counts(asked, rows):
    code, printed, _ = asked(without(rows[:300], "tier"), "--map", MAP)
    assert code == 2
    assert "no record has the mapped column tier=tier" in printed
    nothing = [{**row, "tier": None, "outcome": 1} for row in rows[:300]]
    code, printed, _ = asked(nothing)
    assert code == 1
    assert "none of its 300 rows has both the tier" in printed
    assert "(300 without a tier, 0 without an outcome or feedback)" in printed
    code, printed, _ = asked([{**row, "outcome": 4} for row in rows[:300]])
    assert code == 1
    assert "router.jsonl: the outcome of 300 rows is out of range, such as 4" in printed
    code, printed, _ = asked(without(rows[:300], "outcome"))
    assert code == 2
    assert "tier=COLUMN and outcome=COLUMN" in printed


MAP = "query=query,tier=tier,outcome=outcome"


def test_the_verb_has_help_with_an_example(call):
    code, out, _ = call("off-policy", "--help")
    assert code == 0
    assert "Example: querytier off-policy router.jsonl" in re.sub(r"\s+", " ", out)
