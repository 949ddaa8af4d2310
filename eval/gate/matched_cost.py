"""Rankings at equal cost: the frontier rate each can afford, and the rows it sends."""

import numpy as np

from querytier.data.arrays import Floats
from querytier.eval.curves import gain_curve
from querytier.eval.metrics import tie_starts

__all__ = ["frontier_shares", "rates_at_cost"]


def rates_at_cost(scores: Floats, extra_costs: Floats, spent: Floats, weights: Floats) -> Floats:
    """Return the frontier rates at which a ranking spends a given mean cost; shape (b,).

    Rows without extra cost are sent as well.

    Parameters
    ----------
    scores : ndarray, shape (n,)
    extra_costs : ndarray, shape (n,)
        Extra cost of the frontier tier's answer; above 0 on average.
    spent : ndarray, shape (b,)
        Mean extra cost over all rows.
    weights : ndarray, shape (b, n)

    Examples
    --------
    >>> scores, extra_costs = np.array([0.9, 0.5, 0.1]), np.array([3.0, 1.0, 2.0])
    >>> rates_at_cost(scores, extra_costs, np.array([1.0]), np.ones((1, 3))).round(3)
    array([0.333])
    """
    curve = gain_curve(scores, extra_costs, weights)
    # If the frontier answer to a row is cheaper, the cost falls, but interpolation needs a cost
    # that never falls.
    costs = np.maximum.accumulate(curve.gains, axis=1)
    rows = zip(spent, costs, curve.rates, strict=True)
    return np.array([np.interp(cost, xs, ys) for cost, xs, ys in rows])


def frontier_shares(scores: Floats, rates: Floats, weights: Floats) -> Floats:
    """Return the share of each row that goes to the frontier tier at a rate; shape (b, n).

    It is 1 above the cut and 0 below. Rows at the cut have equal scores and share the rest of the
    rate, as if chance picked among them.

    Parameters
    ----------
    scores : ndarray, shape (n,)
    rates : ndarray, shape (b,)
        In [0, 1].
    weights : ndarray, shape (b, n)

    Examples
    --------
    >>> scores = np.array([0.1, 0.9, 0.5, 0.5])
    >>> frontier_shares(scores, np.array([0.5]), np.ones((1, 4))).tolist()
    [[0.0, 1.0, 0.5, 0.5]]
    """
    order = np.argsort(-scores, kind="stable")
    starts = tie_starts(scores[order])
    widths = np.add.reduceat(weights[:, order], starts, axis=1)
    wanted = rates * weights.sum(axis=1)
    left = wanted[:, np.newaxis] - (np.cumsum(widths, axis=1) - widths)
    parts = np.clip(left / np.where(widths > 0, widths, 1.0), 0, 1)
    shares = np.empty_like(weights)
    shares[:, order] = np.repeat(parts, np.diff(np.append(starts, len(scores))), axis=1)
    return shares
