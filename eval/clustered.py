"""Means of rows that come in groups, with the standard error that the groups leave."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClusteredMean", "clustered_mean"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClusteredMean:
    """A mean over rows and its standard error over groups.

    Attributes
    ----------
    mean : float
    standard_error : float
        NaN where there is one group only.
    rows, groups : int
    """

    mean: float
    standard_error: float
    rows: int
    groups: int


def clustered_mean(values: Floats, groups: NDArray[np.object_]) -> ClusteredMean:
    """Return the mean with its cluster-robust standard error (Liang & Zeger 1986).

    With one row a group it is the common standard error of a mean.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        At least one.
    groups : ndarray of object, shape (n,)

    Examples
    --------
    >>> values = np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    >>> found = clustered_mean(values, np.array(["a", "a", "b", "b", "c", "c"], dtype=object))
    >>> round(found.mean, 3), round(found.standard_error, 3), found.groups
    (0.333, 0.333, 3)
    """
    index = np.unique(groups.astype(str), return_inverse=True)[1]
    count = int(index.max()) + 1
    mean = float(values.mean())
    sums = np.bincount(index, weights=values - mean, minlength=count)
    if count == 1:
        return ClusteredMean(mean, float("nan"), len(values), count)
    variance = count / (count - 1) * float(sums @ sums) / len(values) ** 2
    return ClusteredMean(mean, variance**0.5, len(values), count)
