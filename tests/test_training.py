"""Laws of fitting, calibration, choosing and the learned baselines."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.classifier.head import LinearHead
from querytier.data.example import example_from
from querytier.data.examples import Examples
from querytier.data.labelling import LabelRules
from querytier.errors import TrainingError
from querytier.eval.bootstrap import undefined
from querytier.training.baselines import LEARNED_BASELINES, Labelled, cross_fitted, group_folds
from querytier.training.candidates import Candidate, choose, metric_for
from querytier.training.fitted import Fitted, fit_classifier, threshold_for
from querytier.training.fitting import check_both_classes, fit_gain_head, fit_head, fit_platt
from querytier.training.recipes import Recipe, recipes_for


def labelled_rows(count, seed=0, role="train"):
    """Rows whose need follows from the first coordinate of their embedding, with noise."""
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(count, 4)).astype(np.float32)
    need = (embeddings[:, 0] + random.normal(size=count) > 0.7).astype(float)
    roles = [role] * count if isinstance(role, str) else role
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
            role=roles[n],
        )
        for n in range(count)
    ]
    return Labelled(Examples.of(rows), {"minilm": embeddings})


BY_LABEL = [Recipe(("minilm",), "p_frontier", c) for c in (0.1, 1.0)]
BY_GAIN = [Recipe(("minilm",), "gain", 1.0)]


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
    return Labelled(examples, rows.blocks)


def test_the_gain_head_ranks_by_expected_gain_and_knows_where_the_cheap_answer_is_better():
    rows = scored_rows(400)
    gains = rows.examples.frontier_score - rows.examples.cheap_score
    head = fit_gain_head(rows.embeddings, gains, np.ones(400), 10.0)
    found = head.gain(rows.embeddings)
    assert found.mean() == pytest.approx(gains.mean(), abs=0.02)
    assert found[gains < 0].mean() < found[gains == 0].mean() < found[gains > 0].mean()
    assert found[gains < 0].mean() < 0 < found[gains > 0].mean()


@pytest.mark.parametrize("unit", [0.1, 3, 100])
def test_the_unit_of_the_scores_does_not_matter_to_the_gain_head(unit):
    rows = scored_rows(60)
    gains = rows.examples.frontier_score - rows.examples.cheap_score
    one, other = (
        fit_gain_head(rows.embeddings, gains * factor, np.ones(60), 1.0) for factor in (1.0, unit)
    )
    np.testing.assert_allclose(one.gain(rows.embeddings), other.gain(rows.embeddings), atol=1e-3)


def test_without_a_row_on_which_the_cheap_answer_is_better_the_gain_is_a_probability():
    rows = scored_rows(200)
    gains = np.maximum(rows.examples.frontier_score - rows.examples.cheap_score, 0)
    head = fit_gain_head(rows.embeddings, gains, np.ones(200), 1.0)
    binary = fit_head(rows.embeddings, gains, np.ones(200), 1.0)
    np.testing.assert_allclose(
        head.gain(rows.embeddings), binary.p_frontier(rows.embeddings), atol=1e-3
    )


def test_rows_of_one_gain_only_are_a_training_error():
    rows = labelled_rows(20)
    with pytest.raises(TrainingError, match="all 20 rows have the same gain, 1"):
        fit_gain_head(rows.embeddings, np.ones(20), np.ones(20), 1.0)


def test_a_gap_to_recover_is_what_apgr_chooses_by():
    rows = scored_rows(300).examples
    assert metric_for(rows) == "apgr"
    assert metric_for(replace(rows, frontier_score=rows.cheap_score)) == "auroc"
    assert metric_for(labelled_rows(30).examples) == "auroc"


def test_recipes_by_gain_come_where_every_row_has_scores_and_fewer_features_come_first():
    choices = [("minilm",), ("minilm", "surface")]
    names = [r.name for r in recipes_for(scored_rows(4).examples, choices, (1.0, 0.1))]
    assert names[:3] == ["minilm_gain_C0.1", "minilm_gain_C1", "minilm_lr_C0.1"]
    assert names[4] == "minilm+surface_gain_C0.1"
    unscored = recipes_for(labelled_rows(4).examples, choices, (1.0,))
    assert [recipe.ranks_by for recipe in unscored] == ["p_frontier"] * 2


def test_a_soft_label_is_the_same_as_hard_rows_in_its_proportion():
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(40, 3)).astype(np.float32)
    soft = random.choice([0.0, 0.25, 0.5, 1.0], size=40)
    head = fit_head(embeddings, soft, np.full(40, 4.0), 1.0)
    times = np.stack([soft * 4, 4 - soft * 4], axis=1).astype(int).ravel()
    hard = np.repeat(np.tile([1.0, 0.0], 40), times)
    copies = np.repeat(np.repeat(embeddings, 2, axis=0), times, axis=0)
    again = fit_head(copies, hard, np.ones(len(hard)), 1.0)
    np.testing.assert_allclose(head.coefficients, again.coefficients, atol=1e-3)
    assert head.intercept == pytest.approx(again.intercept, abs=1e-3)


def test_stronger_regularisation_gives_smaller_coefficients():
    rows = labelled_rows(200)
    labels, weights = rows.examples.needs_frontier, rows.examples.weight
    norms = [
        np.linalg.norm(fit_head(rows.embeddings, labels, weights, c).coefficients)
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
    head = LinearHead(np.ones(1), 0.0).calibrated(slope, offset)
    scores = head.p_frontier(logits[:, np.newaxis].astype(np.float32))
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


def candidate(name, c, values):
    unknown, recipe = undefined("not needed"), c and Recipe((name,), "p_frontier", c)
    return Candidate(name, recipe, unknown, unknown, np.array(values), np.empty(0), 0.0)


def test_the_first_within_one_standard_error_of_the_best_is_chosen():
    far = candidate("far", 0.01, [0.50, 0.52, 0.51])
    near = candidate("near", 0.1, [0.69, 0.70, 0.68])
    best = candidate("best", 1.0, [0.66, 0.70, 0.74])
    baseline = candidate("baseline", None, [0.99, 0.99, 0.99])
    assert choose([far, near, best, baseline]).name == "near"
    sure = candidate("sure", 1.0, [0.72, 0.72, 0.73])
    assert choose([far, near, sure, baseline]).name == "sure"


def test_folds_hold_out_every_row_once_and_groups_whole():
    rows = labelled_rows(60).examples
    masks = group_folds(rows, 5, seed=0)
    assert (np.sum(masks, axis=0) == 1).all()
    for mask in masks:
        assert not set(rows.group[mask]) & set(rows.group[~mask])


def test_fewer_groups_than_folds_is_a_training_error():
    with pytest.raises(TrainingError, match="2 groups do not make 5 folds"):
        group_folds(labelled_rows(4).examples, 5, seed=0)


@pytest.mark.parametrize("name", LEARNED_BASELINES)
def test_a_baseline_gives_every_row_a_probability_and_never_sees_its_label(name):
    rows = labelled_rows(60)
    masks = group_folds(rows.examples, 3, seed=0)
    scores = cross_fitted(LEARNED_BASELINES[name], rows, masks)
    assert ((scores >= 0) & (scores <= 1)).all()
    rows.examples.needs_frontier[masks[0]] = 1 - rows.examples.needs_frontier[masks[0]]
    again = cross_fitted(LEARNED_BASELINES[name], rows, masks)
    np.testing.assert_array_equal(again[masks[0]], scores[masks[0]])


def test_few_rows_are_calibrated_on_out_of_fold_log_odds():
    rows = labelled_rows(200)
    fitted = fit_classifier(rows, recipes=BY_LABEL, folds=4, target_frontier_rate=0.3, seed=0)
    assert fitted.calibration.rows == "train (out of fold)"
    probabilities = fitted.heads.need.p_frontier(rows.embeddings)
    assert probabilities.mean() == pytest.approx(rows.examples.needs_frontier.mean(), abs=0.03)
    names = {record["name"] for record in fitted.candidates}
    assert names == {"minilm_lr_C0.1", "minilm_lr_C1", *LEARNED_BASELINES}


def test_many_rows_are_calibrated_on_their_own_role_and_no_other_rows_are_looked_at():
    roles = ["train", "train", "calibration", "test", "certification"] * 80
    rows = labelled_rows(400, role=roles)
    settings = {"recipes": BY_LABEL[:1], "folds": 4, "target_frontier_rate": 0.3, "seed": 0}
    fitted = fit_classifier(rows, **settings)
    assert fitted.calibration.rows == "calibration"
    assert fitted.calibration.n == 80
    hidden = np.isin(rows.examples.role.astype(str), ["test", "certification"])
    rows.examples.needs_frontier[hidden] = 1 - rows.examples.needs_frontier[hidden]
    again = fit_classifier(rows, **settings)
    np.testing.assert_array_equal(again.heads.need.coefficients, fitted.heads.need.coefficients)
    assert again.threshold == fitted.threshold


def test_a_fitted_classifier_comes_back_from_its_folder_as_it_was(tmp_path):
    fitted = fit_classifier(
        scored_rows(120), recipes=BY_GAIN, folds=3, target_frontier_rate=0.2, seed=0
    )
    fitted.write(tmp_path)
    again = Fitted.read(tmp_path)
    np.testing.assert_array_equal(again.heads.need.coefficients, fitted.heads.need.coefficients)
    np.testing.assert_array_equal(again.heads.gain.coefficients, fitted.heads.gain.coefficients)
    kept = ("threshold", "calibration", "recipe", "metric")
    assert all(getattr(again, name) == getattr(fitted, name) for name in kept)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_only_is_a_training_error(label):
    with pytest.raises(TrainingError, match="all 5 rows of the train role"):
        check_both_classes(np.full(5, label), "train")
