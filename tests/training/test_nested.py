"""Nested cross-validation: no row takes part in its own prediction."""

from dataclasses import replace

import numpy as np
import pytest

from querytier.training.baselines import LabelledFeatures
from querytier.training.fit import FitSettings
from querytier.training.learners import LinearLearner
from querytier.training.nested import nested_cross_validation
from querytier.training.recipes import Recipe
from training_rows import rows_with_gain

RECIPES = [Recipe((LinearLearner(("minilm",), c),), "gain") for c in (0.1, 1.0)]


@pytest.fixture(scope="module")
def labelled():
    return rows_with_gain(180)


@pytest.fixture(scope="module")
def predictions(labelled):
    return nested(labelled)


def nested(labelled, **others):
    return nested_cross_validation(labelled, RECIPES, FitSettings(3, 0.3, 0), **others)


def test_every_row_is_predicted_and_every_fold_chooses(predictions):
    assert np.isfinite(predictions.decision_scores).all()
    assert ((predictions.p_frontier >= 0) & (predictions.p_frontier <= 1)).all()
    assert predictions.chosen.total() == 3
    assert set(predictions.chosen) <= {recipe.name for recipe in RECIPES}
    assert 0.1 < predictions.to_frontier.mean() < 0.6


def test_the_outcomes_of_a_fold_change_no_prediction_for_it(labelled, predictions):
    held_out = predictions.masks[1]
    examples = labelled.examples
    other = replace(
        examples,
        needs_frontier=np.where(held_out, 1 - examples.needs_frontier, examples.needs_frontier),
        frontier_score=np.where(held_out, 1 - examples.frontier_score, examples.frontier_score),
    )
    again = nested(LabelledFeatures(other, labelled.blocks), masks=predictions.masks)
    for name in ("decision_scores", "p_frontier", "to_frontier"):
        before, after = getattr(predictions, name), getattr(again, name)
        np.testing.assert_array_equal(after[held_out], before[held_out])
    assert not np.array_equal(again.decision_scores, predictions.decision_scores)
