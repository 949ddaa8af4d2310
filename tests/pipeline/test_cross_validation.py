"""Nested cross-validation of a log: its metrics, its baselines, its files."""

import json

import numpy as np
import pyarrow.parquet as pq

from querytier.pipeline.cross_validation import nested_evaluation
from querytier.pipeline.params import EvaluateParams, Params, TrainParams
from querytier.training.learners import LinearLearner
from querytier.training.recipes import Recipe
from training_rows import rows_with_gain

RECIPE = Recipe((LinearLearner(("minilm",), 1.0),), "gain")


def test_given_folds_are_the_outer_folds():
    labelled = rows_with_gain(180)
    thirds = [np.arange(180) // 60 == third for third in range(3)]
    params = Params(
        train=TrainParams(folds=3, regularisation=(1.0,)), evaluate=EvaluateParams(bootstrap=100)
    )
    evaluation, found = nested_evaluation(labelled, [RECIPE], params, masks=thirds)
    np.testing.assert_array_equal(found.masks, thirds)
    assert evaluation.row("classifier").fitted_on == "3 given folds"
    assert evaluation.row("knn").fitted_on == "3 given folds"
    assert evaluation.row("classifier").apgr.low > 0.5


def test_crossval_writes_metrics_and_a_score_for_every_row(scored_log, scored_map, tmp_path, call):
    params = tmp_path / "params.yaml"
    params.write_text("train: {budget: quick, regularisation: [0.1]}\nevaluate: {bootstrap: 100}\n")
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
