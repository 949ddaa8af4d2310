"""Discrimination and calibration for many row weights at once.

scikit-learn computes these for one set of weights; the bootstrap needs them for a thousand. Tests
compare the results with scikit-learn's.
"""

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats

__all__ = ["auroc", "average_precision", "brier", "ece", "ece_when_calibrated", "tie_starts"]


_BINS = 10
_SIMULATIONS = 1000


def auroc(scores: Floats, needs_frontier: Floats, weights: Floats) -> Floats:
    """Return the area under the ROC curve; ties count half (Mann & Whitney 1947).

    Labels are cut at 0.5; rows labelled exactly 0.5 are dropped.

    Parameters
    ----------
    scores : ndarray, shape (n,)
    needs_frontier : ndarray, shape (n,)
        In [0, 1].
    weights : ndarray, shape (b, n)

    Returns
    -------
    ndarray, shape (b,)
        In [0, 1]; NaN if one class is missing.

    Examples
    --------
    >>> auroc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([0.0, 0.0, 1.0, 0.75]), np.ones((1, 4)))
    array([0.875])
    """
    positives, negatives = _classes_by_score(scores, needs_frontier, weights)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray((positives * below).sum(axis=1) / pairs)


def average_precision(scores: Floats, needs_frontier: Floats, weights: Floats) -> Floats:
    """Return the mean precision over recall, not interpolated; shapes and labels as in `auroc`.

    Rows with equal scores count together. A random ranking gets the share of rows that need the
    frontier model. NaN if no row needs it.

    Examples
    --------
    >>> labels = np.array([0.0, 1.0, 0.0, 1.0])
    >>> average_precision(np.array([0.1, 0.4, 0.5, 0.9]), labels, np.ones((1, 4)))
    array([0.83333333])
    """
    positives, negatives = _classes_by_score(-scores, needs_frontier, weights)
    caught = np.cumsum(positives, axis=1)
    sent = caught + np.cumsum(negatives, axis=1)
    precision = caught / np.where(sent > 0, sent, 1.0)
    total = positives.sum(axis=1)
    return np.asarray((positives * precision).sum(axis=1) / np.where(total > 0, total, np.nan))


def brier(probabilities: Floats, needs_frontier: Floats, weights: Floats) -> Floats:
    """Return the mean squared error of probabilities (Brier 1950); shapes as in `auroc`.

    Examples
    --------
    >>> brier(np.array([0.5, 1.0]), np.array([0.0, 1.0]), np.ones((1, 2)))
    array([0.125])
    """
    return np.asarray(weights @ (probabilities - needs_frontier) ** 2 / weights.sum(axis=1))


def ece(probabilities: Floats, needs_frontier: Floats, weights: Floats) -> Floats:
    """Return the expected calibration error over ten bins of equal width; shapes as in `auroc`.

    The plain estimate is biased upwards: it is above 0 even for a perfect model. Compare it with
    `ece_when_calibrated`, and see `querytier.eval.calibration` for the debiased error.

    Examples
    --------
    >>> ece(np.array([0.25, 0.25, 0.75, 0.75]), np.array([0.0, 0.0, 1.0, 1.0]), np.ones((1, 4)))
    array([0.25])
    """
    return _ece(probabilities, weights * (probabilities - needs_frontier), weights.sum(axis=1))


def ece_when_calibrated(probabilities: Floats, seed: int) -> float:
    """Return the 95th percentile of the ECE of a perfectly calibrated model.

    An ECE has to exceed this floor to show miscalibration at this number of rows. Labels are
    drawn from the probabilities themselves, 1,000 times (consistency resampling, Bröcker & Smith
    2007).

    Parameters
    ----------
    probabilities : ndarray, shape (n,)
    seed : int
    """
    random = np.random.default_rng(seed)
    size = len(probabilities)
    errors = []
    for _ in range(_SIMULATIONS):
        labels = random.random(size) < probabilities
        weighted = (probabilities - labels)[np.newaxis, :]
        errors.append(_ece(probabilities, weighted, np.array([size])))
    return float(np.percentile(errors, 95))


def tie_starts(ordered: Floats) -> NDArray[np.intp]:
    """Return the index at which each run of equal values starts.

    Examples
    --------
    >>> tie_starts(np.array([0.1, 0.4, 0.4, 0.9])).tolist()
    [0, 1, 3]
    """
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _classes_by_score(
    scores: Floats, needs_frontier: Floats, weights: Floats
) -> tuple[Floats, Floats]:
    """Return the weight of each class at each distinct score, ascending; shape (b, k)."""
    # A label of exactly 0.5 belongs to neither class.
    keep = np.flatnonzero(needs_frontier != 0.5)
    if not len(keep):
        return np.zeros((len(weights), 1)), np.zeros((len(weights), 1))
    # Sorted once for all row weights: only the sums below depend on them.
    order = keep[np.argsort(scores[keep], kind="stable")]
    starts = tie_starts(scores[order])
    positive = needs_frontier[order] > 0.5
    in_order = weights[:, order]
    positives = np.add.reduceat(in_order * positive, starts, axis=1)
    return positives, np.add.reduceat(in_order * ~positive, starts, axis=1)


def _ece(probabilities: Floats, weighted_errors: Floats, totals: Floats) -> Floats:
    bins = np.minimum((probabilities * _BINS).astype(np.intp), _BINS - 1)
    order = np.argsort(bins, kind="stable")
    starts = tie_starts(bins[order].astype(np.float64))
    gaps = np.add.reduceat(weighted_errors[:, order], starts, axis=1)
    return np.asarray(np.abs(gaps).sum(axis=1) / totals)
