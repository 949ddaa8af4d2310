"""What two windows are compared by: statistics made of sums over groups, so that shuffles are fast.

Each gives, for the windows as they are and for every shuffle, a statistic (how surprising) and a
size (how large, in a unit that a person reads), for one or several parts. What chance alone makes
of a size that cannot be negative is taken away from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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
    "stacked",
]

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]
Mask = NDArray[np.bool_]

_FEWEST_ROWS = 10  # of a part in either window, for a standard error that means something
_FREQUENCIES = 256
_PAIRS = 2000
_LEAST_VARIANCE = 1e-9  # where neither window varies at all


@dataclass(frozen=True, eq=False)
class Shift:
    """How far p parts have moved, in the windows as they are (first) and in b shuffles of them.

    Attributes
    ----------
    statistic, size : ndarray of float64, shape (1 + b, p)
    reference, recent : ndarray of float64, shape (p,)
        The parts' values in the two windows as they are; NaN where no single number is one.
    """

    statistic: Floats
    size: Floats
    reference: Floats
    recent: Floats


class Statistic(Protocol):
    """Something to compare two windows by."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of what it looks at."""

    def columns(self, shuffling: Shuffling) -> Floats:
        """Return what it needs of each unit, shape (u, k)."""

    def shift(self, recent: Floats, total: Floats) -> Shift:
        """Return the shift by the recent window's sums (1 + b, k), and those of both (k,)."""


@dataclass(frozen=True, eq=False)
class Shares:
    """How rows are shared among bins: the population stability index of each of p features.

    It sums (p - q) ln(p / q) over the bins, half a row added to each. Features differ in how many
    bins they have, so the statistic is the index in standard deviations of its shuffles.

    Attributes
    ----------
    parts : tuple of str, length p
    bins : ndarray of intp, shape (n, p)
        The bin of each row, from 0.
    """

    parts: tuple[str, ...]
    bins: Numbers

    def columns(self, shuffling: Shuffling) -> Floats:
        """Return how many rows of each bin a unit has."""
        numbers = (self.bins.max(axis=0) + 1).tolist()
        found = zip(self.bins.T, numbers, strict=True)
        return np.hstack([shuffling.counts(bins, number) for bins, number in found])

    def shift(self, recent: Floats, total: Floats) -> Shift:
        """Return the index of each feature, less what shuffles have."""
        ends = np.cumsum(self.bins.max(axis=0) + 1)[:-1]
        found = zip(np.split(recent, ends, axis=1), np.split(total, ends), strict=True)
        index = np.stack([_stability_index(now, of_all - now) for now, of_all in found], axis=1)
        chance, spread = index[1:].mean(axis=0), index[1:].std(axis=0)
        statistic = (index - chance) / np.where(spread > 0, spread, 1.0)
        unknown = np.full(len(self.parts), np.nan)
        return Shift(statistic, np.maximum(index - chance, 0), unknown, unknown)


@dataclass(frozen=True, eq=False)
class Rates:
    """Means of one value over all rows, and over some of them.

    The statistic is the difference in standard errors over groups, so that it stays valid where one
    window varies more than the other (Janssen 1997).

    Attributes
    ----------
    parts : tuple of str, length p
    values : ndarray of float64, shape (n,)
    masks : ndarray of bool, shape (n, p)
        Which rows each part is about.
    """

    parts: tuple[str, ...]
    values: Floats
    masks: Mask

    @classmethod
    def of_all(cls, name: str, values: "Floats | Mask") -> "Rates":
        """Return the mean over all rows as the only part."""
        return cls((name,), values.astype(np.float64), np.ones((len(values), 1), dtype=bool))

    def columns(self, shuffling: Shuffling) -> Floats:
        """Return counts, sums, and their squares and product."""
        return _moments(shuffling, self.values, self.masks)

    def shift(self, recent: Floats, total: Floats) -> Shift:
        """Return the differences of the means."""
        now, before = _Means.of(recent), _Means.of(total - recent)
        difference = now.mean - before.mean
        size = np.where(_enough(now, before), np.abs(difference), 0)
        return Shift(np.sqrt(_squared_errors(now, before)), size, before.mean[0], now.mean[0])


@dataclass(frozen=True, eq=False)
class Calibration:
    """By how much labels exceed probabilities, bin by bin of the probability.

    Windows whose probabilities differ, and which are equally well calibrated, differ little.
    The size is the root mean square difference of the excess, in units of probability.

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
        """Return counts and sums of the excess, and their squares and product, by bin."""
        inside = self.bins[:, np.newaxis] == np.arange(self.bins.max() + 1)
        return _moments(shuffling, self.labels - self.probabilities, inside)

    def shift(self, recent: Floats, total: Floats) -> Shift:
        """Return how far the bins' excesses lie apart."""
        now, before = _Means.of(recent), _Means.of(total - recent)
        statistic = _squared_errors(now, before).sum(axis=1, keepdims=True)
        weights = _Means.of(total[np.newaxis]).count / _Means.of(total[np.newaxis]).count.sum()
        noise = now.variance + before.variance
        squares = np.where(_enough(now, before), (now.mean - before.mean) ** 2 - noise, 0)
        size = np.sqrt(np.maximum((weights * squares).sum(axis=1, keepdims=True), 0))
        ends = [np.nansum(weights[0] * side.mean[0], keepdims=True) for side in (before, now)]
        return Shift(statistic, size, ends[0], ends[1])


@dataclass(frozen=True, eq=False)
class Distance:
    """How far embeddings lie apart: their maximum mean discrepancy (Gretton et al. 2012).

    Of a Gaussian kernel as wide as the median distance, by random Fourier features (Rahimi & Recht
    2007). Unlike a classifier that tells the windows apart it needs no new fit for a shuffle, holds
    no rows back, and p-values are exact for whichever features were drawn. The size lies between 0
    and the root of 2; a new topic that takes the share s of the traffic adds about s times its own
    distance from the rest.

    Attributes
    ----------
    embedding : ndarray of float32, shape (n, d)
    seed : int
    """

    embedding: NDArray[np.float32]
    seed: int
    parts: tuple[str, ...] = ("embeddings",)

    def columns(self, shuffling: Shuffling) -> Floats:
        """Return how many rows a unit has, and the sums of their Fourier features."""
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
        apart = recent[:, 1:] / recent[:, :1] - before[:, 1:] / before[:, :1]
        squares = (apart**2).sum(axis=1, keepdims=True)
        size = np.sqrt(np.maximum(squares - squares[1:].mean(), 0))
        return Shift(squares, size, np.array([np.nan]), np.array([np.nan]))


def bins_of(values: NDArray[np.floating], count: int) -> Numbers:
    """Return the bin of each value; bins hold about equally many, equal values share one.

    Examples
    --------
    >>> bins_of(np.array([0.0, 0.0, 0.0, 1.0, 2.0, 3.0]), 3).tolist()
    [0, 0, 0, 1, 2, 2]
    """
    inner = np.linspace(0, 1, count + 1)[1:-1]
    edges = np.unique(np.quantile(values, inner, method="inverted_cdf"))
    places = np.searchsorted(edges, values, side="left")
    return np.unique(places, return_inverse=True)[1].astype(np.intp)


def kinds_of(values: NDArray[np.object_], most: int = 20) -> tuple[tuple[str, ...], Numbers]:
    """Return the most frequent values and the number of each row's; all others share the last.

    Examples
    --------
    >>> kinds_of(np.array(["a", "b", "a", "c"], dtype=object), most=1)
    (('a', 'other'), array([0, 1, 0, 1]))
    """
    names, places, counts = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    order = np.lexsort((names, -counts))
    rank = np.empty(len(names), dtype=np.intp)
    rank[order] = np.minimum(np.arange(len(names)), most)
    kept = tuple(str(names[n]) for n in order[:most])
    return kept + (("other",) if len(names) > most else ()), rank[places]


@dataclass(frozen=True, eq=False)
class _Means:
    """Means of p parts in one window, by b deals: count, mean, and squared standard error."""

    count: Floats
    mean: Floats
    variance: Floats

    @classmethod
    def of(cls, sums: Floats) -> "_Means":
        """Take the sums that `_moments` gives, of shape (b, 5p)."""
        count, total, counts, products, squares = np.split(sums, 5, axis=1)
        filled = np.where(count > 0, count, 1.0)
        mean = total / filled
        variance = np.maximum(squares - 2 * mean * products + mean**2 * counts, 0) / filled**2
        return cls(count, mean, variance)


def _moments(shuffling: Shuffling, values: Floats, masks: Mask) -> Floats:
    """Return of each unit and part count, sum, count², count x sum, and sum²."""
    count = shuffling.per_unit(masks.astype(np.float64))
    total = shuffling.per_unit(masks * values[:, np.newaxis])
    return np.hstack([count, total, count**2, count * total, total**2])


def _enough(now: _Means, before: _Means) -> Mask:
    return np.asarray(np.minimum(now.count, before.count) >= _FEWEST_ROWS)


def _squared_errors(now: _Means, before: _Means) -> Floats:
    """Return the squared difference of means in standard errors; 0 where rows are too few."""
    squares = (now.mean - before.mean) ** 2
    noise = np.maximum(now.variance + before.variance, _LEAST_VARIANCE)
    return np.where(_enough(now, before), squares / noise, 0.0)


def _stability_index(now: Floats, before: Floats) -> Floats:
    """Return the index of counts, both of shape (b, bins)."""
    p, q = now + 0.5, before + 0.5
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=1))


def stacked(names: Sequence[str], bins: Sequence[Numbers]) -> Shares:
    """Return the shares of several features; those with one bin only are left out."""
    kept = [n for n, one in enumerate(bins) if one.max() > 0]
    return Shares(tuple(names[n] for n in kept), np.stack([bins[n] for n in kept], axis=1))
