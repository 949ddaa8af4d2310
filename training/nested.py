"""Nested cross-validation: every choice is made without the rows that evaluate it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.threshold import goes_to_frontier
from querytier.data.arrays import Floats
from querytier.training.baselines import LabelledFeatures
from querytier.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from querytier.training.fit import FitSettings, fit_classifier
from querytier.training.folds import group_folds
from querytier.training.recipes import Recipe

__all__ = ["OutOfFoldPredictions", "nested_cross_validation"]


@dataclass(frozen=True, eq=False)
class OutOfFoldPredictions:
    """Predictions for rows by classifiers that never saw them.

    Attributes
    ----------
    decision_scores, p_frontier : ndarray of float64, shape (n,)
    to_frontier : ndarray of bool, shape (n,)
        Decisions by the threshold of the row's own fold.
    chosen : Counter
        Number of folds in which each recipe was chosen.
    masks : sequence of ndarray of bool, shape (n,)
        The held-out rows of each fold.
    """

    decision_scores: Floats
    p_frontier: Floats
    to_frontier: NDArray[np.bool_]
    chosen: Counter[str]
    masks: Sequence[NDArray[np.bool_]]


def nested_cross_validation(
    labelled: LabelledFeatures,
    recipes: Sequence[Recipe],
    settings: FitSettings,
    *,
    masks: Sequence[NDArray[np.bool_]] | None = None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> OutOfFoldPredictions:
    """Choose, fit and calibrate a classifier on all folds but one, and apply it to that one.

    Recipe, calibration and threshold come from folds inside the training folds (Stone 1974,
    J. R. Statist. Soc. B 36:111), so the result is an honest estimate of the whole procedure, not
    of one classifier.

    Parameters
    ----------
    labelled : LabelledFeatures, length n
    recipes : sequence of Recipe
        In order of preference.
    settings : FitSettings
        Its number of folds is that of the outer and of the inner folds.
    masks : sequence of ndarray of bool, shape (n,), optional
        Held-out rows of each outer fold; by default folds by group.
    checkpoints : Checkpoints

    Raises
    ------
    TrainingError
        If a fold has only one class, or there are fewer groups than folds.
    """
    size = len(labelled.examples)
    masks = masks or group_folds(labelled.examples, settings.folds, settings.seed)
    scores, p_frontier = np.full(size, np.nan), np.full(size, np.nan)
    to_frontier, chosen = np.zeros(size, dtype=bool), Counter[str]()
    for fold, held_out in enumerate(masks):
        fitted = fit_classifier(
            _all_to_train(labelled.where(~held_out)),
            recipes,
            settings,
            baselines={},
            checkpoints=checkpoints.part(f"fold {fold}"),
        )
        blocks = labelled.where(held_out).blocks
        scores[held_out] = fitted.heads.decision_scores(blocks)
        p_frontier[held_out] = fitted.heads.p_frontier(blocks)
        to_frontier[held_out] = goes_to_frontier(scores[held_out], fitted.threshold)
        chosen[fitted.chosen] += 1
    return OutOfFoldPredictions(scores, p_frontier, to_frontier, chosen, masks)


def _all_to_train(labelled: LabelledFeatures) -> LabelledFeatures:
    # Without a calibration split, calibration and threshold come from inner out-of-fold scores, so
    # the few rows of a small log serve both purposes.
    split = np.full(len(labelled.examples), "train", dtype=object)
    return LabelledFeatures(replace(labelled.examples, split=split), labelled.blocks)
