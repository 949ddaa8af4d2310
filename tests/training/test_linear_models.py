"""Linear models and the soft labels that they are fitted on."""

import numpy as np
import pytest

from querytier.classifier.model.head import gain_of
from querytier.errors import TrainingError
from querytier.training.linear_models import check_both_classes, fit_linear, gain_rows, soft_rows
from training_rows import labelled_rows, scored_rows


def test_the_gain_head_estimates_the_expected_gain():
    rows = scored_rows(400)
    gains = rows.examples.frontier_score - rows.examples.cheap_score
    net = fit_linear(rows.embeddings, gain_rows(gains, np.ones(400)), 3, 10.0)
    found = gain_of(net.outputs(rows.embeddings))
    assert found.mean() == pytest.approx(gains.mean(), abs=0.02)
    assert found[gains < 0].mean() < found[gains == 0].mean() < found[gains > 0].mean()
    assert found[gains < 0].mean() < 0 < found[gains > 0].mean()


@pytest.mark.parametrize("unit", [0.1, 3, 100])
def test_the_unit_of_the_scores_does_not_change_the_gain_head(unit):
    rows = scored_rows(60)
    gains = rows.examples.frontier_score - rows.examples.cheap_score
    one, other = (
        fit_linear(rows.embeddings, gain_rows(gains * factor, np.ones(60)), 3, 1.0)
        for factor in (1.0, unit)
    )
    np.testing.assert_allclose(one.weights, other.weights, atol=0.01)


def test_the_gain_is_a_probability_if_cheap_is_never_better():
    rows = scored_rows(200)
    gains = np.maximum(rows.examples.frontier_score - rows.examples.cheap_score, 0)
    net = fit_linear(rows.embeddings, gain_rows(gains, np.ones(200)), 3, 1.0)
    binary = fit_linear(rows.embeddings, soft_rows(gains, np.ones(200)), 2, 1.0)
    expected = 1 / (1 + np.exp(-binary.outputs(rows.embeddings)[:, 0]))
    np.testing.assert_allclose(gain_of(net.outputs(rows.embeddings)), expected, atol=1e-3)


def test_rows_with_only_one_gain_are_refused():
    with pytest.raises(TrainingError, match="all 20 rows have the same gain, 1"):
        gain_rows(np.ones(20), np.ones(20))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_rows_of_only_one_class_are_refused(label):
    with pytest.raises(TrainingError, match="all 5 rows of the train split"):
        check_both_classes(np.full(5, label), "train")


def test_a_soft_label_equals_hard_rows_in_proportion():
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


def test_the_scale_of_a_feature_changes_no_linear_fit():
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
