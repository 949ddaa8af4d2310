"""The inequality between decision score and threshold: written here, and nowhere else."""

from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tier", "goes_to_frontier", "tier_of"]

Tier = Literal["cheap", "frontier"]


@overload
def goes_to_frontier(decision_score: float, threshold: float) -> bool: ...
@overload
def goes_to_frontier(
    decision_score: NDArray[np.float64], threshold: float
) -> NDArray[np.bool_]: ...
def goes_to_frontier(
    decision_score: float | NDArray[np.float64], threshold: float
) -> bool | NDArray[np.bool_]:
    """Return whether a decision score, or each one of an array, goes to the frontier tier."""
    return decision_score >= threshold


def tier_of(decision_score: float, threshold: float) -> Tier:
    """Return the tier of a decision score.

    Examples
    --------
    >>> tier_of(0.3, 0.3), tier_of(0.2, 0.3)
    ('frontier', 'cheap')
    """
    return "frontier" if goes_to_frontier(decision_score, threshold) else "cheap"
