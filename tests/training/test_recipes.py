"""Recipes: their names, their ranking, and their form as JSON."""

import json

import pytest

from querytier.training.learners import BoostedTrees, LinearLearner, MlpLearner
from querytier.training.recipes import Recipe, recipe_from, recipes_of
from training_rows import labelled_rows, scored_rows


def test_recipes_rank_by_gain_if_there_is_a_gap_else_by_need():
    learners = [LinearLearner(("minilm",), 1.0), LinearLearner(("minilm", "minilm-surface"), 1.0)]
    names = [recipe.name for recipe in recipes_of(scored_rows(300).examples, learners)]
    assert names == ["minilm_C1_by_gain", "minilm+surface_C1_by_gain"]
    unscored = recipes_of(labelled_rows(4).examples, learners)
    assert [recipe.ranks_by for recipe in unscored] == ["p_frontier"] * 2


@pytest.mark.parametrize(
    "learner", [LinearLearner(("a",), 0.1), BoostedTrees(("a", "a-surface")), MlpLearner(("a",), 8)]
)
def test_a_recipe_is_read_back_from_json(learner):
    recipe = Recipe((learner, LinearLearner(("a",), 0.3)), "gain")
    assert recipe_from(json.loads(json.dumps(recipe.to_dict()))) == recipe
