"""Laws of fitting, calibration, choosing and the learned baselines."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.classifier.model.calibrator import Calibrator
from querytier.classifier.model.head import Heads, gain_of
from querytier.data.example import example_from
from querytier.data.examples import Examples
from querytier.data.labelling import LabelRules
from querytier.errors import TrainingError, UsageError
from querytier.eval.intervals import undefined
from querytier.training.baselines import LEARNED_BASELINES, LabelledFeatures
from querytier.training.calibration import fit_platt
from querytier.training.cross_validation import Candidate, metric_for
from querytier.training.fit import FitSettings, FittedClassifier, fit_classifier, threshold_for
from querytier.training.folds import group_folds, out_of_fold_scores
from querytier.training.learners import BoostedTrees, LinearLearner, MlpLearner
from querytier.training.linear_models import (
    check_both_classes,
    fit_linear,
    gain_rows,
    soft_rows,
)
from querytier.training.model_selection import choose, cross_validate
from querytier.training.recipes import Recipe, recipe_from, recipes_of


def labelled_rows(count, seed=0, split="train"):
    """Rows whose need follows from the first coordinate of their embedding, with noise."""
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(count, 4)).astype(np.float32)
    need = (embeddings[:, 0] + random.normal(size=count) > 0.7).astype(float)
    splits = [split] * count if isinstance(split, str) else split
    rows = [
        replace(
            example_from(
                {
                    "query": f"word{n % 7} number {n}",
                    "needs_frontier": need[n],
                    "group": f"g{n // 2}",
                    "domain": f"d{n % 3}",
                },
                LabelRules(),
                str(n),
            ),
            split=splits[n],
        )
        for n in range(count)
    ]
    return LabelledFeatures(Examples.of(rows), {"minilm": embeddings})


def linear(regularisation, ranks_by="gain", block="minilm"):
    return Recipe((LinearLearner((block,), regularisation),), ranks_by)


BY_LABEL = [linear(c, "p_frontier") for c in (0.1, 1.0)]
BY_GAIN = [linear(1.0)]


def scored_rows(count, seed=0):
    """Rows on which the one model is better at one end of a coordinate, the other at the other."""
    rows = labelled_rows(count, seed)
    first = rows.embeddings[:, 0].astype(float)
    frontier = (first > -1.2).astype(float)
    cheap = (first < 0.7).astype(float)
    examples = replace(
        rows.examples,
        cheap_score=cheap,
        frontier_score=frontier,
        needs_frontier=((cheap < 0.5) & (frontier >= 0.5)).astype(float),
    )
    return LabelledFeatures(examples, rows.blocks)


def test_the_gain_head_ranks_by_expected_gain_and_knows_where_the_cheap_answer_is_better():
    rows = scored_rows(400)
    gains = rows.examples.frontier_score - rows.examples.cheap_score
    net = fit_linear(rows.embeddings, gain_rows(gains, np.ones(400)), 3, 10.0)
    found = gain_of(net.outputs(rows.embeddings))
    assert found.mean() == pytest.approx(gains.mean(), abs=0.02)
    assert found[gains < 0].mean() < found[gains == 0].mean() < found[gains > 0].mean()
    assert found[gains < 0].mean() < 0 < found[gains > 0].mean()


@pytest.mark.parametrize("unit", [0.1, 3, 100])
def test_the_unit_of_the_scores_does_not_matter_to_the_gain_head(unit):
    rows = scored_rows(60)
    gains = rows.examples.frontier_score - rows.examples.cheap_score
    one, other = (
        fit_linear(rows.embeddings, gain_rows(gains * factor, np.ones(60)), 3, 1.0)
        for factor in (1.0, unit)
    )
    np.testing.assert_allclose(one.weights, other.weights, atol=0.01)


def test_without_a_row_on_which_the_cheap_answer_is_better_the_gain_is_a_probability():
    rows = scored_rows(200)
    gains = np.maximum(rows.examples.frontier_score - rows.examples.cheap_score, 0)
    net = fit_linear(rows.embeddings, gain_rows(gains, np.ones(200)), 3, 1.0)
    binary = fit_linear(rows.embeddings, soft_rows(gains, np.ones(200)), 2, 1.0)
    expected = 1 / (1 + np.exp(-binary.outputs(rows.embeddings)[:, 0]))
    np.testing.assert_allclose(gain_of(net.outputs(rows.embeddings)), expected, atol=1e-3)


def test_rows_of_one_gain_only_are_a_training_error():
    with pytest.raises(TrainingError, match="all 20 rows have the same gain, 1"):
        gain_rows(np.ones(20), np.ones(20))


def test_a_gap_to_recover_is_what_apgr_chooses_by():
    rows = scored_rows(300).examples
    assert metric_for(rows) == "apgr"
    assert metric_for(replace(rows, frontier_score=rows.cheap_score)) == "auroc"
    assert metric_for(labelled_rows(30).examples) == "auroc"


def test_recipes_rank_by_gain_where_there_is_a_gap_and_else_by_need():
    learners = [LinearLearner(("minilm",), 1.0), LinearLearner(("minilm", "minilm-surface"), 1.0)]
    names = [recipe.name for recipe in recipes_of(scored_rows(300).examples, learners)]
    assert names == ["minilm_C1_by_gain", "minilm+surface_C1_by_gain"]
    unscored = recipes_of(labelled_rows(4).examples, learners)
    assert [recipe.ranks_by for recipe in unscored] == ["p_frontier"] * 2


@pytest.mark.parametrize(
    "learner", [LinearLearner(("a",), 0.1), BoostedTrees(("a", "a-surface")), MlpLearner(("a",), 8)]
)
def test_a_recipe_comes_back_from_its_record(learner):
    recipe = Recipe((learner, LinearLearner(("a",), 0.3)), "gain")
    assert recipe_from(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_soft_label_is_the_same_as_hard_rows_in_its_proportion():
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(40, 3)).astype(np.float32)
    soft = random.choice([0.0, 0.25, 0.5, 1.0], size=40)
    net = fit_linear(embeddings, soft_rows(soft, np.full(40, 4.0)), 2, 1.0)
    times = np.stack([soft * 4, 4 - soft * 4], axis=1).astype(int).ravel()
    hard = np.repeat(np.tile([1.0, 0.0], 40), times)
    copies = np.repeat(np.repeat(embeddings, 2, axis=0), times, axis=0)
    again = fit_linear(copies, soft_rows(hard, np.ones(len(hard))), 2, 1.0)
    np.testing.assert_allclose(net.weights, again.weights, atol=0.01)
    np.testing.assert_allclose(net.bias, again.bias, atol=0.01)


def test_the_scale_of_a_feature_does_not_matter_to_a_linear_learner():
    rows = labelled_rows(200)
    hard = soft_rows(rows.examples.needs_frontier, rows.examples.weight)
    stretched = rows.embeddings * np.array([1, 100, 0.01, 1], np.float32) + np.float32(3)
    one, other = fit_linear(rows.embeddings, hard, 2, 0.1), fit_linear(stretched, hard, 2, 0.1)
    np.testing.assert_allclose(one.outputs(rows.embeddings), other.outputs(stretched), atol=1e-3)


def test_stronger_regularisation_gives_smaller_coefficients():
    rows = labelled_rows(200)
    labels, weights = rows.examples.needs_frontier, rows.examples.weight
    norms = [
        np.linalg.norm(fit_linear(rows.embeddings, soft_rows(labels, weights), 2, c).weights)
        for c in (0.01, 0.1, 1.0)
    ]
    assert norms == sorted(norms)


@given(st.floats(0.3, 3), st.floats(-2, 2))
def test_platt_scaling_recovers_the_slope_and_offset_that_made_the_labels(slope, offset):
    logits = np.linspace(-4, 4, 4001)
    soft = 1 / (1 + np.exp(-(slope * logits + offset)))
    found = fit_platt(logits, soft, np.ones(4001))
    assert found == pytest.approx((slope, offset), rel=0.05, abs=0.02)


def test_without_signal_every_query_gets_the_same_probability_and_goes_to_the_frontier_tier():
    logits = np.linspace(-2, 2, 100)
    against_the_head = (logits < 0).astype(float)
    slope, offset = fit_platt(logits, against_the_head, np.ones(100))
    assert slope == 0.0
    scores = 1 / (1 + np.exp(-Calibrator(slope, slope, offset).logits(logits)))
    assert scores == pytest.approx(np.full(100, 0.5))
    assert (scores >= threshold_for(scores, 0.3)).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50, unique=True), st.floats(0.01, 0.99))
def test_the_threshold_sends_about_the_target_share_to_the_frontier_tier(scores, rate):
    scores = np.round(np.array(scores), 3)
    threshold = threshold_for(scores, rate)
    above = (scores > threshold + 1e-4).mean()
    at_least = (scores >= threshold).mean()
    assert above <= rate + 1 / len(scores)
    assert at_least >= min(rate, 1 / len(scores)) - 1 / len(scores)
    assert at_least > 0


def candidate(name, values, recipe=BY_LABEL[0]):
    unknown = undefined("not needed")
    return Candidate(name, recipe, unknown, unknown, np.array(values), np.empty(0), 0.0)


FAR = candidate("far", [0.50, 0.52, 0.51])
NEAR = candidate("near", [0.69, 0.70, 0.68])
BASELINE = candidate("baseline", [0.99, 0.99, 0.99], None)


def test_the_first_within_one_standard_error_of_the_best_is_chosen():
    noisy = candidate("best", [0.66, 0.70, 0.74])
    assert choose([FAR, NEAR, noisy, BASELINE]).name == "near"
    sure = candidate("sure", [0.72, 0.72, 0.73])
    assert choose([FAR, NEAR, sure, BASELINE]).name == "sure"


def test_a_difference_that_every_fold_shows_counts_however_much_the_folds_differ():
    low, high = candidate("low", [0.50, 0.60, 0.70]), candidate("high", [0.52, 0.62, 0.72])
    assert choose([low, high]).name == "high"


def test_the_candidate_that_is_named_is_chosen_whatever_its_rank():
    assert choose([FAR, NEAR, BASELINE], "far").name == "far"
    with pytest.raises(UsageError, match=r"'baseline', which is none of .*: far, near"):
        choose([FAR, NEAR, BASELINE], "baseline")


def test_stacks_are_the_mean_of_the_best_learner_of_each_family():
    rows = scored_rows(120)
    random = np.random.default_rng(1)
    terms = random.normal(size=(120, 3)).astype(np.float32)
    rows = LabelledFeatures(rows.examples, {**rows.blocks, "minilm-terms": terms})
    singles = [linear(0.1), linear(1.0), linear(0.5, block="minilm-terms")]
    found = cross_validate(rows, singles, folds=3, seed=0, baselines={})
    stack = found[-1]
    assert [one.name for one in found[:3]] == [recipe.name for recipe in singles]
    assert stack.name == "minilm_stack_linear+terms_by_gain"
    best = max(found[:2], key=lambda one: one.mean)
    assert stack.recipe.learners == (best.recipe.learners[0], singles[2].learners[0])
    np.testing.assert_allclose(stack.scores, (best.scores + found[2].scores) / 2)
    heads = stack.recipe.fit(rows)
    parts = [Heads((member,), "gain").decision_scores(rows.blocks) for member in heads.members]
    np.testing.assert_allclose(heads.decision_scores(rows.blocks), np.mean(parts, axis=0))


def test_folds_hold_out_every_row_once_and_groups_whole():
    rows = labelled_rows(60).examples
    masks = group_folds(rows, 5, seed=0)
    assert (np.sum(masks, axis=0) == 1).all()
    for mask in masks:
        assert not set(rows.group[mask]) & set(rows.group[~mask])


def test_fewer_groups_than_folds_is_a_training_error():
    with pytest.raises(TrainingError, match="2 groups are too few for 5 folds"):
        group_folds(labelled_rows(4).examples, 5, seed=0)


@pytest.mark.parametrize("name", LEARNED_BASELINES)
def test_a_baseline_gives_every_row_a_probability_and_never_sees_its_label(name):
    rows = labelled_rows(60)
    masks = group_folds(rows.examples, 3, seed=0)
    scores = out_of_fold_scores(LEARNED_BASELINES[name], rows, masks)
    assert ((scores >= 0) & (scores <= 1)).all()
    rows.examples.needs_frontier[masks[0]] = 1 - rows.examples.needs_frontier[masks[0]]
    again = out_of_fold_scores(LEARNED_BASELINES[name], rows, masks)
    np.testing.assert_array_equal(again[masks[0]], scores[masks[0]])


def test_few_rows_are_calibrated_on_out_of_fold_log_odds():
    rows = labelled_rows(200)
    fitted = fit_classifier(rows, BY_LABEL, FitSettings(4, 0.3, 0))
    assert fitted.calibration.rows == "train (out of fold)"
    probabilities = fitted.heads.p_frontier(rows.blocks)
    assert probabilities.mean() == pytest.approx(rows.examples.needs_frontier.mean(), abs=0.03)
    names = {record["name"] for record in fitted.candidates}
    assert names == {"minilm_C0.1_by_need", "minilm_C1_by_need", *LEARNED_BASELINES}


def test_many_rows_are_calibrated_on_their_own_split_and_no_other_rows_are_looked_at():
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
def test_a_fitted_classifier_comes_back_from_its_folder_as_it_was(tmp_path, recipe):
    rows = scored_rows(120)
    fitted = fit_classifier(rows, [recipe], FitSettings(3, 0.2, 0))
    fitted.write(tmp_path)
    again = FittedClassifier.read(tmp_path)
    for say in ("p_frontier", "decision_scores"):
        one, other = (getattr(it.heads, say)(rows.blocks) for it in (again, fitted))
        np.testing.assert_array_equal(one, other)
    kept = ("threshold", "calibration", "recipe", "metric")
    assert all(getattr(again, name) == getattr(fitted, name) for name in kept)


def test_where_nothing_tells_queries_apart_all_get_one_score_and_go_to_the_frontier_tier():
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


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_only_is_a_training_error(label):
    with pytest.raises(TrainingError, match="all 5 rows of the train split"):
        check_both_classes(np.full(5, label), "train")
