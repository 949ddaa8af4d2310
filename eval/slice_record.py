"""Where the classifier does worse than a coin: the slices of a report."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.eval.slice_masks import slice_masks
from querytier.eval.slices import SliceResult, search_differences

__all__ = ["slice_record"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_LEVEL = 0.05


def slice_record(examples: Examples, frontier: Mask, level: float = _LEVEL) -> dict[str, Any]:
    """Compare in every slice what is missed with what a coin at the slice's frontier rate would.

    A query is missed that needs the frontier model and goes to the cheap one. Where a slice is
    worse than its coin, the classifier ranks its queries the wrong way round.

    Parameters
    ----------
    examples : Examples, length n
        At least one, all of them labelled.
    frontier : ndarray of bool, shape (n,)
        Where the classifier decided for the frontier tier.
    level : float
        Chance of any false alarm among all slices, in (0, 1).

    Returns
    -------
    dict
        `level`; `results`, the slice that is worst against the coin first; `untested`, name to
        reason.
    """
    needed, cheap = examples.needs_frontier, ~frontier
    masks = slice_masks(examples, fewest_rows=1)
    found = search_differences(
        {
            name: (_more_than_a_coin(needed[rows], cheap[rows]), examples.group[rows])
            for name, rows in masks.items()
        }
    )
    worse = {result.name for result in found.worse(level)}

    def record(result: SliceResult) -> dict[str, Any]:
        rows = masks[result.name]
        return {
            "name": result.name,
            "rows": result.rows,
            "groups": result.groups,
            "frontier_rate": float(frontier[rows].mean()),
            "needs_frontier": float(needed[rows].mean()),
            "missed": float((needed * cheap)[rows].mean()),
            "difference": result.difference,
            "low": result.low,
            "high": result.high,
            "p_value": result.p_value,
            "adjusted_p_value": result.adjusted_p_value,
            "worse": result.name in worse,
        }

    return {
        "level": level,
        "results": [record(result) for result in found.results],
        "untested": dict(found.untested),
    }


def _more_than_a_coin(needed: Floats, cheap: Mask) -> Floats:
    """Return rows' shares in what is missed beyond chance: their mean is the covariance.

    Both means are taken off, as the coin's rate is that of the very rows: without, the scatter of
    the rate would be left out of the intervals.
    """
    return np.asarray((needed - needed.mean()) * (cheap - cheap.mean()))
