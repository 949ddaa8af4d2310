"""Fitting a classifier: its calibration, its threshold, and its files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.classifier.model.calibrator import Calibrator
from querytier.training.baselines import LEARNED_BASELINES, LabelledFeatures
from querytier.training.calibration import fit_platt
from querytier.training.fit import FitSettings, FittedClassifier, fit_classifier, threshold_for
from querytier.training.learners import BoostedTrees, LinearLearner, MlpLearner
from querytier.training.recipes import Recipe, recipes_of
from training_rows import labelled_rows, scored_rows


def linear(regularisation, ranks_by="gain", block="minilm"):
    return Recipe((LinearLearner((block,), regularisation),), ranks_by)


BY_LABEL = [linear(c, "p_frontier") for c in (0.1, 1.0)]


BY_GAIN = [linear(1.0)]


def test_without_signal_every_query_goes_to_the_frontier_tier():
    logits = np.linspace(-2, 2, 100)
    against_the_head = (logits < 0).astype(float)
    slope, offset = fit_platt(logits, against_the_head, np.ones(100))
    assert slope == 0.0
    scores = 1 / (1 + np.exp(-Calibrator(slope, slope, offset).logits(logits)))
    assert scores == pytest.approx(np.full(100, 0.5))
    assert (scores >= threshold_for(scores, 0.3)).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50, unique=True), st.floats(0.01, 0.99))
def test_the_threshold_sends_about_the_target_share(scores, rate):
    scores = np.round(np.array(scores), 3)
    threshold = threshold_for(scores, rate)
    above = (scores > threshold + 1e-4).mean()
    at_least = (scores >= threshold).mean()
    assert above <= rate + 1 / len(scores)
    assert at_least >= min(rate, 1 / len(scores)) - 1 / len(scores)
    assert at_least > 0


def test_without_a_calibration_split_log_odds_are_out_of_fold():
    rows = labelled_rows(200)
    fitted = fit_classifier(rows, BY_LABEL, FitSettings(4, 0.3, 0))
    assert fitted.calibration.rows == "train (out of fold)"
    probabilities = fitted.heads.p_frontier(rows.blocks)
    assert probabilities.mean() == pytest.approx(rows.examples.needs_frontier.mean(), abs=0.03)
    names = {record["name"] for record in fitted.candidates}
    assert names == {"minilm_C0.1_by_need", "minilm_C1_by_need", *LEARNED_BASELINES}


def test_test_and_certification_rows_change_nothing():
    splits = ["train", "train", "calibration", "test", "certification"] * 80
    rows = labelled_rows(400, split=splits)
    fitted = fit_classifier(rows, BY_LABEL[:1], FitSettings(4, 0.3, 0))
    assert fitted.calibration.rows == "calibration"
    assert fitted.calibration.n == 80
    hidden = np.isin(rows.examples.split.astype(str), ["test", "certification"])
    rows.examples.needs_frontier[hidden] = 1 - rows.examples.needs_frontier[hidden]
    again = fit_classifier(rows, BY_LABEL[:1], FitSettings(4, 0.3, 0))
    one, other = (it.heads.p_frontier(rows.blocks) for it in (again, fitted))
    np.testing.assert_array_equal(one, other)
    assert again.threshold == fitted.threshold


@pytest.mark.parametrize(
    "recipe",
    [
        BY_GAIN[0],
        Recipe((BoostedTrees(("minilm",), iterations=5, rows_per_leaf=5),), "gain"),
        Recipe((MlpLearner(("minilm",), 4), LinearLearner(("minilm",), 0.1)), "p_frontier"),
    ],
)
def test_a_fitted_classifier_is_read_back_unchanged(tmp_path, recipe):
    rows = scored_rows(120)
    fitted = fit_classifier(rows, [recipe], FitSettings(3, 0.2, 0))
    fitted.write(tmp_path)
    again = FittedClassifier.read(tmp_path)
    for say in ("p_frontier", "decision_scores"):
        one, other = (getattr(it.heads, say)(rows.blocks) for it in (again, fitted))
        np.testing.assert_array_equal(one, other)
    kept = ("threshold", "calibration", "recipe", "metric")
    assert all(getattr(again, name) == getattr(fitted, name) for name in kept)


def test_equal_features_give_every_query_the_same_score():
    rows = scored_rows(200)
    blank = LabelledFeatures(rows.examples, {"minilm": np.zeros_like(rows.embeddings)})
    learners = (LinearLearner(("minilm",), 0.1), BoostedTrees(("minilm",), iterations=5))
    recipes = recipes_of(rows.examples, learners)
    fitted = fit_classifier(blank, recipes, FitSettings(3, 0.3, 0))
    assert np.ptp(fitted.heads.p_frontier(blank.blocks)) < 1e-9
    rate = rows.examples.needs_frontier.mean()
    assert fitted.heads.p_frontier(blank.blocks)[0] == pytest.approx(rate, abs=0.05)
    scores = fitted.heads.decision_scores(blank.blocks)
    assert (scores >= fitted.threshold).mean() in (0.0, 1.0)
