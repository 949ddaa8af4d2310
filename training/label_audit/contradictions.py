"""How surely labels contradict what was predicted of them: tail bounds for any set of rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["Contradiction", "Direction", "Dispersion", "contradiction", "dispersion", "holm"]

Direction = Literal["flipped", "to cheap", "to frontier"]
Floats = NDArray[np.float64]
Dispersion = Mapping[Direction, float]

_PRIOR_CELLS = 5.0
_LARGEST_TILT = 40.0


@dataclass(frozen=True, slots=True)
class Contradiction:
    """How labels contradict predictions, in the direction in which they do so most surely.

    Attributes
    ----------
    direction : {"flipped", "to cheap", "to frontier"}
        Labels turned round, or set to 0, or set to 1, whatever they were.
    share : float
        Estimated share of the labels that were, in [0, 1].
    p_value : float
        No smaller than the chance of so much contradiction where no more than the tolerated share
        was: all three directions are allowed for.
    """

    direction: Direction
    share: float
    p_value: float


@dataclass(frozen=True, slots=True)
class _Sum:
    """A weighted sum of labels, and what it is expected to be."""

    weights: Floats
    tolerated: Floats
    per_share: Floats


def contradiction(
    labels: Floats,
    predicted: Floats,
    units: NDArray[np.intp],
    tolerated: float,
    spread: Dispersion | None = None,
) -> Contradiction:
    """Test labels of n rows against predictions that did not see them.

    The sum of the labels, and that of their agreement with the predictions (its weights, 1 - 2p,
    are those of the score test against labels turned round at random), each have Chernoff's bound
    on their tail. It holds for soft labels, whose moments Bernoulli's bound, and for any dependence
    inside a unit, whose rows are averaged; units are taken for independent given the predictions.

    Parameters
    ----------
    labels : ndarray of float64, shape (n,)
        In [0, 1].
    predicted : ndarray of float64, shape (n,)
        P(label is 1), in (0, 1).
    units : ndarray of int, shape (n,)
        Which rows belong together.
    tolerated : float
        The share of changed labels that is no contradiction yet, in [0, 1).
    spread : mapping, optional
        By direction, how many times as widely honest sums scatter as chance has it
        (`dispersion`); 1 without.
    """
    inside = np.unique(units, return_inverse=True)[1]
    found = []
    for direction in get_args(Direction):
        one = _sum(direction, predicted, tolerated)
        log_p = _log_tail(labels, inside, one) / (spread[direction] if spread else 1.0)
        found.append((log_p, direction, _share(labels, predicted, inside, one)))
    log_p, direction, share = min(found)
    return Contradiction(direction, share, min(1.0, len(found) * math.exp(log_p)))


def dispersion(
    cells: Sequence[NDArray[np.intp]], labels: Floats, predicted: Floats, units: NDArray[np.intp]
) -> dict[Direction, float]:
    """Return by direction how widely the sums of honest cells scatter, chance being 1.

    Parameters
    ----------
    cells : sequence of ndarray of int
        The rows of each; few of them are drawn to 1.
    labels, predicted, units : ndarray, shape (n,)
        As in `contradiction`.
    """
    squares: dict[Direction, list[float]] = {one: [] for one in get_args(Direction)}
    for rows in cells:
        inside = np.unique(units[rows], return_inverse=True)[1]
        for direction, kept in squares.items():
            one = _sum(direction, predicted[rows], 0.0)
            kept.append(_square(labels[rows], inside, one))
    return {
        direction: max(1.0, (sum(kept) + _PRIOR_CELLS) / (len(kept) + _PRIOR_CELLS))
        for direction, kept in squares.items()
    }


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Return which hypotheses Holm's procedure (1979) rejects; all errors together have the level.

    Examples
    --------
    >>> holm([0.004, 0.9, 0.02], 0.05)
    [True, False, True]
    """
    rejected, left = [False] * len(p_values), len(p_values)
    for place in sorted(range(len(p_values)), key=lambda one: p_values[one]):
        if p_values[place] > level / left:
            break
        rejected[place], left = True, left - 1
    return rejected


def _sum(direction: Direction, predicted: Floats, tolerated: float) -> _Sum:
    per_share = {
        "flipped": 1 - 2 * predicted,
        "to cheap": -predicted,
        "to frontier": 1 - predicted,
    }[direction]
    weights = {
        "flipped": per_share,
        "to cheap": -np.ones_like(predicted),
        "to frontier": np.ones_like(predicted),
    }[direction]
    return _Sum(weights, predicted + tolerated * per_share, per_share)


def _log_tail(labels: Floats, inside: NDArray[np.intp], one: _Sum) -> float:
    """Return the log of Chernoff's bound on a sum at least as large; 0 where it is none."""
    from scipy.optimize import minimize_scalar

    sizes = np.bincount(inside)
    excess = _mean_sum(one.weights * (labels - one.tolerated), inside, sizes)
    if excess <= 0:
        return 0.0
    centred = -one.weights * one.tolerated

    def exponent(tilt: float) -> float:
        rows = (1 - one.tolerated) * np.exp(tilt * centred) + one.tolerated * np.exp(
            tilt * (one.weights + centred)
        )
        return float(np.log(np.bincount(inside, rows) / sizes).sum() - tilt * excess)

    found = minimize_scalar(exponent, bounds=(0.0, _LARGEST_TILT), method="bounded")
    return min(0.0, float(found.fun))


def _share(labels: Floats, predicted: Floats, inside: NDArray[np.intp], one: _Sum) -> float:
    sizes = np.bincount(inside)
    whole = _mean_sum(one.weights * one.per_share, inside, sizes)
    found = _mean_sum(one.weights * (labels - predicted), inside, sizes)
    return min(1.0, max(0.0, found / whole)) if whole > 0 else 0.0


def _square(labels: Floats, inside: NDArray[np.intp], one: _Sum) -> float:
    sizes = np.bincount(inside)
    excess = _mean_sum(one.weights * (labels - one.tolerated), inside, sizes)
    chance = one.weights**2 * one.tolerated * (1 - one.tolerated)
    return excess**2 / max(_mean_sum(chance, inside, sizes), 1e-12)


def _mean_sum(values: Floats, inside: NDArray[np.intp], sizes: NDArray[np.intp]) -> float:
    return float((np.bincount(inside, values) / sizes).sum())
