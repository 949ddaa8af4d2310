"""Where one ranking loses against another: every slice tested, none by luck.

Of twenty slices one is worse at the 5% level by chance alone. Holm's step-down makes it so that the
chance of any false alarm among all of them stays below 5%, however the slices overlap.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from querytier.eval.clustered import clustered_mean

__all__ = ["SliceResult", "SliceSearch", "holm", "search_differences", "search_slices"]

Floats = NDArray[np.float64]
Groups = NDArray[np.object_]

_FEWEST_ROWS = 30
_FEWEST_GROUPS = 10
_TAIL = 0.025


@dataclass(frozen=True, slots=True)
class SliceResult:
    """What a slice says of two rankings or decisions.

    Attributes
    ----------
    name : str
    rows, groups : int
    difference : float
        Mean loss of the first minus that of the second: above 0 the first is worse.
    low, high : float
        95% interval of this slice alone, not of all of them together.
    p_value : float
        Two-sided, of no difference.
    adjusted_p_value : float
        By Holm's step-down over all slices that were tested.
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
    """All slices.

    Attributes
    ----------
    results : list of SliceResult
        Those tested, the one where the first loses most comes first.
    untested : dict of str to str
        Why the others were not, by name.
    """

    results: list[SliceResult]
    untested: dict[str, str]

    def worse(self, level: float = 0.05) -> list[SliceResult]:
        """Return where the first is worse, with at most `level` chance of any false alarm."""
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
    """Test in every slice whether two rankings or decisions lose the same.

    Paired t-tests with standard errors over groups, and as many degrees of freedom as there are
    groups less one.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool, shape (n,)
        As `slice_masks` gives them.
    first_losses, second_losses : ndarray of float64, shape (n,)
        Of the same rows; lower is better.
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
    """Test in every slice whether the mean of its rows' differences is 0; as `search_slices`.

    Parameters
    ----------
    parts : mapping of str to tuple of ndarray
        For each slice its rows' differences, float64 of shape (m,), and their groups.
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


def _why_not(groups: Groups, fewest_rows: int) -> str | None:
    if len(groups) < fewest_rows:
        return f"{len(groups)} rows, and at least {fewest_rows} are asked for"
    distinct = len(np.unique(groups.astype(str)))
    if distinct < _FEWEST_GROUPS:
        return f"{distinct} groups, and at least {_FEWEST_GROUPS} are asked for"
    return None


def _tested(name: str, differences: Floats, groups: Groups) -> SliceResult:
    from scipy.stats import t

    found = clustered_mean(differences, groups)
    mean, error, freedom = found.mean, found.standard_error, found.groups - 1
    half = float(t.isf(_TAIL, freedom)) * error
    if error > 0:
        p_value = float(2 * t.sf(abs(mean) / error, freedom))
    else:
        # Every group differs by the same: as probable as all coins on one side, twice.
        p_value = 2.0**-freedom if mean else 1.0
    return SliceResult(
        name, found.rows, found.groups, mean, mean - half, mean + half, p_value, p_value
    )
