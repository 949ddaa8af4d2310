"""Tests of whether labels contradict predictions that did not see them: tail bounds for sums."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats

__all__ = ["Contradiction", "Direction", "Dispersion", "contradiction", "dispersion"]

Direction = Literal["flipped", "to cheap", "to frontier"]
Dispersion = Mapping[Direction, float]

_DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
_PRIOR_CELLS = 5.0
_LARGEST_TILT = 40.0


@dataclass(frozen=True, slots=True)
class Contradiction:
    """How labels contradict predictions, in the direction with the smallest p-value.

    Attributes
    ----------
    direction : {"flipped", "to cheap", "to frontier"}
        Labels flipped, or set to 0, or set to 1.
    share : float
        Estimated share of the labels that were changed, in [0, 1].
    p_value : float
        Upper bound on the probability of this much contradiction if no more than the tolerated
        share was changed; corrected for the three directions.
    """

    direction: Direction
    share: float
    p_value: float


def contradiction(
    labels: Floats,
    predicted: Floats,
    units: NDArray[np.intp],
    tolerated: float,
    spread: Dispersion | None = None,
) -> Contradiction:
    """Test labels of n rows against predictions that did not see them.

    Rows of one unit are averaged, so they may depend on each other in any way; units are assumed to
    be independent given the predictions.

    Parameters
    ----------
    labels : ndarray of float64, shape (n,)
        In [0, 1].
    predicted : ndarray of float64, shape (n,)
        P(label is 1), in (0, 1).
    units : ndarray of int, shape (n,)
        Number of each row's unit.
    tolerated : float
        Share of changed labels that is tolerated, in [0, 1).
    spread : mapping, optional
        By direction, the variance of honest sums relative to chance (`dispersion`); 1 by default.
    """
    tests = []
    for direction in _DIRECTIONS:
        total = _Sum.of(direction, predicted, tolerated, units)
        log_p = total.log_tail(labels) / (spread[direction] if spread else 1.0)
        tests.append((log_p, direction, total.share(labels, predicted)))
    log_p, direction, share = min(tests)
    # Bonferroni over the directions.
    return Contradiction(direction, share, min(1.0, len(tests) * math.exp(log_p)))


def dispersion(
    cells: Sequence[NDArray[np.intp]], labels: Floats, predicted: Floats, units: NDArray[np.intp]
) -> dict[Direction, float]:
    """Return, by direction, the variance of the sums of honest cells relative to chance.

    Parameters
    ----------
    cells : sequence of ndarray of int
        The rows of each cell.
    labels, predicted, units : ndarray, shape (n,)
        As in `contradiction`.
    """

    def relative_variance(direction: Direction) -> float:
        squares = [
            _Sum.of(direction, predicted[rows], 0.0, units[rows]).square(labels[rows])
            for rows in cells
        ]
        # Shrunk towards 1, because few cells say little about the usual differences of sources.
        return max(1.0, (sum(squares) + _PRIOR_CELLS) / (len(squares) + _PRIOR_CELLS))

    return {direction: relative_variance(direction) for direction in _DIRECTIONS}


@dataclass(frozen=True, slots=True)
class _Sum:
    """A weighted sum of labels: its terms, their expected values, and the units."""

    weights: Floats
    per_share: Floats
    expected: Floats
    unit: NDArray[np.intp]
    sizes: NDArray[np.intp]

    @classmethod
    def of(
        cls, direction: Direction, predicted: Floats, tolerated: float, units: NDArray[np.intp]
    ) -> "_Sum":
        one = np.ones_like(predicted)
        # For flipped labels, 1 - 2p are the weights of the score test against random flips.
        weights, per_share = {
            "flipped": (1 - 2 * predicted, 1 - 2 * predicted),
            "to cheap": (-one, -predicted),
            "to frontier": (one, 1 - predicted),
        }[direction]
        unit = np.unique(units, return_inverse=True)[1]
        expected = predicted + tolerated * per_share
        return cls(weights, per_share, expected, unit, np.bincount(unit))

    def log_tail(self, labels: Floats) -> float:
        """Return the log of a bound on the probability of a sum this large; 0 bounds nothing."""
        from scipy.optimize import minimize_scalar

        excess = self._add(self.weights * (labels - self.expected))
        if excess <= 0:
            return 0.0
        centred = -self.weights * self.expected

        # Chernoff's bound (1952): log P(S >= s) <= log E[exp(tS)] - t s for every tilt t >= 0. A
        # label in [0, 1] has at most the moments of a Bernoulli variable of the same mean
        # (Hoeffding 1963, eq. 4.1), and by convexity the mean over a unit has at most the mean of
        # its rows' moments, whatever their dependence (ibid., eq. 5.2).
        def exponent(tilt: float) -> float:
            moments = (1 - self.expected) * np.exp(tilt * centred) + self.expected * np.exp(
                tilt * (self.weights + centred)
            )
            return float(np.log(np.bincount(self.unit, moments) / self.sizes).sum() - tilt * excess)

        best = minimize_scalar(exponent, bounds=(0.0, _LARGEST_TILT), method="bounded")
        return min(0.0, float(best.fun))

    def share(self, labels: Floats, predicted: Floats) -> float:
        """Return the share of changed labels that would explain the sum."""
        whole = self._add(self.weights * self.per_share)
        excess = self._add(self.weights * (labels - predicted))
        return min(1.0, max(0.0, excess / whole)) if whole > 0 else 0.0

    def square(self, labels: Floats) -> float:
        """Return the squared excess relative to its variance by chance."""
        excess = self._add(self.weights * (labels - self.expected))
        chance = self.weights**2 * self.expected * (1 - self.expected)
        return excess**2 / max(self._add(chance), 1e-12)

    def _add(self, values: Floats) -> float:
        """Return the sum over units of the mean within the unit."""
        return float((np.bincount(self.unit, values) / self.sizes).sum())
