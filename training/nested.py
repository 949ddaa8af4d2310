"""Nested cross-validation: every choice is made without the rows that judge it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.threshold import goes_to_frontier
from querytier.training.baselines import Labelled, group_folds
from querytier.training.calibration import Method
from querytier.training.checkpoints import NOTHING_KEPT, Kept
from querytier.training.fit import fit_classifier
from querytier.training.hyperparameters import Search
from querytier.training.recipes import Recipe

__all__ = ["OutOfFold", "nested_cross_validation"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What classifiers say of rows that they never saw.

    Attributes
    ----------
    decision_scores, p_frontier : ndarray of float64, shape (n,)
    to_frontier : ndarray of bool, shape (n,)
        By the threshold of the row's own fold.
    chosen : Counter
        How often each recipe was chosen.
    masks : sequence of ndarray of bool, shape (n,)
        The held-out rows of each fold.
    """

    decision_scores: Floats
    p_frontier: Floats
    to_frontier: NDArray[np.bool_]
    chosen: Counter[str]
    masks: Sequence[NDArray[np.bool_]]


def nested_cross_validation(
    labelled: Labelled,
    recipes: Sequence[Recipe],
    *,
    masks: Sequence[NDArray[np.bool_]] | None = None,
    folds: int,
    target_frontier_rate: float,
    seed: int,
    named: str | None = None,
    calibration: Literal["auto"] | Method = "auto",
    search: Search | None = None,
    kept: Kept = NOTHING_KEPT,
) -> OutOfFold:
    """Choose, fit and calibrate a classifier on all folds but one, and ask it about that one.

    The recipe, its calibration and the threshold come from folds within the training folds
    (Stone 1974, J. R. Statist. Soc. B 36:111), so what comes out is an honest estimate for the
    whole procedure, and not for one classifier.

    Parameters
    ----------
    labelled : Labelled, length n
    recipes : sequence of Recipe
        The one that one would rather have first.
    masks : sequence of ndarray of bool, shape (n,), optional
        Held-out rows of each fold; without them `folds` folds by group.
    folds : int
        Outer and inner folds.
    target_frontier_rate : float
        As in `fit_classifier`.
    seed : int
    named : str, optional
        The candidate that is taken in every fold.
    calibration : {"auto", "platt", "temperature", "beta"}
    search : Search, optional
        How learners are refined.
    kept : Kept
        Where what is computed outlives an interruption.

    Raises
    ------
    TrainingError
        If a fold holds one class only, or there are fewer groups than folds.
    """
    size = len(labelled.examples)
    masks = masks or group_folds(labelled.examples, folds, seed)
    scores, p_frontier = np.full(size, np.nan), np.full(size, np.nan)
    to_frontier, chosen = np.zeros(size, dtype=bool), Counter[str]()
    for fold, held_out in enumerate(masks):
        fitted = fit_classifier(
            _all_to_train(labelled.where(~held_out)),
            recipes=recipes,
            folds=folds,
            target_frontier_rate=target_frontier_rate,
            seed=seed,
            baselines={},
            named=named,
            calibration=calibration,
            search=search,
            kept=kept.under(f"fold {fold}"),
        )
        asked = labelled.where(held_out).blocks
        scores[held_out] = fitted.heads.decision_scores(asked)
        p_frontier[held_out] = fitted.heads.p_frontier(asked)
        to_frontier[held_out] = goes_to_frontier(scores[held_out], fitted.threshold)
        chosen[fitted.chosen] += 1
    return OutOfFold(scores, p_frontier, to_frontier, chosen, masks)


def _all_to_train(labelled: Labelled) -> Labelled:
    split = np.full(len(labelled.examples), "train", dtype=object)
    return Labelled(replace(labelled.examples, split=split), labelled.blocks)
