"""Predictors of labels: the expected label of a row, by learners that never saw its group."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.calibrator import sigmoid
from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.errors import TrainingError
from querytier.training.baselines import LabelledFeatures, Learner, tfidf_lr
from querytier.training.calibration import fit_platt
from querytier.training.folds import group_folds, out_of_fold_scores
from querytier.training.linear_models import logistic_regression, soft_rows

__all__ = ["PREDICTORS", "ensemble_log_odds", "out_of_fold_probabilities"]


_SMALLEST_PROBABILITY = 1e-6


def _embedding_log_odds(train: LabelledFeatures, held_out: LabelledFeatures) -> Floats:
    labels = soft_rows(train.examples.needs_frontier, train.examples.weight)
    model = logistic_regression(train.embeddings, labels)
    return np.asarray(model.decision_function(held_out.embeddings), dtype=np.float64)


def _tfidf_log_odds(train: LabelledFeatures, held_out: LabelledFeatures) -> Floats:
    p = np.clip(tfidf_lr(train, held_out), _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    return np.asarray(np.log(p / (1 - p)))


PREDICTORS: dict[str, Learner] = {
    "minilm_lr": _embedding_log_odds,
    "tfidf_lr": _tfidf_log_odds,
}


def ensemble_log_odds(
    labelled: LabelledFeatures,
    masks: Sequence[NDArray[np.bool_]],
    *,
    learners: Iterable[Learner] = tuple(PREDICTORS.values()),
    fresh: LabelledFeatures | None = None,
) -> tuple[Floats, Floats]:
    """Return calibrated log-odds of labelled rows, out of fold, and of fresh rows by all of them.

    Parameters
    ----------
    labelled : LabelledFeatures, length n
    masks : sequence of ndarray of bool, shape (n,)
        The held-out rows of each fold.
    learners : iterable of callable
        Each returns log-odds of held-out rows.
    fresh : LabelledFeatures, length m, optional

    Returns
    -------
    out_of_fold : ndarray of float64, shape (n,)
    fresh : ndarray of float64, shape (m,)
        Empty without fresh rows.
    """
    labels, weights = labelled.examples.needs_frontier, labelled.examples.weight

    def scaled(known: Floats, new: Floats) -> tuple[Floats, Floats]:
        slope, offset = fit_platt(known, labels, weights)
        return slope * known + offset, slope * new + offset

    # Scaled before the mean, so that learners count alike, and after it, as a mean of calibrated
    # log-odds is not calibrated.
    pairs = [
        scaled(
            out_of_fold_scores(learner, labelled, masks),
            np.empty(0) if fresh is None else learner(labelled, fresh),
        )
        for learner in learners
    ]
    known, new = zip(*pairs, strict=True)
    return scaled(np.mean(known, axis=0), np.mean(new, axis=0))


def out_of_fold_probabilities(
    labelled: LabelledFeatures,
    folds: int,
    seed: int,
    learners: Iterable[Learner] = tuple(PREDICTORS.values()),
) -> Floats:
    """Return calibrated probabilities by learners that never saw a row's group.

    Two learners that err differently are averaged: logistic regression on embeddings, as in the
    classifier, and on TF-IDF. benchmarks/LABEL_AUDIT.md shows what each finds alone.

    Parameters
    ----------
    labelled : LabelledFeatures, length n
    folds, seed : int
    learners : iterable of callable
        Each returns log-odds of held-out rows.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    TrainingError
        If the labels are too few, or too one-sided, for this number of folds.
    """
    masks = _folds(labelled.examples, folds, seed)
    return sigmoid(ensemble_log_odds(labelled, masks, learners=learners)[0])


def _folds(examples: Examples, folds: int, seed: int) -> list[NDArray[np.bool_]]:
    """Return the held-out rows of folds, each of which leaves both classes to train on."""
    positive = examples.needs_frontier > 0.5
    fewest = int(min(positive.sum(), (~positive).sum()))
    masks = group_folds(examples, folds, seed) if fewest >= folds else []
    if not masks or any(len(np.unique(positive[~mask])) < 2 for mask in masks):
        raise TrainingError(
            f"{fewest} labels on the rarer side of 0.5, or their groups, are too few for {folds} "
            "folds; add labelled rows, or lower train.folds"
        )
    return masks
