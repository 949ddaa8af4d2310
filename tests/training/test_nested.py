"""Nested cross-validation: no row has a part in what is said of it."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from querytier.data.example import example_from
from querytier.data.examples import Examples
from querytier.data.labelling import LabelRules
from querytier.pipeline.cross_validation import nested_evaluation
from querytier.pipeline.params import EvaluateParams, Params, TrainParams
from querytier.training.baselines import LabelledFeatures
from querytier.training.fit import FitSettings
from querytier.training.learners import LinearLearner
from querytier.training.nested import nested_cross_validation
from querytier.training.recipes import Recipe

RECIPES = [Recipe((LinearLearner(("minilm",), c),), "gain") for c in (0.1, 1.0)]


@pytest.fixture(scope="module")
def labelled():
    """Return rows whose gain follows from the first coordinate, with noise."""
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(180, 4)).astype(np.float32)
    frontier = embeddings[:, 0] + random.normal(size=180) > 0
    rows = [
        example_from(
            {"query": f"q {n}", "cheap_score": 0, "frontier_score": int(ok), "group": n // 2},
            LabelRules(),
            str(n),
        )
        for n, ok in enumerate(frontier)
    ]
    return LabelledFeatures(Examples.of(rows), {"minilm": embeddings})


def judged(labelled, **others):
    return nested_cross_validation(labelled, RECIPES, FitSettings(3, 0.3, 0), **others)


def test_every_row_is_scored_once_and_every_fold_chooses(labelled):
    found = judged(labelled)
    assert np.isfinite(found.decision_scores).all()
    assert ((found.p_frontier >= 0) & (found.p_frontier <= 1)).all()
    assert found.chosen.total() == 3
    assert set(found.chosen) <= {recipe.name for recipe in RECIPES}
    assert 0.1 < found.to_frontier.mean() < 0.6


def test_the_outcomes_of_a_fold_change_nothing_that_is_said_of_it(labelled):
    found = judged(labelled)
    held_out = found.masks[1]
    examples = labelled.examples
    other = replace(
        examples,
        needs_frontier=np.where(held_out, 1 - examples.needs_frontier, examples.needs_frontier),
        frontier_score=np.where(held_out, 1 - examples.frontier_score, examples.frontier_score),
    )
    again = judged(LabelledFeatures(other, labelled.blocks), masks=found.masks)
    for name in ("decision_scores", "p_frontier", "to_frontier"):
        before, after = getattr(found, name), getattr(again, name)
        np.testing.assert_array_equal(after[held_out], before[held_out])
    assert not np.array_equal(again.decision_scores, found.decision_scores)


def test_the_evaluation_stands_on_the_folds_that_it_is_given(labelled):
    thirds = [np.arange(180) // 60 == third for third in range(3)]
    params = Params(
        train=TrainParams(folds=3, regularisation=(1.0,)), evaluate=EvaluateParams(bootstrap=100)
    )
    evaluation, found = nested_evaluation(labelled, RECIPES, params, masks=thirds)
    np.testing.assert_array_equal(found.masks, thirds)
    assert evaluation.row("classifier").fitted_on == "3 given folds"
    assert evaluation.row("knn").fitted_on == "3 given folds"
    assert evaluation.row("classifier").apgr.low > 0.5


def test_crossval_writes_metrics_beside_baselines_and_a_score_for_every_row(
    scored_log, scored_map, tmp_path, call
):
    params = tmp_path / "params.yaml"
    params.write_text("train: {regularisation: [0.1, 1.0]}\nevaluate: {bootstrap: 100}\n")
    out = tmp_path / "out"
    options = ["--map", scored_map, "--folds", 3, "--params", params, "--out", out]
    code, printed, errors = call("crossval", scored_log, *options)
    assert code == 0, errors
    metrics = json.loads((out / "metrics.json").read_text())
    names = [row["name"] for row in metrics["rows"]]
    baselines = ["keyword_heuristic", "length", "constant", "shuffled_decisions", "tfidf_lr"]
    assert names == ["classifier", *baselines, "knn", "domain_prior", "oracle"]
    assert sum(metrics["chosen"].values()) == 3
    assert metrics["n"]["evaluated"] == metrics["n"]["usable"]
    scores = pq.read_table(out / "out_of_fold.parquet").to_pydict()
    assert len(scores["id"]) == metrics["n"]["evaluated"]
    assert set(scores["fold"]) == {0, 1, 2}
    assert "nested cross-validation by group, 3 folds" in printed
