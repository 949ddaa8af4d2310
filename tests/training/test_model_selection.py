"""Model selection: candidates on the same folds, and which of them is chosen."""

from dataclasses import replace

import numpy as np
import pytest

from querytier.classifier.model.head import Heads
from querytier.errors import UsageError
from querytier.eval.intervals import undefined
from querytier.training.baselines import LabelledFeatures
from querytier.training.cross_validation import Candidate, metric_for
from querytier.training.learners import LinearLearner
from querytier.training.model_selection import choose, cross_validate
from querytier.training.recipes import Recipe
from training_rows import labelled_rows, scored_rows


def linear(regularisation, ranks_by="gain", block="minilm"):
    return Recipe((LinearLearner((block,), regularisation),), ranks_by)


RECIPE = linear(0.1)


def test_apgr_is_the_metric_if_there_is_a_gap():
    rows = scored_rows(300).examples
    assert metric_for(rows) == "apgr"
    assert metric_for(replace(rows, frontier_score=rows.cheap_score)) == "auroc"
    assert metric_for(labelled_rows(30).examples) == "auroc"


def candidate(name, values, recipe=RECIPE):
    unknown = undefined("not needed")
    return Candidate(name, recipe, unknown, unknown, np.array(values), np.empty(0), 0.0)


FAR = candidate("far", [0.50, 0.52, 0.51])
NEAR = candidate("near", [0.69, 0.70, 0.68])
BASELINE = candidate("baseline", [0.99, 0.99, 0.99], None)


def test_the_first_within_one_standard_error_is_chosen():
    noisy = candidate("best", [0.66, 0.70, 0.74])
    assert choose([FAR, NEAR, noisy, BASELINE]).name == "near"
    sure = candidate("sure", [0.72, 0.72, 0.73])
    assert choose([FAR, NEAR, sure, BASELINE]).name == "sure"


def test_a_difference_in_every_fold_counts():
    low, high = candidate("low", [0.50, 0.60, 0.70]), candidate("high", [0.52, 0.62, 0.72])
    assert choose([low, high]).name == "high"


def test_a_named_candidate_is_chosen_whatever_its_rank():
    assert choose([FAR, NEAR, BASELINE], "far").name == "far"
    with pytest.raises(UsageError, match=r"'baseline', which is not one of .*: far, near"):
        choose([FAR, NEAR, BASELINE], "baseline")


def test_stacks_are_means_of_the_best_of_each_family():
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
