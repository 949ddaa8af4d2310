"""Fitting on soft, weighted labels: the linear head, and its calibration."""

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.head import GainHead, LinearHead
from querytier.errors import TrainingError

__all__ = [
    "check_both_classes",
    "fit_gain_head",
    "fit_head",
    "fit_platt",
    "smoothed_targets",
    "soft_rows",
]

Floats = NDArray[np.float64]

# The log-odds of an outcome that no row had.
_NEVER = -50.0


def fit_head(
    embeddings: NDArray[np.float32], needs_frontier: Floats, weights: Floats, regularisation: float
) -> LinearHead:
    """Fit a regularised logistic regression on soft labels.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (n, dimension)
    needs_frontier : ndarray of float64, shape (n,)
        In [0, 1]. A row labelled 0.25 counts a quarter as 1 and three quarters as 0.
    weights : ndarray of float64, shape (n,)
    regularisation : float
        scikit-learn's `C`: the smaller, the stronger.
    """
    from sklearn.linear_model import LogisticRegression

    rows, labels, row_weights = soft_rows(needs_frontier, weights)
    model = LogisticRegression(C=regularisation, max_iter=2000)
    model.fit(embeddings[rows].astype(np.float64), labels, sample_weight=row_weights)
    return LinearHead(model.coef_[0].astype(np.float64), float(model.intercept_[0]))


def fit_gain_head(
    features: NDArray[np.float32], gains: Floats, weights: Floats, regularisation: float
) -> GainHead:
    """Fit a regularised multinomial regression on cheap better, tie and frontier better.

    A row whose gain is a share of the largest one counts by that share as the outcome of its sign,
    and for the rest as a tie, so that P(frontier better) - P(cheap better) estimates the expected
    gain, in units of the largest.

    Parameters
    ----------
    features : ndarray of float32, shape (n, dimension)
    gains : ndarray of float64, shape (n,)
        Frontier score minus cheap score.
    weights : ndarray of float64, shape (n,)
    regularisation : float
        scikit-learn's `C`: the smaller, the stronger.

    Raises
    ------
    TrainingError
        If all rows have the same outcome.
    """
    from sklearn.linear_model import LogisticRegression

    largest = float(np.abs(gains).max()) or 1.0
    shares = np.stack([np.maximum(-gains, 0.0), largest - np.abs(gains), np.maximum(gains, 0.0)])
    parts = (shares / largest * weights).ravel()
    outcomes = np.repeat(np.arange(3), len(gains))
    rows, kept = np.tile(np.arange(len(gains)), 3), parts > 0
    if len(np.unique(outcomes[kept])) == 1:
        raise TrainingError(
            f"all {len(gains)} rows have the same gain, {gains[0]:g}: nothing ranks them; check "
            "which columns hold the scores"
        )
    model = LogisticRegression(C=regularisation, max_iter=2000)
    model.fit(features[rows[kept]].astype(np.float64), outcomes[kept], sample_weight=parts[kept])
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        # scikit-learn gives the log-odds of the second one only.
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.append(0.0, intercepts)
    head = GainHead(np.zeros((3, features.shape[1])), np.full(3, _NEVER))
    head.coefficients[model.classes_] = coefficients
    head.intercepts[model.classes_] = intercepts
    return head


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
    rows, labels, row_weights = soft_rows(targets, weights)
    model = LogisticRegression(C=np.inf, max_iter=2000)
    model.fit(logits[rows, np.newaxis], labels, sample_weight=row_weights)
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


def soft_rows(
    needs_frontier: Floats, weights: Floats
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Turn soft labels into hard rows with weights, for learners that know no soft labels.

    Returns
    -------
    rows : ndarray of int
        Which row each hard row repeats.
    labels : ndarray of int
        1 or 0.
    weights : ndarray of float64
        Above 0; the two parts of a row add up to its weight.

    Examples
    --------
    >>> rows, labels, parts = soft_rows(np.array([1.0, 0.25]), np.array([1.0, 2.0]))
    >>> rows.tolist(), labels.tolist(), parts.tolist()
    ([0, 1, 1], [1, 1, 0], [1.0, 0.5, 1.5])
    """
    size = len(needs_frontier)
    rows = np.concatenate([np.arange(size), np.arange(size)])
    labels = np.repeat([1, 0], size)
    parts = np.concatenate([weights * needs_frontier, weights * (1 - needs_frontier)])
    kept = parts > 0
    return rows[kept], labels[kept], parts[kept]


def check_both_classes(needs_frontier: Floats, role: str) -> None:
    """Raise where rows hold one class only.

    Raises
    ------
    TrainingError
    """
    positive, negative = (needs_frontier > 0.5).any(), (needs_frontier < 0.5).any()
    if not (positive and negative):
        held = "need the frontier model" if positive else "do not need the frontier model"
        raise TrainingError(
            f"all {len(needs_frontier)} rows of the {role} role {held}; "
            "add labelled rows, or try another prepare.seed"
        )
