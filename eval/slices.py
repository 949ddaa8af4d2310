"""Slices in which a ranking or a decision is worse than another, with all tests counted.

Among twenty slices, one is worse at the 5% level by chance alone. With Holm's step-down the
probability of any false alarm among all of them stays below 5%, however the slices overlap.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats, Mask
from querytier.data.examples import Examples
from querytier.eval.intervals import clustered_mean
from querytier.eval.slice_masks import slice_masks

__all__ = [
    "SliceResult",
    "SliceSearch",
    "holm",
    "search_differences",
    "search_slices",
    "slice_record",
]

Groups = NDArray[np.object_]

_FEWEST_ROWS = 30
_FEWEST_GROUPS = 10  # with fewer, the cluster-robust standard error is itself too small
_TAIL = 0.025


@dataclass(frozen=True, slots=True)
class SliceResult:
    """Two rankings or decisions, compared in one slice.

    Attributes
    ----------
    name : str
    rows, groups : int
    difference : float
        Mean loss of the first minus that of the second; if it is above 0, the first is worse.
    low, high : float
        95% interval of this slice alone, not of all of them together.
    p_value : float
        Two-sided p-value of no difference.
    adjusted_p_value : float
        The p-value after Holm's step-down over all tested slices.
    """

    name: str
    rows: int
    groups: int
    difference: float
    low: float
    high: float
    p_value: float
    adjusted_p_value: float


@dataclass(frozen=True, eq=False)
class SliceSearch:
    """The results for all slices.

    Attributes
    ----------
    results : list of SliceResult
        The tested slices; the one in which the first loses most comes first.
    untested : dict of str to str
        Why the others were not tested, by name.
    """

    results: list[SliceResult]
    untested: dict[str, str]

    def worse(self, level: float = 0.05) -> list[SliceResult]:
        """Return the slices in which the first is worse; `level` is the rate of any false alarm."""
        return [
            result
            for result in self.results
            if result.difference > 0 and result.adjusted_p_value <= level
        ]


def search_slices(
    masks: Mapping[str, NDArray[np.bool_]],
    first_losses: Floats,
    second_losses: Floats,
    groups: Groups,
    *,
    fewest_rows: int = _FEWEST_ROWS,
) -> SliceSearch:
    """Test in every slice whether two rankings or decisions have the same mean loss.

    The tests are paired t-tests with standard errors over groups; the degrees of freedom are the
    number of groups minus 1.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool, shape (n,)
        As `slice_masks` returns them.
    first_losses, second_losses : ndarray of float64, shape (n,)
        Losses of the same rows; lower is better.
    groups : ndarray of object, shape (n,)
    fewest_rows : int
        Slices with fewer rows, or with fewer than ten groups, are not tested.
    """
    differences = first_losses - second_losses
    parts = {name: (differences[mask], groups[mask]) for name, mask in masks.items()}
    return search_differences(parts, fewest_rows=fewest_rows)


def search_differences(
    parts: Mapping[str, tuple[Floats, Groups]], *, fewest_rows: int = _FEWEST_ROWS
) -> SliceSearch:
    """Test in every slice whether the mean of its rows' differences is 0; see `search_slices`.

    Parameters
    ----------
    parts : mapping of str to tuple of ndarray
        Differences of the rows of each slice, float64 of shape (m,), and their groups.
    fewest_rows : int
    """
    untested = {name: _why_not(groups, fewest_rows) for name, (_, groups) in parts.items()}
    tested = [
        _tested(name, differences, groups)
        for name, (differences, groups) in parts.items()
        if untested[name] is None
    ]
    adjusted = holm(np.array([result.p_value for result in tested]))
    results = [
        replace(result, adjusted_p_value=float(p))
        for result, p in zip(tested, adjusted, strict=True)
    ]
    results.sort(key=lambda result: (-result.difference, result.name))
    return SliceSearch(results, {name: why for name, why in untested.items() if why is not None})


def holm(p_values: Floats) -> Floats:
    """Return p-values adjusted by the step-down procedure of Holm (1979); shape (k,).

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    count, order = len(p_values), np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * (count - np.arange(count)))
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def slice_record(examples: Examples, frontier: Mask, level: float = 0.05) -> dict[str, Any]:
    """Compare the misses in every slice with those of a coin at the slice's frontier rate.

    A query is missed if it needs the frontier model and goes to the cheap one. If a slice is worse
    than its coin, the classifier ranks its queries the wrong way round.

    Parameters
    ----------
    examples : Examples, length n
        At least one; all must be labelled.
    frontier : ndarray of bool, shape (n,)
        Which rows the classifier sends to the frontier tier.
    level : float
        Probability of any false alarm among all slices, in (0, 1).

    Returns
    -------
    dict
        `level`; `results`, the worst slice against the coin first; `untested`, reason by name.
    """
    needed, cheap = examples.needs_frontier, ~frontier
    # Slices too small to test are listed, because leaving them out would look as if all were fine.
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
            **asdict(result),
            "frontier_rate": float(frontier[rows].mean()),
            "needs_frontier": float(needed[rows].mean()),
            "missed": float((needed * cheap)[rows].mean()),
            "worse": result.name in worse,
        }

    return {
        "level": level,
        "results": [record(result) for result in found.results],
        "untested": dict(found.untested),
    }


def _why_not(groups: Groups, fewest_rows: int) -> str | None:
    if len(groups) < fewest_rows:
        return f"{len(groups)} rows, at least {fewest_rows} are needed"
    distinct = len(np.unique(groups.astype(str)))
    if distinct < _FEWEST_GROUPS:
        return f"{distinct} groups, at least {_FEWEST_GROUPS} are needed"
    return None


def _tested(name: str, differences: Floats, groups: Groups) -> SliceResult:
    from scipy.stats import t

    found = clustered_mean(differences, groups)
    mean, error, freedom = found.mean, found.standard_error, found.groups - 1
    half = float(t.isf(_TAIL, freedom)) * error
    if error > 0:
        p_value = float(2 * t.sf(abs(mean) / error, freedom))
    else:
        # No spread between groups, so no t statistic: a sign test, twice the probability that all
        # coins fall on one side.
        p_value = 2.0**-freedom if mean else 1.0
    return SliceResult(
        name, found.rows, found.groups, mean, mean - half, mean + half, p_value, p_value
    )


def _more_than_a_coin(needed: Floats, cheap: Mask) -> Floats:
    """Return each row's contribution to the misses beyond chance; their mean is the covariance.

    Both means are subtracted because the coin's rate is estimated from the same rows. If only one
    were subtracted, the interval would ignore the scatter of that rate.
    """
    return np.asarray((needed - needed.mean()) * (cheap - cheap.mean()))
