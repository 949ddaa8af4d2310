"""Estimates with intervals, and how they are written for users.

Rows come in groups (a conversation, near duplicates). Groups are independent of each other, and
rows within a group are not, so every interval here is over groups: the paired bootstrap, the
cluster-robust standard error, and exact shares of one row per group.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats

__all__ = [
    "ClusteredMean",
    "Estimate",
    "Resampling",
    "Statistic",
    "clopper_pearson",
    "clustered_mean",
    "difference",
    "one_row_per_group",
    "one_sided",
    "undefined",
    "weighted_mean",
]

Statistic = Callable[[Floats], Floats]

_LEVEL = 0.95
_TAILS = (0.025, 0.025)
_CELLS_AT_ONCE = 4_000_000  # row weights of 32 MB: a thousand replicates of 100,000 rows are 800 MB


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value with its 95% interval, or the reason why it has none.

    Attributes
    ----------
    value, low, high : float or None
    reason : str or None
        Why there is no value.
    replicates : ndarray of float64, shape (replicates,)
        The bootstrap values behind the interval; empty if there is no value.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None
    replicates: Floats = field(default_factory=lambda: np.empty(0), repr=False)

    def to_dict(self) -> dict[str, float | str | None]:
        """Return the estimate for JSON."""
        content: dict[str, float | str | None] = {
            "value": self.value,
            "low": self.low,
            "high": self.high,
        }
        return content if self.reason is None else {**content, "reason": self.reason}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_dict` returned; the replicates are not part of it."""
        value, low, high = (content.get(name) for name in ("value", "low", "high"))
        return cls(value, low, high, content.get("reason"))

    def scaled(self, factor: float) -> "Estimate":
        """Return the estimate in another unit; a negative factor swaps the ends."""
        if self.value is None or self.low is None or self.high is None:
            return self
        low, high = sorted((factor * self.low, factor * self.high))
        return Estimate(factor * self.value, low, high, None, factor * self.replicates)

    def text(self, spec: str = ".3f") -> str:
        """Return the value with its interval, in the notation used for all users.

        Parameters
        ----------
        spec : str
            The format of each number, as for `format`: ".1%" for percent.

        Examples
        --------
        >>> estimate = Estimate(0.6549, 0.612, 0.7)
        >>> estimate.text(), estimate.text(".1%"), undefined("no rows").text()
        ('0.655 (0.612 to 0.700)', '65.5% (61.2% to 70.0%)', 'n/a')
        """
        if self.value is None:
            return "n/a"
        # z: a negative number that rounds to zero is written 0.000, not -0.000.
        value = format(self.value, f"z{spec}")
        if self.low is None or self.high is None:
            return value
        return f"{value} ({self.low:z{spec}} to {self.high:z{spec}})"


def undefined(reason: str) -> Estimate:
    """Return an estimate without a value."""
    return Estimate(None, None, None, reason)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return first - second with its paired interval.

    Both must come from one `Resampling`: their replicates then share the draws of groups. Draws
    that are hard for both cancel out, so the interval is narrower than an unpaired one.
    """
    if first.value is None or second.value is None:
        return undefined(first.reason or second.reason or "no value")
    replicates = first.replicates - second.replicates
    return _estimate(first.value - second.value, replicates, "no replicate has a value")


def one_sided(estimate: Estimate) -> Estimate:
    """Return the estimate with the ends of its two one-sided 95% intervals.

    Chance exceeds each end in 5% of the cases, so the two make a 90% interval. A gate needs only
    one end: it checks whether the loss is below its margin.
    """
    if estimate.value is None:
        return estimate
    low, high = _ends(estimate.replicates, 1 - _LEVEL)
    return replace(estimate, low=low, high=high)


@dataclass(frozen=True, eq=False)
class Resampling:
    """Percentile bootstrap that draws whole groups with replacement (Efron & Tibshirani 1993).

    Rows of one group resemble each other, so drawing single rows would make the intervals too
    narrow. Statistics get weights in place of drawn rows: a row that is drawn twice has weight 2.
    This way the rows are sorted by score once, not once per replicate.

    Parameters
    ----------
    groups : sequence of str, length n
    replicates : int
    seed : int
    """

    groups: Sequence[str]
    replicates: int
    seed: int

    def estimate(self, statistic: Statistic, undefined_reason: str) -> Estimate:
        """Estimate a statistic of weighted rows.

        Parameters
        ----------
        statistic : callable
            Called with row weights of shape (b, n); returns values of shape (b,), NaN if undefined.
        undefined_reason : str
            The reason to give if the value on the rows themselves is undefined.
        """
        values = self.values(statistic)
        return _estimate(float(values[0]), values[1:], undefined_reason)

    def values(self, statistic: Statistic) -> Floats:
        """Return a statistic of the rows themselves, then of each replicate; first axis b."""
        return np.concatenate([statistic(weights) for weights in self._weights()])

    def _weights(self) -> Iterator[Floats]:
        """Yield row weights, a few replicates at a time, so that memory stays bounded."""
        step = max(1, _CELLS_AT_ONCE // len(self.groups))
        for start in range(0, self.replicates + 1, step):
            counts = self._group_counts[start : start + step]
            yield counts[:, self._group_index].astype(np.float64)

    @cached_property
    def _group_index(self) -> NDArray[np.intp]:
        names = np.asarray(self.groups, dtype=str)
        return np.unique(names, return_inverse=True)[1]

    @cached_property
    def _group_counts(self) -> NDArray[np.int64]:
        """Number of draws of each group, after a first row of ones: the rows themselves."""
        size = int(self._group_index.max()) + 1
        # Counts of draws are multinomial: no need to draw the groups one by one.
        random = np.random.default_rng(self.seed)
        draws = random.multinomial(size, np.full(size, 1 / size), size=self.replicates)
        return np.concatenate([np.ones((1, size), dtype=np.int64), draws])


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Return the mean of values for many row weights at once.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
    weights : ndarray of float64, shape (b, n)

    Returns
    -------
    ndarray of float64, shape (b,)
        NaN if all weights are 0.

    Examples
    --------
    >>> weighted_mean(np.array([0.0, 1.0]), np.array([[1.0, 1.0], [1.0, 3.0]]))
    array([0.5 , 0.75])
    """
    total = weights.sum(axis=1)
    return np.asarray(weights @ values / np.where(total > 0, total, np.nan))


def clopper_pearson(
    hits: float, count: float, tails: tuple[float, float] = _TAILS
) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper & Pearson 1934).

    The ends are the shares p with P(X >= hits | p) and P(X <= hits | p) equal to the tails, for
    binomial X; both are quantiles of beta distributions.

    Parameters
    ----------
    hits, count : float
        Hits among independent trials; a sum of graded values in [0, 1] makes the interval too wide.
    tails : tuple of float
        Chances, in (0, 1), that the share is below and above the interval.

    Examples
    --------
    >>> [round(end, 4) for end in clopper_pearson(0, 300)]
    [0.0, 0.0122]
    """
    from scipy.stats import beta

    low = float(beta.ppf(tails[0], hits, count - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tails[1], hits + 1, count - hits)) if hits < count else 1.0
    return low, high


def one_row_per_group(groups: NDArray[np.object_], seed: int) -> NDArray[np.intp]:
    """Return the indices of a random row of each group, in random order.

    Exact binomial intervals and tests need independent rows, such as rows of different groups. They
    then estimate the share for a random query of a random group.

    Parameters
    ----------
    groups : ndarray of object, shape (n,)
    seed : int
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    _, first = np.unique(groups[order].astype(str), return_index=True)
    return np.asarray(order[np.sort(first)], dtype=np.intp)


@dataclass(frozen=True, slots=True)
class ClusteredMean:
    """A mean over rows and its standard error over groups.

    Attributes
    ----------
    mean : float
    standard_error : float
        NaN if there is only one group.
    rows, groups : int
    """

    mean: float
    standard_error: float
    rows: int
    groups: int


def clustered_mean(values: Floats, groups: NDArray[np.object_]) -> ClusteredMean:
    """Return the mean with its cluster-robust standard error (Liang & Zeger 1986).

    With one row per group it is the usual standard error of a mean.

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
    # The small-sample factor: without it the standard error is too small if there are few groups.
    variance = count / (count - 1) * float(sums @ sums) / len(values) ** 2
    return ClusteredMean(mean, variance**0.5, len(values), count)


def _estimate(value: float, replicates: Floats, undefined_reason: str) -> Estimate:
    if not math.isfinite(value):
        return undefined(undefined_reason)
    # Some draws lack a class or a gap; the interval comes from the draws that have a value.
    if not np.isfinite(replicates).any():
        return undefined(undefined_reason)
    low, high = _ends(replicates, (1 - _LEVEL) / 2)
    return Estimate(value, low, high, None, replicates)


def _ends(replicates: Floats, tail: float) -> tuple[float, float]:
    """Return the two values below and above which a share `tail` of the replicates is."""
    low, high = np.percentile(replicates[np.isfinite(replicates)], [100 * tail, 100 * (1 - tail)])
    return float(low), float(high)
