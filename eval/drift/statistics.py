"""Statistics that compare two windows, computed from sums over groups so that shuffles are fast.

Each returns, for the real windows and for every shuffle, a statistic (how surprising) and a size
(how large, in a readable unit), for one or several parts. A size that cannot be negative is above 0
by chance alone; that amount is subtracted.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats, Mask
from querytier.eval.drift.windows import Shuffling

__all__ = [
    "Calibration",
    "Distance",
    "Rates",
    "Shares",
    "Shift",
    "Statistic",
    "bins_of",
    "kinds_of",
]

Numbers = NDArray[np.intp]

# A part with fewer rows in either window is not compared: its standard error means little.
_FEWEST_ROWS = 10
_FREQUENCIES = 256  # approximate the kernel to about 1 / sqrt(256); p-values are exact anyway
_PAIRS = 2000  # of rows, for the median distance
# Replaces the variance if neither window varies at all, as the share of cut queries often does.
_LEAST_VARIANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Shift:
    """How far p parts have moved: first in the real windows, then in b shuffles of them.

    Attributes
    ----------
    statistic, size : ndarray of float64, shape (1 + b, p)
    reference, recent : ndarray of float64, shape (p,)
        The parts' values in the two real windows; NaN if no single number describes them.
    """

    statistic: Floats
    size: Floats
    reference: Floats
    recent: Floats


class Statistic(Protocol):
    """Something that compares two windows."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of its parts."""

    def columns(self, shuffling: Shuffling) -> Floats:
        """Return the sums that it needs of each unit, shape (u, k)."""

    def shift(self, recent: Floats, total: Floats) -> Shift:
        """Return the shift, from the sums of the recent window (1 + b, k) and of both (k,)."""


@dataclass(frozen=True, eq=False)
class Shares:
    """How rows are distributed over bins: the population stability index of each of p features.

    It sums (p - q) ln(p / q) over the bins. Features differ in their number of bins, so chance
    moves their indices by different amounts. The statistic is therefore the index in standard
    deviations of its shuffles.

    Attributes
    ----------
    parts : tuple of str, length p
    bins : ndarray of intp, shape (n, p)
        The bin of each row, from 0.
    """

    parts: tuple[str, ...]
    bins: Numbers

    @classmethod
    def of_features(
        cls, names: tuple[str, ...], values: NDArray[np.floating], count: int
    ) -> Self | None:
        """Return the features of `values`, shape (n, k), in `count` bins; None if all are constant.

        A constant feature is left out: it has only one bin.
        """
        bins = {name: bins_of(column, count) for name, column in zip(names, values.T, strict=True)}
        varying = {name: numbers for name, numbers in bins.items() if numbers.max() > 0}
        return cls(tuple(varying), np.stack([*varying.values()], axis=1)) if varying else None

    def columns(self, shuffling: Shuffling) -> Floats:
        """Return the number of rows in each bin for each unit."""
        numbers = (self.bins.max(axis=0) + 1).tolist()
        pairs = zip(self.bins.T, numbers, strict=True)
        return np.hstack([shuffling.counts(bins, number) for bins, number in pairs])

    def shift(self, recent: Floats, total: Floats) -> Shift:
        """Return the index of each feature, minus the mean index of its shuffles."""
        ends = np.cumsum(self.bins.max(axis=0) + 1)[:-1]
        pairs = zip(np.split(recent, ends, axis=1), np.split(total, ends), strict=True)
        index = np.stack([_stability_index(now, both - now) for now, both in pairs], axis=1)
        # Without drift the index of n and m rows is about (bins - 1) (1/n + 1/m), not 0.
        chance, spread = index[1:].mean(axis=0), index[1:].std(axis=0)
        statistic = (index - chance) / np.where(spread > 0, spread, 1.0)
        unknown = np.full(len(self.parts), np.nan)
        return Shift(statistic, np.maximum(index - chance, 0), unknown, unknown)


@dataclass(frozen=True, eq=False)
class Rates:
    """Means of one value over all rows and over subsets of them.

    The statistic is the difference in standard errors over groups: a permutation test of the plain
    difference is invalid if one window varies more than the other, a studentised one is not
    (Janssen 1997).

    Attributes
    ----------
    parts : tuple of str, length p
    values : ndarray of float64, shape (n,)
    masks : ndarray of bool, shape (n, p)
        The rows of each part.
    """

    parts: tuple[str, ...]
    values: Floats
    masks: Mask

    @classmethod
    def of_all(cls, name: str, values: "Floats | Mask") -> "Rates":
        """Return the mean over all rows as the only part."""
        return cls((name,), values.astype(np.float64), np.ones((len(values), 1), dtype=bool))

    def columns(self, shuffling: Shuffling) -> Floats:
        """Return counts, sums, their squares and their product."""
        return _moments(shuffling, self.values, self.masks)

    def shift(self, recent: Floats, total: Floats) -> Shift:
        """Return the differences of the means."""
        now, before = _Means.of(recent), _Means.of(total - recent)
        difference = now.mean - before.mean
        size = np.where(_enough(now, before), np.abs(difference), 0)
        return Shift(np.sqrt(_squared_errors(now, before)), size, before.mean[0], now.mean[0])


@dataclass(frozen=True, eq=False)
class Calibration:
    """The excess of labels over probabilities, in each bin of the probability.

    Comparing bin by bin keeps a shift of the inputs from looking like worse calibration: two
    windows with different probabilities that are equally well calibrated differ little. The size is
    the root mean square difference of the excess, in units of probability.

    Attributes
    ----------
    probabilities, labels : ndarray of float64, shape (n,)
    bins : ndarray of intp, shape (n,)
    """

    probabilities: Floats
    labels: Floats
    bins: Numbers
    parts: tuple[str, ...] = ("calibration",)

    def columns(self, shuffling: Shuffling) -> Floats:
        """Return counts and sums of the excess, their squares and their product, for each bin."""
        inside = self.bins[:, np.newaxis] == np.arange(self.bins.max() + 1)
        return _moments(shuffling, self.labels - self.probabilities, inside)

    def shift(self, recent: Floats, total: Floats) -> Shift:
        """Return the distance between the excesses of the bins."""
        now, before = _Means.of(recent), _Means.of(total - recent)
        statistic = _squared_errors(now, before).sum(axis=1, keepdims=True)
        rows = _Means.of(total[np.newaxis]).count
        weights = rows / rows.sum()
        # A squared difference of two means is too large by their variance, on average.
        noise = now.variance + before.variance
        squares = np.where(_enough(now, before), (now.mean - before.mean) ** 2 - noise, 0)
        size = np.sqrt(np.maximum((weights * squares).sum(axis=1, keepdims=True), 0))
        ends = [np.nansum(weights[0] * side.mean[0], keepdims=True) for side in (before, now)]
        return Shift(statistic, size, ends[0], ends[1])


@dataclass(frozen=True, eq=False)
class Distance:
    """The maximum mean discrepancy of the embeddings (Gretton et al. 2012).

    The kernel is Gaussian, as wide as the median distance, approximated by random Fourier features
    (Rahimi & Recht 2007): cos(wx) and sin(wx) for random frequencies w. Their means are sums over
    groups, so a shuffle costs one product of matrices. A classifier that separates the windows
    would need a new fit for each shuffle, and held-out rows. P-values are exact for any frequencies
    drawn. The size is between 0 and the square root of 2; a new topic with the share s of the
    traffic adds about s times its own distance from the rest.

    Attributes
    ----------
    embedding : ndarray of float32, shape (n, d)
    seed : int
    """

    embedding: NDArray[np.float32]
    seed: int
    parts: tuple[str, ...] = ("embeddings",)

    def columns(self, shuffling: Shuffling) -> Floats:
        """Return the number of rows of each unit, and the sums of their Fourier features."""
        random = np.random.default_rng(self.seed)
        ends = self.embedding[random.integers(len(self.embedding), size=(2, _PAIRS))]
        width = float(np.median(np.linalg.norm(ends[0] - ends[1], axis=1))) or 1.0
        shape = (self.embedding.shape[1], _FREQUENCIES)
        angles = self.embedding @ (random.standard_normal(shape) / width).astype(np.float32)
        waves = np.hstack([np.cos(angles), np.sin(angles)]) / np.sqrt(_FREQUENCIES)
        return shuffling.per_unit(np.hstack([np.ones((len(waves), 1)), waves]))

    def shift(self, recent: Floats, total: Floats) -> Shift:
        """Return the distance between the mean features."""
        before = total - recent
        # The distance of two mean feature vectors estimates that of the kernel's mean embeddings.
        apart = recent[:, 1:] / recent[:, :1] - before[:, 1:] / before[:, :1]
        squares = (apart**2).sum(axis=1, keepdims=True)
        size = np.sqrt(np.maximum(squares - squares[1:].mean(), 0))
        return Shift(squares, size, np.array([np.nan]), np.array([np.nan]))


def bins_of(values: NDArray[np.floating], count: int) -> Numbers:
    """Return the bin of each value; bins are about equally large, and equal values share a bin.

    Examples
    --------
    >>> bins_of(np.array([0.0, 0.0, 0.0, 1.0, 2.0, 3.0]), 3).tolist()
    [0, 0, 0, 1, 2, 2]
    """
    # Quantiles of both windows together: those of the reference alone would change with the
    # shuffle.
    inner = np.linspace(0, 1, count + 1)[1:-1]
    edges = np.unique(np.quantile(values, inner, method="inverted_cdf"))
    places = np.searchsorted(edges, values, side="left")
    return np.unique(places, return_inverse=True)[1].astype(np.intp)


def kinds_of(values: NDArray[np.object_], limit: int = 20) -> tuple[tuple[str, ...], Numbers]:
    """Return the most frequent values, and the index of each row's value; others share one.

    Examples
    --------
    >>> kinds_of(np.array(["a", "b", "a", "c"], dtype=object), limit=1)
    (('a', 'other'), array([0, 1, 0, 1]))
    """
    names, places, counts = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    order = np.lexsort((names, -counts))
    rank = np.empty(len(names), dtype=np.intp)
    rank[order] = np.minimum(np.arange(len(names)), limit)
    kept = tuple(str(names[n]) for n in order[:limit])
    return kept + (("other",) if len(names) > limit else ()), rank[places]


@dataclass(frozen=True, eq=False)
class _Means:
    """Means of p parts in one window, for b shuffles: count, mean, and squared standard error."""

    count: Floats
    mean: Floats
    variance: Floats

    @classmethod
    def of(cls, sums: Floats) -> "_Means":
        """Compute them from the sums of `_moments`, shape (b, 5p).

        The variance is that of a ratio of sums over groups: sum (total - mean * count)² / count².
        """
        count, total, counts, products, squares = np.split(sums, 5, axis=1)
        filled = np.where(count > 0, count, 1.0)
        mean = total / filled
        variance = np.maximum(squares - 2 * mean * products + mean**2 * counts, 0) / filled**2
        return cls(count, mean, variance)


def _moments(shuffling: Shuffling, values: Floats, masks: Mask) -> Floats:
    """Return for each unit and part: count, sum, count², count x sum, sum²."""
    count = shuffling.per_unit(masks.astype(np.float64))
    total = shuffling.per_unit(masks * values[:, np.newaxis])
    return np.hstack([count, total, count**2, count * total, total**2])


def _enough(now: _Means, before: _Means) -> Mask:
    return np.asarray(np.minimum(now.count, before.count) >= _FEWEST_ROWS)


def _squared_errors(now: _Means, before: _Means) -> Floats:
    """Return the squared difference of means in standard errors; 0 if rows are too few."""
    squares = (now.mean - before.mean) ** 2
    noise = np.maximum(now.variance + before.variance, _LEAST_VARIANCE)
    return np.where(_enough(now, before), squares / noise, 0.0)


def _stability_index(now: Floats, before: Floats) -> Floats:
    """Return the index of counts, both of shape (b, bins)."""
    # Half a row more in each bin keeps the logarithm finite if a window has no row there.
    p, q = now + 0.5, before + 0.5
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=1))
