"""Cross-validation by group: folds, scores out of fold, and how to compare them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.errors import TrainingError
from querytier.training.baselines import LabelledFeatures, Learner

__all__ = [
    "fold_masks",
    "group_folds",
    "group_numbers",
    "out_of_fold_scores",
    "rank_within_folds",
    "within_one_standard_error",
]

Masks = Sequence[NDArray[np.bool_]]


def group_numbers(groups: NDArray[np.object_]) -> NDArray[np.intp]:
    """Return a number for each row, equal for rows of one group; shape (n,)."""
    return np.asarray(np.unique(groups.astype(str), return_inverse=True)[1], dtype=np.intp)


def fold_masks(
    groups: NDArray[np.object_], needs_frontier: Floats, folds: int, seed: int
) -> list[NDArray[np.bool_]]:
    """Return the held-out rows of each fold: groups stay whole, classes are spread evenly."""
    from sklearn.model_selection import StratifiedGroupKFold

    numbers = group_numbers(groups)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    splits = splitter.split(numbers, needs_frontier > 0.5, numbers)
    return [np.isin(np.arange(len(numbers)), held_out) for _, held_out in splits]


def group_folds(examples: Examples, folds: int, seed: int) -> list[NDArray[np.bool_]]:
    """Return the masks of `fold_masks` for examples.

    Raises
    ------
    TrainingError
        If there are fewer groups than folds.
    """
    count = len(np.unique(examples.group.astype(str)))
    if count < folds:
        raise TrainingError(
            f"{count} groups are too few for {folds} folds, as no group is divided; map a finer "
            "group, or lower train.folds"
        )
    return fold_masks(examples.group, examples.needs_frontier, folds, seed)


def out_of_fold_scores(learner: Learner, labelled: LabelledFeatures, masks: Masks) -> Floats:
    """Return the score of each row by a learner that never saw the row's group.

    Parameters
    ----------
    learner : callable
        Takes training rows and held-out rows, returns scores of the held-out ones.
    labelled : LabelledFeatures, length n
    masks : sequence of ndarray of bool, shape (n,)
        The held-out rows of each fold, from `group_folds`.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    scores = np.full(len(labelled.examples), np.nan)
    for held_out in masks:
        scores[held_out] = learner(labelled.where(~held_out), labelled.where(held_out))
    return scores


def rank_within_folds(masks: Masks, scores: Floats) -> Floats:
    """Return the rank of each score within its fold, as a share of the fold's rows.

    Parameters
    ----------
    masks : sequence of ndarray of bool, shape (n,)
        The held-out rows of each fold.
    scores : ndarray of float64, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n,)
        In (0, 1]; equal scores of a fold share their mean rank.

    Examples
    --------
    >>> masks = [np.array([True, True, False, False]), np.array([False, False, True, True])]
    >>> rank_within_folds(masks, np.array([0.1, 0.2, 7.0, 5.0])).tolist()
    [0.5, 1.0, 1.0, 0.5]
    """
    from scipy.stats import rankdata

    # Scores pooled as they are would rank below chance if they say nothing (APGR 0.456, 0.412 to
    # 0.497, on votes that nothing predicts): the fold with the lowest mean is held out when the
    # mean of the others, which the learner predicts, is highest.
    ranks = np.full(len(scores), np.nan)
    for held_out in masks:
        ranks[held_out] = rankdata(scores[held_out]) / held_out.sum()
    return ranks


def within_one_standard_error(behind: Floats) -> bool:
    """Return whether a candidate is within one standard error of the best (Breiman et al. 1984).

    Parameters
    ----------
    behind : ndarray of float64, shape (folds,)
        How far the candidate is behind the best one on each fold; NaN on a fold without a value.

    Examples
    --------
    >>> within_one_standard_error(np.array([0.04, -0.02, 0.01]))
    True
    >>> within_one_standard_error(np.array([0.02, 0.02, 0.02]))
    False
    """
    # The standard error is that of the paired difference. That of the best mean alone, as in the
    # book, hides every stack: folds differ from each other much more than candidates do.
    behind = behind[np.isfinite(behind)]
    error = behind.std(ddof=1) / np.sqrt(len(behind)) if len(behind) > 1 else 0.0
    return bool(behind.mean() <= error)
