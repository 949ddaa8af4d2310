"""Fitting linear and small neural nets on soft, weighted labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.nets import Linear, Mlp
from querytier.errors import TrainingError

__all__ = [
    "HardRows",
    "check_both_classes",
    "fit_linear",
    "fit_mlp",
    "gain_rows",
    "soft_rows",
]

Floats = NDArray[np.float64]

# The log-odds of an outcome that no row had.
_NEVER = -50.0
_ITERATIONS = 2000
_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class HardRows:
    """Soft labels as hard rows with weights, for learners that know no soft labels.

    Attributes
    ----------
    rows : ndarray of int, shape (m,)
        Which row each hard row repeats.
    outcomes : ndarray of int, shape (m,)
    parts : ndarray of float64, shape (m,)
        Above 0; the parts of a row add up to its weight.
    """

    rows: NDArray[np.intp]
    outcomes: NDArray[np.intp]
    parts: Floats


def fit_linear(
    features: Any,
    labels: HardRows,
    outcomes: int,
    regularisation: float,
    widths: Sequence[int] | None = None,
) -> Linear:
    """Fit a regularised logistic regression, multinomial where there are three outcomes.

    Parameters
    ----------
    features : ndarray or sparse matrix of float32, shape (n, d)
        Dense ones are standardised, and each block of them scaled to a mean squared norm of 1, so
        that one regularisation suits them all; the net takes them as they are.
    labels : HardRows
    outcomes : {2, 3}
    regularisation : float
        scikit-learn's `C`: the smaller, the stronger.
    widths : sequence of int, optional
        How many columns each block has; all are one block by default.

    Returns
    -------
    Linear
        One output, the log-odds, for two outcomes; three for three.
    """
    from sklearn.linear_model import LogisticRegression

    mean, scale = _standardisation(features)
    if scale is not None:
        widths = widths or [len(scale)]
        scale = scale * np.sqrt(np.repeat(widths, widths))
    model = LogisticRegression(C=regularisation, max_iter=_ITERATIONS, tol=_TOLERANCE)
    read = features if mean is None else (features.astype(np.float64) - mean) / scale
    model.fit(read[labels.rows], labels.outcomes, sample_weight=labels.parts)
    weights, bias = _all_outcomes(model.coef_, model.intercept_, model.classes_, outcomes)
    return _unstandardised(weights, bias, mean, scale)


def fit_mlp(
    features: Any, labels: HardRows, outcomes: int, *, hidden: int, decay: float, seed: int
) -> Mlp:
    """Fit a net of one hidden layer; it stops early by a tenth of the rows.

    Parameters
    ----------
    features : ndarray of float32, shape (n, d)
    labels : HardRows
    outcomes : {2, 3}
    hidden : int
        Units of the hidden layer.
    decay : float
        scikit-learn's `alpha`, the strength of the L2 penalty.
    seed : int
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    mean, scale = _standardisation(features)
    assert mean is not None
    model = MLPClassifier(
        (hidden,), alpha=decay, early_stopping=True, n_iter_no_change=5, random_state=seed
    )
    read = (features.astype(np.float64) - mean) / scale
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(read[labels.rows], labels.outcomes, sample_weight=labels.parts)
    first = _unstandardised(model.coefs_[0].T, model.intercepts_[0], mean, scale)
    last = _all_outcomes(model.coefs_[1].T, model.intercepts_[1], model.classes_, outcomes)
    return Mlp(first.weights, first.bias, *last)


def soft_rows(needs_frontier: Floats, weights: Floats) -> HardRows:
    """Return the two outcomes of soft labels: 1 by the label's share, 0 for the rest.

    Parameters
    ----------
    needs_frontier : ndarray of float64, shape (n,)
        In [0, 1]. A row labelled 0.25 counts a quarter as 1 and three quarters as 0.
    weights : ndarray of float64, shape (n,)

    Examples
    --------
    >>> hard = soft_rows(np.array([1.0, 0.25]), np.array([1.0, 2.0]))
    >>> hard.rows.tolist(), hard.outcomes.tolist(), hard.parts.tolist()
    ([0, 1, 1], [1, 1, 0], [1.0, 0.5, 1.5])
    """
    shares = [needs_frontier, 1 - needs_frontier]
    return _hard_rows(np.stack(shares) * weights, np.array([1, 0]))


def gain_rows(gains: Floats, weights: Floats) -> HardRows:
    """Return the three outcomes of gains: cheap better (0), a tie (1), frontier better (2).

    A row whose gain is a share of the largest one counts by that share as the outcome of its sign,
    and for the rest as a tie, so that P(frontier better) - P(cheap better) estimates the expected
    gain, in units of the largest.

    Parameters
    ----------
    gains : ndarray of float64, shape (n,)
        Frontier score minus cheap score.
    weights : ndarray of float64, shape (n,)

    Raises
    ------
    TrainingError
        If all rows have the same gain.
    """
    if not np.ptp(gains):
        raise TrainingError(
            f"all {len(gains)} rows have the same gain, {gains[0]:g}: nothing ranks them; check "
            "which columns hold the scores"
        )
    largest = float(np.abs(gains).max())
    shares = [np.maximum(-gains, 0.0), largest - np.abs(gains), np.maximum(gains, 0.0)]
    return _hard_rows(np.stack(shares) / largest * weights, np.arange(3))


def _hard_rows(parts: Floats, outcomes: NDArray[np.intp]) -> HardRows:
    """Return the parts above 0 of parts of shape (outcomes, n)."""
    rows = np.tile(np.arange(parts.shape[1]), len(outcomes))
    kept = parts.ravel() > 0
    return HardRows(rows[kept], np.repeat(outcomes, parts.shape[1])[kept], parts.ravel()[kept])


def check_both_classes(needs_frontier: Floats, split: str) -> None:
    """Raise where rows hold one class only.

    Raises
    ------
    TrainingError
    """
    positive, negative = (needs_frontier > 0.5).any(), (needs_frontier < 0.5).any()
    if not (positive and negative):
        held = "need the frontier model" if positive else "do not need the frontier model"
        raise TrainingError(
            f"all {len(needs_frontier)} rows of the {split} split {held}; "
            "add labelled rows, or try another prepare.seed"
        )


def _standardisation(features: Any) -> tuple[Floats | None, Floats | None]:
    """Return mean and standard deviation of dense columns; 1 for constant ones."""
    if not isinstance(features, np.ndarray):
        return None, None
    scale = features.std(axis=0, dtype=np.float64)
    mean = features.mean(axis=0, dtype=np.float64)
    return mean, np.where(scale > 1e-12, scale, 1.0)


def _unstandardised(
    weights: Floats, bias: Floats, mean: Floats | None, scale: Floats | None
) -> Linear:
    """Return the net that takes features as they are."""
    if mean is None or scale is None:
        return Linear(weights, bias)
    weights = weights / scale
    return Linear(weights, bias - weights @ mean)


def _all_outcomes(
    weights: Floats, bias: Floats, seen: NDArray[np.intp], outcomes: int
) -> tuple[Floats, Floats]:
    """Return weights and bias of all outcomes, where a model knows those that it has seen."""
    if outcomes == 2 or len(seen) == outcomes:
        return weights, bias
    if len(weights) == 1:
        # Of two classes, scikit-learn gives the log-odds of the second one only.
        weights, bias = np.vstack([np.zeros_like(weights), weights]), np.append(0.0, bias)
    every, all_bias = np.zeros((outcomes, weights.shape[1])), np.full(outcomes, _NEVER)
    every[seen], all_bias[seen] = weights, bias
    return every, all_bias
