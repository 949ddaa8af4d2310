"""The worst mistakes, their neighbours, and the evidence in the metrics of a run."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blank import blank_examples
from querytier.eval.rankings import Ranking
from querytier.eval.report.mistakes import Neighbourhood, mistakes_record, worst_mistakes
from querytier.eval.report.table import headline


def examples_of(**columns):
    count = len(next(iter(columns.values())))
    return blank_examples(**{"group": [f"g{n}" for n in range(count)], **columns})


@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.integers(0, 8)).map(
            lambda row: (float(row[0]), row[1], row[2] / 8)
        ),
        min_size=1,
        max_size=30,
    )
)
def test_mistakes_are_all_the_wrong_decisions_and_the_surest_come_first(rows):
    labels, frontier, scores = map(np.array, zip(*rows, strict=True))
    found = worst_mistakes(examples_of(needs_frontier=labels.tolist()), scores, frontier)
    missed, wasted = found["sent_cheap"], found["sent_frontier"]
    assert set(missed) == set(np.flatnonzero(~frontier & (labels == 1)))
    assert set(wasted) == set(np.flatnonzero(frontier & (labels == 0)))
    assert (np.diff(scores[missed]) >= 0).all()
    assert (np.diff(scores[wasted]) <= 0).all()


def test_a_larger_loss_is_a_worse_mistake():
    examples = examples_of(
        needs_frontier=[1.0, 1.0], cheap_score=[0.4, 0.0], frontier_score=[0.6, 1.0]
    )
    found = worst_mistakes(examples, np.array([0.1, 0.3]), np.zeros(2, bool))
    assert found["sent_cheap"].tolist() == [1, 0]


def test_neighbours_are_nearest_by_angle_and_of_another_group():
    known = examples_of(
        query=["same group", "near", "far", "opposite"],
        group=["g0", "a", "b", "c"],
        needs_frontier=[1.0, 0.0, 1.0, 0.0],
    )
    vectors = np.array([[1, 0], [8, 1], [1, 1], [-1, 0]], np.float32)
    asked = Neighbourhood(known, vectors, np.array([[5, 0]], np.float32))
    nearest = asked.nearest(0, "g0")
    assert [one["query"] for one in nearest] == ["near", "far", "opposite"]
    assert [one["needs_frontier"] for one in nearest] == [0.0, 1.0, 0.0]
    assert nearest[1]["similarity"] == pytest.approx(2**-0.5)


def test_the_number_of_mistakes_is_limited_and_long_texts_are_cut():
    examples = examples_of(query=["word " * 500] * 4, needs_frontier=[1.0] * 4)
    vectors = np.ones((4, 2), np.float32)
    ranking = Ranking("classifier", np.zeros(4), np.zeros(4), "rows")
    neighbourhood = Neighbourhood(examples, vectors, vectors)
    found = mistakes_record(examples, ranking, np.zeros(4, bool), neighbourhood, 2)
    assert len(found["sent_cheap"]) == 2
    assert all(len(one["query"]) <= 300 for one in found["sent_cheap"])
    assert found["sent_cheap"][0]["cheap_score"] is None
    none = mistakes_record(examples, ranking, np.zeros(4, bool), neighbourhood, 0)
    assert none == {"sent_cheap": [], "sent_frontier": []}
    assert json.dumps(found, allow_nan=False)


def test_the_metrics_contain_the_evidence(run_dir):
    metrics = json.loads((run_dir / "metrics.json").read_text())
    parts = {name: estimate["value"] for name, estimate in metrics["calibration"].items()}
    assert parts["brier"] == pytest.approx(metrics["rows"][0]["brier"])
    assert metrics["slices"]["results"] or metrics["slices"]["untested"]
    assert metrics["mistakes"]["sent_cheap"], "a classifier on two hundred rows misses some"
    assert len(metrics["mistakes"]["sent_cheap"][0]["neighbours"]) == 3
    assert (metrics["prices"], metrics["champion"]) == (None, None)


def test_a_champion_and_prices_are_seen_in_another_evaluation(call, scored_log, artifact, tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text(
        "evaluate:\n  bootstrap: 100\n  latency_decisions: 5\n  mistakes: 0\n  prices:\n"
        "    cheap: {per_million_in: 1, per_million_out: 1, output_tokens: 100}\n"
        "    frontier: {per_million_in: 9, per_million_out: 9, output_tokens: 100}\n"
        "    decision: 0.0001\n    source: invented for this test\n"
    )
    columns = "query=prompt,cheap_score=score.cheap,frontier_score=score.frontier"
    code, _, errors = call(
        "evaluate", scored_log, "--map", columns, "--artifact", artifact,
        "--champion", artifact, "--params", params, "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, errors
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    ours, champion = metrics["rows"][:2]
    assert champion["name"] == "champion"
    assert champion["auroc"] == ours["auroc"]
    assert champion["behind_classifier"]["apgr"]["low"] == 0
    assert metrics["prices"]["estimated_rows"] == metrics["n"]["evaluated"]
    assert ours["cost_saved"] < 1 - metrics["operating_point"]["frontier_rate"]
    means = {name: estimate["value"] for name, estimate in metrics["mean_costs"].items()}
    assert 1 - means["as_routed"] / means["always_frontier"] == pytest.approx(ours["cost_saved"])
    assert means["always_cheap"] < means["as_routed"] < means["always_frontier"]
    assert " USD." in headline(metrics)
    assert metrics["mistakes"] == {"sent_cheap": [], "sent_frontier": []}
