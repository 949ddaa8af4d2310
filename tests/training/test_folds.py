"""Folds by group, and the scores that baselines reach on them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.errors import TrainingError
from querytier.training.baselines import LEARNED_BASELINES
from querytier.training.folds import (
    group_folds,
    out_of_fold_scores,
    rank_within_folds,
    within_one_standard_error,
)
from training_rows import labelled_rows


def test_folds_hold_out_every_row_once_and_no_part_of_a_group():
    rows = labelled_rows(60).examples
    masks = group_folds(rows, 5, seed=0)
    assert (np.sum(masks, axis=0) == 1).all()
    for mask in masks:
        assert not set(rows.group[mask]) & set(rows.group[~mask])


def test_fewer_groups_than_folds_are_refused():
    with pytest.raises(TrainingError, match="2 groups are too few for 5 folds"):
        group_folds(labelled_rows(4).examples, 5, seed=0)


@pytest.mark.parametrize("name", LEARNED_BASELINES)
def test_a_baseline_never_sees_the_label_of_a_row_it_scores(name):
    rows = labelled_rows(60)
    masks = group_folds(rows.examples, 3, seed=0)
    scores = out_of_fold_scores(LEARNED_BASELINES[name], rows, masks)
    assert ((scores >= 0) & (scores <= 1)).all()
    rows.examples.needs_frontier[masks[0]] = 1 - rows.examples.needs_frontier[masks[0]]
    again = out_of_fold_scores(LEARNED_BASELINES[name], rows, masks)
    np.testing.assert_array_equal(again[masks[0]], scores[masks[0]])


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=12), st.integers(1, 11))
def test_ranks_ignore_the_scale_of_each_fold(scores, cut):
    """Learners of two folds need not agree on a scale."""
    scores, first = (
        np.array(scores, dtype=float),
        np.arange(len(scores)) < min(cut, len(scores) - 1),
    )
    ranks = rank_within_folds([first, ~first], scores)
    rescaled = np.where(first, scores * 4 + 100, scores)
    np.testing.assert_array_equal(rank_within_folds([first, ~first], rescaled), ranks)
    assert 0 < ranks.min() <= ranks.max() <= 1


@pytest.mark.parametrize(
    ("behind", "within"),
    [
        ([0.1], False),
        ([0.0], True),
        ([0.02, 0.02, 0.02], False),
        ([0.04, -0.02, 0.01], True),
        ([0.02, float("nan"), 0.02], False),
        ([-0.1, -0.1], True),
    ],
)
def test_the_standard_error_is_that_of_the_paired_difference(behind, within):
    """Calibration and model selection each had a rule; only one of them ignored empty folds."""
    assert within_one_standard_error(np.array(behind)) is within
