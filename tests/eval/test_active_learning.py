"""Planned labels: which queries are chosen, within the budget, and that they only ever train."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querytier.data.examples import Examples
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import Splitting, prepare, read_prepared
from querytier.data.ingest.sources import LogSource
from querytier.eval.active_learning import REASONS, Candidates, Covered, choose_queries

ARTIFACT = Path(__file__).parents[1] / "fixtures" / "artifacts" / "format-2"
SHARES = {"calibration": 0.15, "certification": 0.15, "test": 0.2}
ALL = dict.fromkeys(REASONS, 1.0)
PRICES = ["--price-cheap", "0.5,1.5", "--price-frontier", "10,30"]


def candidates(count, *, seed=0, centre=0.0, domains=None):
    random = np.random.default_rng(seed)
    vectors = random.normal(centre, 1, (count, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Candidates(
        np.array([f"{seed} {row // 2}" for row in range(count)], dtype=object),
        vectors.astype(np.float32),
        random.random(count),
        random.uniform(0.01, 0.05, count),
        np.array(domains or [""] * count, dtype=object),
    )


def covered(count, *, seed=9, centre=0.0, domains=None):
    made = candidates(count, seed=seed, centre=centre, domains=domains)
    return Covered(made.groups, made.embeddings, made.domains)


@given(
    count=st.integers(0, 60),
    known=st.integers(0, 60),
    budget=st.floats(0.001, 3),
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=4, max_size=4),
    seed=st.integers(0, 5),
)
@settings(max_examples=40)
def test_no_plan_exceeds_its_budget_or_labels_a_near_copy_twice(
    count, known, budget, weights, seed
):
    shares = dict(zip(REASONS, weights, strict=True))
    waiting = candidates(count, seed=1)
    # Some of what waits is a near copy of what is labelled.
    labelled = covered(known, seed=1 if seed % 2 else 2)
    if not any(weights):
        shares["random"] = 1.0
    chosen = choose_queries(
        waiting, labelled, threshold=0.5, budget=budget, shares=shares, seed=seed
    )
    again = choose_queries(
        waiting, labelled, threshold=0.5, budget=budget, shares=shares, seed=seed
    )
    groups = [waiting.groups[one.row] for one in chosen]
    assert chosen == again
    assert sum(one.cost for one in chosen) <= budget + 1e-9
    assert len(set(groups)) == len(groups)
    assert not set(groups) & set(labelled.groups)
    assert all(shares[one.reason] > 0 and one.why for one in chosen)


def test_a_budget_is_spent_until_nothing_more_fits():
    waiting = candidates(40)
    left = {
        one.row
        for one in choose_queries(
            waiting, covered(0), threshold=0.5, budget=100.0, shares=ALL, seed=0
        )
    }
    assert len({waiting.groups[row] for row in left}) == len(set(waiting.groups)) == len(left)


def test_the_uncertain_ones_are_nearest_to_the_threshold():
    waiting = candidates(50)
    chosen = choose_queries(
        waiting, covered(0), threshold=0.5, budget=0.2, shares={"uncertain": 1.0}, seed=0
    )
    distance = np.abs(waiting.decision_scores - 0.5)
    assert len(chosen) >= 4
    assert distance[[one.row for one in chosen]].max() < np.quantile(distance, 0.4)


def test_the_uncovered_ones_are_of_the_domain_that_has_traffic_and_no_labels():
    domains = ["billing"] * 30 + ["travel"] * 30
    labelled = covered(20, domains=["billing"] * 20)
    chosen = choose_queries(
        candidates(60, domains=domains),
        labelled,
        threshold=0.5,
        budget=0.3,
        shares={"uncovered": 1.0},
        seed=0,
    )
    assert {domains[one.row] for one in chosen} == {"travel"}
    assert chosen[0].why == "domain travel: 50.0% of the traffic, 0 labels"


def test_drift_is_found_where_it_is_and_not_where_it_is_not():
    waiting = candidates(200, centre=1.0)
    drifted = {"drifted": 1.0}
    same = covered(200, seed=9, centre=1.0)
    other = covered(200, seed=9, centre=-1.0)
    options = {"threshold": 0.5, "budget": 0.5, "shares": drifted, "seed": 0}
    assert not choose_queries(waiting, same, **options)
    chosen = choose_queries(waiting, other, **options)
    assert chosen
    assert all(one.reason == "drifted" for one in chosen)


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"budget": 0.0}, "budget"), ({"shares": dict.fromkeys(REASONS, 0.0)}, "shares")],
)
def test_what_makes_no_plan_is_refused(options, problem):
    settings_ = {"threshold": 0.5, "budget": 1.0, "shares": ALL, "seed": 0, **options}
    with pytest.raises(ValueError, match=problem):
        choose_queries(candidates(5), covered(0), **settings_)


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


def test_planned_rows_are_known_without_a_map_and_other_words_are_no_selection(tmp_path):
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


def test_examples_written_before_labels_were_planned_still_read(tmp_path):
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
    code, said, err = call(
        "plan-labels", log, "--artifact", ARTIFACT, "--budget", "0.1", "--out", out, *PRICES
    )
    assert code == 0, err
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert 0 < sum(one["cost"] for one in records) <= 0.1
    assert {one["selected"] for one in records} == {"planned"}
    assert len({one["query"] for one in records}) == len(records)
    assert f"{len(records)} of 61 queries" in said
    judged = [{**one, "cheap_score": n % 2, "frontier_score": 1} for n, one in enumerate(records)]
    plain = [
        {"id": f"p{n}", "query": f"plain {n}", "cheap_score": n % 2, "frontier_score": 1}
        for n in range(40)
    ]
    splits = splits_after(tmp_path, plain + judged)
    assert {splits[one["id"]] for one in records} == {"train"}
    assert "test" in splits.values()


def test_the_verb_needs_prices_and_something_to_label(tmp_path, call):
    log = log_of(tmp_path / "traffic.jsonl", [{"query": "hello there"}])
    verb = ["plan-labels", log, "--artifact", ARTIFACT, "--out", tmp_path / "o.jsonl", "--budget"]
    code, _, err = call(*verb, "1")
    assert code == 2
    assert "--price-cheap" in err
    assert call(*verb, "0", *PRICES)[0] == 2
    code, _, err = call(*verb, "1", "--price-cheap", "cheap", "--price-frontier", "1,2")
    assert code == 2
    assert "write IN,OUT" in err
