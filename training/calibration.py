"""Calibrating: which map from log-odds to calibrated ones, chosen on rows the head never saw."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.calibrator import Calibrator, sigmoid
from querytier.training.platt import fit_platt, smoothed_targets

__all__ = ["FittedCalibration", "Method", "fit_calibrator"]

Floats = NDArray[np.float64]
Method = Literal["platt", "temperature", "beta"]

# In the order in which one would rather have them.
_METHODS: tuple[Method, ...] = get_args(Method)
_FOLDS = 5
_FEWEST_ROWS = 200
_SMALLEST_SIZE = 1e-6


@dataclass(frozen=True)
class FittedCalibration:
    """A calibrator, and why it is this one.

    Attributes
    ----------
    calibrator : Calibrator
    method : {"platt", "temperature", "beta"}
    n : int
        Rows that it was fitted on.
    log_losses : mapping of str to float
        Weighted, by method, the mean over folds whose rows the method did not see; in nats. Empty
        where methods were not compared.
    reason : str
        One sentence.
    """

    calibrator: Calibrator
    method: Method
    n: int
    log_losses: Mapping[Method, float]
    reason: str


def fit_calibrator(
    logits: Floats,
    needs_frontier: Floats,
    weights: Floats,
    groups: NDArray[np.object_],
    *,
    method: Literal["auto"] | Method = "auto",
    seed: int,
) -> FittedCalibration:
    """Fit Platt scaling, temperature scaling or beta calibration on soft, weighted labels.

    "auto" takes the first of the three, in this order, whose cross-validated log loss lies within
    one standard error of the best one's (Breiman et al. 1984), the error being that of the paired
    difference over five folds by group. All are fitted to Platt's smoothed targets, and no slope is
    ever below 0. For beta calibration see `querytier.classifier.model.calibrator`.

    Parameters
    ----------
    logits : ndarray of float64, shape (n,)
        Log-odds of rows that the head was not fitted on.
    needs_frontier, weights : ndarray of float64, shape (n,)
        Labels in [0, 1]; weights above 0.
    groups : ndarray, shape (n,)
        Rows of one group stay in one fold.
    method : {"auto", "platt", "temperature", "beta"}
        "auto" is "platt" below 200 rows, five groups or five rows of the rarer class.
    seed : int
        Of the folds.

    Returns
    -------
    FittedCalibration
        Where the labels or the log-odds are all the same, every query gets the same probability,
        whichever method was asked for.

    Raises
    ------
    ValueError
        If the method is none of these.
    """
    if method not in {"auto", *_METHODS}:
        raise ValueError(f"{method!r} is no calibration; choose auto or one of {_METHODS}")
    rows = _Rows(logits, needs_frontier, weights)
    unfit = rows.uniform()
    if unfit:
        reason = f"platt: {unfit}, so every query gets the same probability"
        return FittedCalibration(rows.constant(), "platt", len(logits), {}, reason)
    if method != "auto":
        return _fitted(rows, method, {}, "asked for")
    too_few = _too_few(needs_frontier, groups)
    if too_few:
        return _fitted(rows, "platt", {}, f"{too_few} are too few to choose by")
    return _chosen(rows, _fold_losses(rows, groups, seed))


@dataclass(frozen=True, eq=False)
class _Rows:
    logits: Floats
    needs_frontier: Floats
    weights: Floats

    def where(self, mask: NDArray[np.bool_]) -> "_Rows":
        return _Rows(self.logits[mask], self.needs_frontier[mask], self.weights[mask])

    def targets(self) -> Floats:
        return smoothed_targets(self.needs_frontier, self.weights)

    def uniform(self) -> str:
        """Say what leaves nothing to fit a slope on; empty where there is something."""
        if len(np.unique(self.needs_frontier)) == 1:
            return f"all {len(self.logits)} labels are {self.needs_frontier[0]:g}"
        if len(np.unique(self.logits)) == 1:
            return f"all {len(self.logits)} log-odds are {self.logits[0]:g}"
        return ""

    def constant(self) -> Calibrator:
        rate = float(self.weights @ self.targets() / self.weights.sum())
        return Calibrator(0.0, 0.0, float(np.log(rate / (1 - rate))))

    def calibrator(self, method: Method) -> Calibrator:
        if self.uniform():
            return self.constant()
        if method == "platt":
            slope, offset = fit_platt(self.logits, self.needs_frontier, self.weights)
            return Calibrator(slope, slope, offset)
        return self._temperature() if method == "temperature" else self._beta()

    def loss(self, calibrator: Calibrator) -> float:
        return _log_loss(calibrator.logits(self.logits), self.targets(), self.weights)

    def _temperature(self) -> Calibrator:
        slope = max(0.0, *self._least_loss(self.logits))
        return Calibrator(slope, slope, 0.0)

    def _beta(self) -> Calibrator:
        """Refit without a negative slope, as the paper does: exact, as the loss is convex."""
        above, below = np.logaddexp(0, self.logits), np.logaddexp(0, -self.logits)
        one = np.ones_like(above)
        rising, falling, offset = self._least_loss(-below, above, one)
        if min(rising, falling) >= 0:
            return Calibrator(rising, falling, offset)
        rising, offset_below = self._least_loss(-below, one)
        falling, offset_above = self._least_loss(above, one)
        candidates = [self.constant()]
        candidates += [Calibrator(rising, 0.0, offset_below)] if rising > 0 else []
        candidates += [Calibrator(0.0, falling, offset_above)] if falling > 0 else []
        return min(candidates, key=self.loss)

    def _least_loss(self, *columns: Floats) -> list[float]:
        """Return the coefficients of least log loss."""
        from scipy.optimize import minimize

        # Columns of one size, so that log-odds of thousands are no steeper than those of ones.
        sizes = np.maximum(np.abs(columns).max(axis=1), _SMALLEST_SIZE)
        features = (np.array(columns) / sizes[:, np.newaxis]).T
        targets, shares = self.targets(), self.weights / self.weights.sum()

        def loss(coefficients: Floats) -> float:
            return _log_loss(features @ coefficients, targets, shares)

        def slope(coefficients: Floats) -> Floats:
            errors = sigmoid(features @ coefficients) - targets
            return np.asarray(features.T @ (shares * errors))

        def curvature(coefficients: Floats) -> Floats:
            z = features @ coefficients
            steepness = shares * sigmoid(z) * sigmoid(-z)
            return np.asarray((features.T * steepness) @ features)

        # With Newton steps, as beta calibration's columns are close to collinear.
        start = np.zeros(len(sizes))
        options = {"gtol": 1e-8}
        found = minimize(
            loss, start, jac=slope, hess=curvature, method="trust-exact", options=options
        )
        return [float(value) for value in found.x / sizes]


def _log_loss(logits: Floats, needs_frontier: Floats, weights: Floats) -> float:
    losses = np.logaddexp(0, logits) - needs_frontier * logits
    return float(weights @ losses / weights.sum())


def _fitted(
    rows: _Rows, method: Method, log_losses: Mapping[Method, float], why: str
) -> FittedCalibration:
    calibrator = rows.calibrator(method)
    return FittedCalibration(calibrator, method, len(rows.logits), log_losses, f"{method}: {why}")


def _too_few(needs_frontier: Floats, groups: NDArray[np.object_]) -> str:
    """Name what is too little for a comparison over folds; empty where nothing is."""
    needy = int((needs_frontier > 0.5).sum())
    counts = {
        "rows": (len(needs_frontier), _FEWEST_ROWS),
        "groups": (len(np.unique(groups.astype(str))), _FOLDS),
        "rows of the rarer class": (min(needy, len(needs_frontier) - needy), _FOLDS),
    }
    short = [f"{count} {what}" for what, (count, fewest) in counts.items() if count < fewest]
    return " and ".join(short)


def _fold_losses(
    rows: _Rows, groups: NDArray[np.object_], seed: int
) -> dict[Method, NDArray[np.float64]]:
    """Return the log loss of each method on each fold, fitted on the other ones."""
    from sklearn.model_selection import StratifiedGroupKFold

    numbers = np.unique(groups.astype(str), return_inverse=True)[1]
    splitter = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    losses: dict[Method, list[float]] = {method: [] for method in _METHODS}
    for _, asked in splitter.split(numbers, rows.needs_frontier > 0.5, numbers):
        held_out = np.zeros(len(numbers), dtype=bool)
        held_out[asked] = True
        train, judge = rows.where(~held_out), rows.where(held_out)
        for method in _METHODS:
            calibrated = train.calibrator(method).logits(judge.logits)
            losses[method].append(_log_loss(calibrated, judge.needs_frontier, judge.weights))
    return {method: np.array(values) for method, values in losses.items()}


def _chosen(rows: _Rows, losses: Mapping[Method, Floats]) -> FittedCalibration:
    means = {method: float(values.mean()) for method, values in losses.items()}
    best = min(_METHODS, key=means.__getitem__)
    method = next(m for m in _METHODS if _within_one_error(losses[m] - losses[best]))
    why = "the lowest cross-validated log loss"
    if method != best:
        why = f"the first choice within one standard error of the best, {best}"
    return _fitted(rows, method, means, why)


def _within_one_error(differences: Floats) -> bool:
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return bool(differences.mean() <= error)
