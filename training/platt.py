"""Platt scaling: a slope and an offset on log-odds."""

import numpy as np
from numpy.typing import NDArray

from querytier.training.linear_models import soft_rows

__all__ = ["fit_platt", "smoothed_targets"]

Floats = NDArray[np.float64]


def fit_platt(logits: Floats, needs_frontier: Floats, weights: Floats) -> tuple[float, float]:
    """Fit slope and offset of Platt scaling (Platt 1999), its smoothed targets included.

    Parameters
    ----------
    logits : ndarray of float64, shape (n,)
        Log-odds of rows that the head was not fitted on.
    needs_frontier, weights : ndarray of float64, shape (n,)

    Returns
    -------
    slope : float
        Never below 0. At 0 every query gets the same probability: the calibration rows show no
        signal, and turning the ranking round on so few rows would be no better.
    offset : float
    """
    from sklearn.linear_model import LogisticRegression

    targets = smoothed_targets(needs_frontier, weights)
    hard = soft_rows(targets, weights)
    model = LogisticRegression(C=np.inf, max_iter=2000)
    model.fit(logits[hard.rows, np.newaxis], hard.outcomes, sample_weight=hard.parts)
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope > 0:
        return slope, offset
    rate = float(weights @ targets / weights.sum())
    return 0.0, float(np.log(rate / (1 - rate)))


def smoothed_targets(needs_frontier: Floats, weights: Floats) -> Floats:
    """Return labels drawn a little away from 0 and 1, so that no fit runs off to infinity.

    One row's worth of each outcome is added to the evidence for the other (Platt 1999).

    Parameters
    ----------
    needs_frontier, weights : ndarray of float64, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n,)
        In (0, 1).

    Examples
    --------
    >>> smoothed_targets(np.array([1.0, 1.0, 0.0]), np.ones(3)).round(3).tolist()
    [0.75, 0.75, 0.333]
    """
    positives = float(weights @ needs_frontier)
    negatives = float(weights.sum()) - positives
    targets = needs_frontier * (positives + 1) / (positives + 2)
    return np.asarray(targets + (1 - needs_frontier) / (negatives + 2))
