"""Bootstrap intervals over groups, paired across all that is estimated from the same rows."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "Resampling", "difference", "one_sided", "undefined"]

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

_LEVEL = 0.95
_CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value with its 95% interval, or the reason why there is none.

    Attributes
    ----------
    value, low, high : float or None
    reason : str or None
        Why there is no value.
    replicates : ndarray of float64, shape (replicates,)
        The bootstrap values behind the interval; empty where there is no value.
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


def undefined(reason: str) -> Estimate:
    """Return an estimate without a value."""
    return Estimate(None, None, None, reason)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Return first - second with its paired interval.

    Both must come from one `Resampling`.
    """
    if first.value is None or second.value is None:
        return undefined(first.reason or second.reason or "no value")
    replicates = first.replicates - second.replicates
    return _estimate(first.value - second.value, replicates, "no replicate has a value")


def one_sided(estimate: Estimate) -> Estimate:
    """Return the estimate between the ends of its two one-sided 95% intervals.

    Each end alone is exceeded by chance in 5% of the cases, so that the two make a 90% interval.
    """
    if estimate.value is None:
        return estimate
    low, high = _ends(estimate.replicates, 1 - _LEVEL)
    return replace(estimate, low=low, high=high)


@dataclass(frozen=True, eq=False)
class Resampling:
    """Percentile bootstrap that draws whole groups with replacement (Efron & Tibshirani 1993).

    Rows of one group are near copies of each other; drawing rows alone would make the intervals too
    narrow.

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
            Takes row weights of shape (b, n), returns values of shape (b,), NaN where undefined.
        undefined_reason : str
            What to say where the value on the rows themselves is undefined.
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
        """How often each group is drawn, after a first row of ones: the rows themselves."""
        size = int(self._group_index.max()) + 1
        random = np.random.default_rng(self.seed)
        draws = random.multinomial(size, np.full(size, 1 / size), size=self.replicates)
        return np.concatenate([np.ones((1, size), dtype=np.int64), draws])


def _estimate(value: float, replicates: Floats, undefined_reason: str) -> Estimate:
    if not math.isfinite(value):
        return undefined(undefined_reason)
    if not np.isfinite(replicates).any():
        return undefined(undefined_reason)
    low, high = _ends(replicates, (1 - _LEVEL) / 2)
    return Estimate(value, low, high, None, replicates)


def _ends(replicates: Floats, tail: float) -> tuple[float, float]:
    """Return what a share `tail` of the replicates lies below, and above."""
    low, high = np.percentile(replicates[np.isfinite(replicates)], [100 * tail, 100 * (1 - tail)])
    return float(low), float(high)
