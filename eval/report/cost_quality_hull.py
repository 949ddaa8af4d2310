"""AIQ: average quality over the range of costs, with the best mix at every cost (RouterBench)."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["aiq", "non_decreasing_hull"]

Floats = NDArray[np.float64]


def aiq(costs: Floats, qualities: Floats, lowest: float, highest: float) -> float:
    """Return the area under the non-decreasing convex hull, divided by the range of costs.

    Average improvement in quality (Hu et al. 2024, RouterBench), in units of quality: what a router
    keeps on average over all budgets between the lowest and the highest, where budgets between two
    operating points are met by mixing them.

    Parameters
    ----------
    costs, qualities : ndarray of float64, shape (k,)
        Of the operating points. Those dearer than `highest` are out of reach; those cheaper than
        `lowest` count there.
    lowest, highest : float
        The range of costs.

    Returns
    -------
    float
        NaN where the range is empty, or no point is within reach at `lowest`.

    Examples
    --------
    >>> aiq(np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.0, 0.7]), 1.0, 3.0)
    0.875
    """
    if not highest > lowest:
        return float("nan")
    reachable = costs <= highest
    xs, ys = non_decreasing_hull(np.maximum(costs[reachable], lowest), qualities[reachable])
    if not len(xs) or xs[0] > lowest:
        return float("nan")
    xs, ys = np.append(xs, highest), np.append(ys, ys[-1])
    return float(np.trapezoid(ys, xs) / (highest - lowest))


def non_decreasing_hull(costs: Floats, qualities: Floats) -> tuple[Floats, Floats]:
    """Return the corners of the upper hull up to the highest quality, by ascending cost.

    Parameters
    ----------
    costs, qualities : ndarray of float64, shape (k,)

    Examples
    --------
    >>> xs, ys = non_decreasing_hull(np.array([0.0, 1, 2, 3]), np.array([0.0, 0.25, 2, 1]))
    >>> xs.tolist(), ys.tolist()
    ([0.0, 2.0], [0.0, 2.0])
    """
    order = np.lexsort((-qualities, costs))
    xs, ys = costs[order], qualities[order]
    best = np.maximum.accumulate(ys)
    rising = np.concatenate([np.ones(min(1, len(ys)), dtype=bool), ys[1:] > best[:-1]])
    xs, ys = xs[rising], ys[rising]
    while len(xs) > 2:
        # What lies below the chord of its neighbours is no corner, whichever others go as well.
        left = (ys[1:-1] - ys[:-2]) * (xs[2:] - xs[1:-1])
        right = (ys[2:] - ys[1:-1]) * (xs[1:-1] - xs[:-2])
        corner = np.concatenate([[True], left > right, [True]])
        if corner.all():
            break
        xs, ys = xs[corner], ys[corner]
    return xs, ys
