"""Calibration: the parts of the Brier score, and the distance of probabilities from shares.

All bins have the same number of rows, equal probabilities share a bin, and bins are set once for
all row weights. Differences within a bin are invisible: the calibration error is that of the binned
probabilities, and the true error may be larger (Kumar, Liang & Ma 2019).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats
from querytier.eval.intervals import Estimate, Resampling, clustered_mean
from querytier.eval.metrics import brier, tie_starts

__all__ = [
    "BrierParts",
    "ReliabilityBin",
    "brier_parts",
    "calibration_scores",
    "log_loss",
    "reliability_bins",
]

Starts = NDArray[np.intp]

_BINS = 10
_PARTS = ("reliability", "resolution", "uncertainty")
_Z = 1.959964  # the 97.5% quantile of the normal distribution
# The graph's probabilities are float32; if they are closer to 0 or 1 than this, they are 0 or 1.
_NEAREST = 1e-7


@dataclass(frozen=True, eq=False)
class BrierParts:
    """The parts of the Brier score for b row weights at once (Murphy 1973).

    Brier score = reliability - resolution + uncertainty + within_bins.

    Attributes
    ----------
    reliability : ndarray of float64, shape (b,)
        Squared calibration error: mean squared distance of a bin's mean probability from its share
        of needs_frontier. 0 is best; corrected for bias, it can be below 0 by chance.
    resolution : ndarray of float64, shape (b,)
        Variance of that share between bins: how well the probabilities separate the rows.
    uncertainty : ndarray of float64, shape (b,)
        Variance of the labels: the Brier score of their mean.
    within_bins : ndarray of float64, shape (b,)
        The rest, because probabilities in one bin differ (Stephenson, Coelho & Jolliffe 2008).
    """

    reliability: Floats
    resolution: Floats
    uncertainty: Floats
    within_bins: Floats


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """A point of the reliability diagram.

    Attributes
    ----------
    predicted : float
        Mean probability of the bin.
    observed, low, high : float
        Share that needed the frontier model, with its 95% interval.
    rows, groups : int
    """

    predicted: float
    observed: float
    low: float
    high: float
    rows: int
    groups: int


def calibration_scores(
    probabilities: Floats, needs_frontier: Floats, resampling: Resampling, bins: int = _BINS
) -> dict[str, Estimate]:
    """Score probabilities, with intervals of the bootstrap over groups.

    Parameters
    ----------
    probabilities, needs_frontier : ndarray of float64, shape (n,)
        In [0, 1].
    resampling : Resampling
        Bootstrap over the groups of these rows.
    bins : int

    Returns
    -------
    dict of str to Estimate
        `brier`, `log_loss`; `reliability`, `resolution` and `uncertainty`, the parts of the Brier
        score, corrected for bias; `calibration_error`, the root of the reliability (0 if that is
        below 0): the debiased root mean squared calibration error, in units of probability.
    """

    def score(metric: Callable[[Floats, Floats, Floats], Floats]) -> Estimate:
        return resampling.estimate(
            lambda weights: metric(probabilities, needs_frontier, weights), "there are no rows"
        )

    parts = _debiased_parts(probabilities, needs_frontier, resampling, bins)
    return {
        "brier": score(brier),
        "log_loss": score(log_loss),
        **parts,
        "calibration_error": _root(parts["reliability"]),
    }


def brier_parts(
    probabilities: Floats,
    needs_frontier: Floats,
    weights: Floats,
    bins: int = _BINS,
    *,
    debiased: bool = True,
) -> BrierParts:
    """Return the parts of the Brier score; other shapes as in `querytier.eval.metrics.auroc`.

    Parameters
    ----------
    probabilities, needs_frontier : ndarray of float64, shape (n,)
    weights : ndarray of float64, shape (b, n)
    bins : int
        Largest number of bins, of equally many rows.
    debiased : bool
        Whether to subtract what chance adds to the plain parts (Ferro & Fricker 2012); the
        reliability is then the squared calibration error of Kumar, Liang & Ma (2019). Their sum
        stays the same. Rows of one group count as independent here, though not in intervals.

    Examples
    --------
    >>> probabilities, labels = np.repeat([0.25, 0.75], 4), np.array([0.0, 0, 0, 1, 0, 1, 1, 1])
    >>> parts = brier_parts(probabilities, labels, np.ones((1, 8)), debiased=False)
    >>> parts.reliability, parts.resolution, parts.uncertainty
    (array([0.]), array([0.0625]), array([0.25]))
    """
    order = np.argsort(probabilities, kind="stable")
    starts = _bin_starts(probabilities[order], bins)
    p, y, w = probabilities[order], needs_frontier[order], weights[:, order]
    sizes, total = np.add.reduceat(w, starts, axis=1), w.sum(axis=1)
    filled = np.where(sizes > 0, sizes, 1.0)
    predicted = np.add.reduceat(w * p, starts, axis=1) / filled
    observed = np.add.reduceat(w * y, starts, axis=1) / filled
    spread = np.maximum(np.add.reduceat(w * y**2, starts, axis=1) / filled - observed**2, 0)
    share, mean = sizes / total[:, np.newaxis], w @ y / total
    reliability = (share * (predicted - observed) ** 2).sum(axis=1)
    resolution = (share * observed**2).sum(axis=1) - mean**2
    uncertainty = np.maximum(w @ y**2 / total - mean**2, 0)
    within = brier(p, y, w) - (reliability - resolution + uncertainty)
    if debiased:
        # The share of a bin is an estimate: its variance adds to the squared distance, most of all
        # with few rows a bin. Without the correction, even a perfectly calibrated model has a
        # reliability above 0.
        of_bins = (share * spread / np.maximum(sizes - 1, 1)).sum(axis=1)
        of_mean = uncertainty / np.maximum(total - 1, 1)
        reliability = reliability - of_bins
        resolution = resolution - of_bins + of_mean
        uncertainty = uncertainty + of_mean
    return BrierParts(reliability, resolution, uncertainty, within)


def log_loss(probabilities: Floats, needs_frontier: Floats, weights: Floats) -> Floats:
    """Return the mean negative log likelihood in nats; shapes as in `brier_parts`, result (b,).

    Probabilities count as at least 1e-7 away from 0 and 1.

    Examples
    --------
    >>> log_loss(np.array([0.5, 1.0]), np.array([0.0, 1.0]), np.ones((1, 2))).round(3)
    array([0.347])
    """
    p = np.clip(probabilities, _NEAREST, 1 - _NEAREST)
    losses = -(needs_frontier * np.log(p) + (1 - needs_frontier) * np.log1p(-p))
    return np.asarray(weights @ losses / weights.sum(axis=1))


def reliability_bins(
    probabilities: Floats, needs_frontier: Floats, groups: NDArray[np.object_], bins: int = _BINS
) -> list[ReliabilityBin]:
    """Return the points of the reliability diagram, by ascending probability.

    Intervals are Wilson's at the number of independent rows that would leave the same standard
    error as the groups do (Dean & Pagano 2015), so that a bin without events has an interval, too.

    Parameters
    ----------
    probabilities, needs_frontier : ndarray of float64, shape (n,)
    groups : ndarray of object, shape (n,)
    bins : int
        Largest number of bins, of equally many rows.
    """
    order = np.argsort(probabilities, kind="stable")
    parts = np.split(order, _bin_starts(probabilities[order], bins)[1:])
    return [_bin(probabilities[rows], needs_frontier[rows], groups[rows]) for rows in parts]


def _bin_starts(ordered: Floats, bins: int) -> Starts:
    """Return the starts of bins of about the same number of rows, with equal values in one bin."""
    wanted = np.linspace(0, len(ordered), min(bins, len(ordered)) + 1)[:-1]
    ties = tie_starts(ordered)
    # A boundary inside a run of equal probabilities moves to the start of the run, or the order of
    # the log would decide which of the equal rows is in which bin.
    nearest = ties[np.clip(np.searchsorted(ties, wanted, side="right") - 1, 0, None)]
    return np.unique(nearest)


def _bin(probabilities: Floats, labels: Floats, groups: NDArray[np.object_]) -> ReliabilityBin:
    found = clustered_mean(labels, groups)
    share = min(max(found.mean, 0.0), 1.0)
    low, high = _wilson(share, _independent_rows(share, found.standard_error, found.groups))
    return ReliabilityBin(float(probabilities.mean()), share, low, high, found.rows, found.groups)


def _independent_rows(share: float, standard_error: float, groups: int) -> float:
    """Return the number of independent rows with this standard error; at most one per group."""
    if not standard_error > 0:
        return groups
    return min(share * (1 - share) / standard_error**2, groups)


def _wilson(share: float, rows: float) -> tuple[float, float]:
    scale = 1 + _Z**2 / rows
    centre = (share + _Z**2 / (2 * rows)) / scale
    half = _Z * (share * (1 - share) / rows + _Z**2 / (4 * rows**2)) ** 0.5 / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def _debiased_parts(
    probabilities: Floats, needs_frontier: Floats, resampling: Resampling, bins: int
) -> dict[str, Estimate]:
    def parts(weights: Floats, *, debiased: bool) -> Floats:
        found = brier_parts(probabilities, needs_frontier, weights, bins, debiased=debiased)
        return np.stack([getattr(found, name) for name in _PARTS], axis=1)

    plain = parts(np.ones((1, len(probabilities))), debiased=False)[0]
    corrected = resampling.values(lambda weights: parts(weights, debiased=True))
    return {name: _pivoted(float(plain[k]), corrected[:, k]) for k, name in enumerate(_PARTS)}


def _pivoted(plain: float, corrected: Floats) -> Estimate:
    """Return the interval of an estimate that is corrected for bias.

    Among the resamples the plain value plays the truth, and the corrected values scatter around it
    as the estimate does around the real truth (Kumar, Liang & Ma 2019). The percentile interval
    would be biased: a resample contains rows twice, which looks like more miscalibration.
    """
    value, replicates = float(corrected[0]), corrected[0] - (corrected[1:] - plain)
    low, high = np.percentile(replicates, [2.5, 97.5])
    return Estimate(value, float(low), float(high), None, replicates)


def _root(squared: Estimate) -> Estimate:
    ends = (squared.value, squared.low, squared.high)
    value, low, high = (max(end or 0.0, 0.0) ** 0.5 for end in ends)
    return Estimate(value, low, high, None, np.sqrt(np.maximum(squared.replicates, 0)))
