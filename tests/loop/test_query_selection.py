"""`querytier select-queries`: its choices and refusals, and that its rows are only trained on."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querytier.data.examples import Examples
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import Splitting, prepare, read_prepared
from querytier.data.ingest.sources import LogSource
from querytier.errors import UsageError
from querytier.pipeline.params import read_params

ARTIFACT = Path(__file__).parents[1] / "fixtures" / "artifacts" / "format-2"
SHARES = {"calibration": 0.15, "certification": 0.15, "test": 0.2}
PRICES = ["--price-cheap", "0.5,1.5", "--price-frontier", "10,30"]


def log_of(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def row(number, **more):
    query = f"question {number} about subject {number * 7} and {number * 13}"
    return {"id": f"r{number}", "query": query, "needs_frontier": number % 2, **more}


def splits_after(folder, rows):
    sources = [LogSource(log_of(folder / "log.jsonl", rows))]
    prepare(sources, folder / "out", Reading(), Splitting(SHARES, seed=17))
    examples, _ = read_prepared(folder / "out")
    return dict(zip(examples.id, examples.split, strict=True))


@given(planned=st.sets(st.integers(300, 420), max_size=80), shared=st.booleans())
@settings(max_examples=8)
def test_planned_rows_train_and_change_no_other_split(planned, shared, tmp_path_factory):
    """Their whole group trains; without it all other rows have the splits they have with it."""
    folder = tmp_path_factory.mktemp("splits")
    rows = [row(number) for number in range(300)]
    partner = {"group": "one"} if shared else {}
    rows[0] |= partner
    extra = [row(number, selected="planned", **partner) for number in sorted(planned)]
    before = splits_after(folder, rows[1:] if shared and planned else rows)
    after = splits_after(folder, rows + extra)
    assert {after[f"r{number}"] for number in planned} <= {"train"}
    if shared and planned:
        assert after.pop("r0") == "train"
    assert before == {name: split for name, split in after.items() if name in before}


def test_selected_is_read_without_a_map_and_other_words_are_refused(tmp_path):
    rows = [{**row(number), "prompt": f"text {number}"} for number in range(40)]
    rows[3]["selected"], rows[4]["selected"] = "planned", "picked"
    paths = {"query": "prompt", "id": "id", "needs_frontier": "needs_frontier"}
    log = log_of(tmp_path / "log.jsonl", rows)
    prepare([LogSource(log, paths=paths)], tmp_path / "out", Reading(), Splitting(SHARES))
    examples, _ = read_prepared(tmp_path / "out")
    assert examples.id[examples.planned].tolist() == ["r3"]
    assert len(examples) == 40
    mapped = {**paths, "selected": "selected"}
    data = prepare([LogSource(log, paths=mapped)], tmp_path / "b", Reading(), Splitting(SHARES))
    assert data.quarantined == {"selected is neither random nor planned": 1}


def test_examples_from_before_the_field_selected_still_read(tmp_path):
    rows = [row(number) for number in range(30)]
    splits_after(tmp_path, rows)
    path = tmp_path / "out" / "data" / "examples.parquet"
    examples, data = read_prepared(tmp_path / "out")
    pq.write_table(pq.read_table(path).drop_columns(["selected"]), path)
    old = Examples.read_parquet(path)
    assert set(old.selected) == {"random"}
    assert old.fingerprint() == examples.fingerprint() == data.fingerprint


def test_the_verb_writes_log_records_that_train(tmp_path, call):
    traffic = [
        {"id": f"t{n}", "query": f"how do I mend thing {n * 31} by {n * 17}"} for n in range(60)
    ]
    log = log_of(tmp_path / "traffic.jsonl", [*traffic, traffic[0] | {"id": "copy"}])
    out = tmp_path / "to_label.jsonl"
    code, printed, err = call(
        "select-queries", log, "--artifact", ARTIFACT, "--budget", "0.1", "--out", out, *PRICES
    )
    assert code == 0, err
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert 0 < sum(one["cost"] for one in records) <= 0.1
    assert {one["selected"] for one in records} == {"planned"}
    assert len({one["query"] for one in records}) == len(records)
    assert f"{len(records)} of 61 queries" in printed
    judged = [{**one, "cheap_score": n % 2, "frontier_score": 1} for n, one in enumerate(records)]
    plain = [
        {"id": f"p{n}", "query": f"plain {n}", "cheap_score": n % 2, "frontier_score": 1}
        for n in range(40)
    ]
    splits = splits_after(tmp_path, plain + judged)
    assert {splits[one["id"]] for one in records} == {"train"}
    assert "test" in splits.values()


def test_the_verb_needs_prices_a_budget_and_unlabelled_queries(tmp_path, call):
    log = log_of(tmp_path / "traffic.jsonl", [{"query": "hello there"}])
    options = ["--artifact", ARTIFACT, "--out", tmp_path / "o.jsonl", "--budget"]
    verb = ["select-queries", log, *options]
    code, _, err = call(*verb, "1")
    assert code == 2
    assert "--price-cheap" in err
    assert call(*verb, "0", *PRICES)[0] == 2
    code, _, err = call(*verb, "1", "--price-cheap", "cheap", "--price-frontier", "1,2")
    assert code == 2
    assert "write IN,OUT" in err
    labelled = log_of(tmp_path / "labelled.jsonl", [row(1)])
    code, _, err = call("select-queries", labelled, *options, "1", *PRICES)
    assert code == 1
    assert "every query of the logs has a label" in err


def test_queries_with_a_label_in_the_log_are_not_selected(tmp_path, call):
    rows = [row(n, needs_frontier=1 if n % 2 == 0 else None) for n in range(20)]
    log = log_of(tmp_path / "log.jsonl", rows)
    out = tmp_path / "to_label.jsonl"
    options = ["--artifact", ARTIFACT, "--budget", "9", "--out", out, *PRICES]
    code, printed, err = call("select-queries", log, *options)
    assert code == 0, err
    assert "10 of 10 queries" in printed
    assert "compared with 10 queries that have a label" in printed
    chosen = {json.loads(line)["id"] for line in out.read_text().splitlines()}
    assert chosen == {f"r{n}" for n in range(1, 20, 2)}


def test_the_old_verb_names_the_new_one(call):
    code, _, err = call("plan-labels", "traffic.jsonl", "--budget", "1")
    assert code == 2
    assert "`querytier plan-labels` is now `querytier select-queries`" in err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("plan_labels: {random: 1}", "plan_labels is called select_queries now"),
        ("select_queries: {uncertain: 0.5}", "select_queries.uncertain was removed"),
        ("select_queries: {random: 0, uncovered: 0}", "both shares are 0"),
    ],
)
def test_old_and_impossible_parameters_are_refused(tmp_path, text, problem):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UsageError, match=problem):
        read_params(tmp_path / "params.yaml")
