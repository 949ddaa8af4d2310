"""Caps on weight: the largest share of a total weight that one group or one source may have.

A cap c lowers the m largest weights to one level t, with t = c (m t + rest), so t = c rest / (1 - m
c). It is possible only with at least 1/c groups. A source consists of groups, so lowering one may
raise the share of another: the two caps are applied in turn until both hold. If they cannot both
hold, only groups are capped, because a group is what one sender can fill.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats

__all__ = ["Capped", "capped"]

Names = NDArray[np.object_]

# Each turn only lowers weights, so the turns converge; the bound ends those that never hold.
_MOST_TURNS = 100
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Capped:
    """Weights that keep the caps.

    Attributes
    ----------
    weights : ndarray of float64, shape (n,)
    groups, sources : dict of str to float
        The factor for each group or source whose weight was lowered.
    left_out : tuple of str
        Why a cap is not applied.
    """

    weights: Floats
    groups: dict[str, float]
    sources: dict[str, float]
    left_out: tuple[str, ...]


def capped(
    weights: Floats,
    groups: Names,
    sources: Names,
    group_share: float | None,
    source_share: float | None,
) -> Capped:
    """Lower weights until no group and no source has more than its share of the total.

    Parameters
    ----------
    weights : ndarray of float64, shape (n,)
        Above 0.
    groups, sources : ndarray of object, shape (n,)
    group_share, source_share : float or None
        In (0, 1]; None caps nothing.

    Examples
    --------
    >>> names = np.array(["a", "b", "c"], object)
    >>> capped(np.array([8.0, 1.0, 1.0]), names, names, 0.5, None).weights
    array([2., 1., 1.])
    """
    left_out: list[str] = []
    by_group = _possible(groups, group_share, "group", left_out)
    by_source = _possible(sources, source_share, "source", left_out)
    lowered = _in_turn(weights, groups, sources, by_group, by_source)
    if lowered is None:
        left_out.append("the caps on groups and sources cannot both hold: only groups are capped")
        by_source = None
        lowered = _in_turn(weights, groups, sources, by_group, None)
    assert lowered is not None
    total, by_groups = lowered
    return Capped(
        total,
        _factors(groups, weights, by_groups),
        _factors(sources, by_groups, total) if by_source else {},
        tuple(left_out),
    )


def _possible(names: Names, share: float | None, what: str, left_out: list[str]) -> float | None:
    """Return the share if it can hold; else None, with the reason added to `left_out`."""
    count = len(set(names.tolist()))
    if share is None or not count:
        return None
    if count * share < 1 - _ROUNDING:
        left_out.append(f"{count} {what}s cannot each have at most {share:g} of the weight")
        return None
    return share


def _in_turn(
    weights: Floats,
    groups: Names,
    sources: Names,
    group_share: float | None,
    source_share: float | None,
) -> tuple[Floats, Floats] | None:
    """Return weights that keep both caps, and those that keep the first alone; None if none do."""
    first = found = _below(weights, groups, group_share)
    for _ in range(_MOST_TURNS):
        found = _below(found, sources, source_share)
        if _holds(found, groups, group_share):
            return found, first
        found = _below(found, groups, group_share)
        if _holds(found, sources, source_share):
            return found, first
    return None


def _below(weights: Floats, names: Names, share: float | None) -> Floats:
    if share is None or not len(weights):
        return weights
    distinct, place = _places(names)
    sums = np.bincount(place, weights, len(distinct))
    order = np.argsort(-sums, kind="stable")
    rest, level = float(sums.sum()), np.inf
    for lowered, name in enumerate(order.tolist()):
        # The level if the `lowered` largest names are at it; done once the next one is below.
        level = share * rest / (1 - lowered * share) if lowered * share < 1 else sums[name]
        if sums[name] <= level * (1 + _ROUNDING):
            break
        rest -= float(sums[name])
    factors = np.minimum(1.0, level / sums)
    factors[sums <= level * (1 + _ROUNDING)] = 1.0
    return np.asarray(weights * factors[place])


def _holds(weights: Floats, names: Names, share: float | None) -> bool:
    if share is None or not len(weights):
        return True
    distinct, place = _places(names)
    sums = np.bincount(place, weights, len(distinct))
    # Wider than the rounding in `_below`, or rounding alone could keep the turns going.
    return bool(sums.max() <= share * sums.sum() * (1 + 1e-6))


def _factors(names: Names, before: Floats, after: Floats) -> dict[str, float]:
    distinct, place = _places(names)
    sums = [np.bincount(place, weights, len(distinct)) for weights in (before, after)]
    factors = sums[1] / sums[0] if len(distinct) else np.empty(0)
    lowered = np.flatnonzero(factors < 1 - _ROUNDING)
    return {str(distinct[name]): float(factors[name]) for name in lowered.tolist()}


def _places(names: Names) -> tuple[NDArray[np.str_], NDArray[np.intp]]:
    return np.unique(names.astype(str), return_inverse=True)
