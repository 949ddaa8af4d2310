"""Whether a log can evaluate another policy: only if both sometimes choose the same tiers.

The importance weight of a decision is its probability under the new policy, divided by its
propensity: the probability under the policy that wrote the log. An estimate from weights is
possible only if the log contains every tier, for every kind of query, that the new policy chooses.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats
from querytier.eval.intervals import clustered_mean
from querytier.eval.off_policy.logged_decisions import LoggedDecisions

__all__ = [
    "Overlap",
    "OverlapBins",
    "importance_weights",
    "missing_values",
    "overlap_bins",
    "overlap_of",
]


# Standard errors between the mean weight and 1: in a sound log, chance and the heavy tails of the
# weights stay far below this.
_IMPLAUSIBLE = 5.0


@dataclass(frozen=True, slots=True)
class Overlap:
    """How far a log covers a new policy.

    Attributes
    ----------
    rows, groups : int
    new_frontier_rate : float
        Share of the rows that the new policy sends to the frontier tier.
    effective_groups : float or None
        Effective sample size of the importance weights (Kish 1965), summed by group: the number of
        equally weighted groups that would be as informative.
    largest_weight : float or None
        The largest importance weight of a row.
    mean_weight : float or None
        About 1 if the propensities are right and nothing is missing.
    without_overlap : float or None
        Share of the new policy's decisions for a tier that the logging policy could not choose.
    reason : str or None
        Why the log cannot evaluate the new policy; None if it can.
    """

    rows: int
    groups: int
    new_frontier_rate: float
    effective_groups: float | None
    largest_weight: float | None
    mean_weight: float | None
    without_overlap: float | None
    reason: str | None


@dataclass(frozen=True, eq=False)
class OverlapBins:
    """The new policy's decisions by the logging policy's probability of the frontier tier.

    Attributes
    ----------
    edges : ndarray of float64, shape (k + 1,)
        Bins of the logging policy's frontier probability, from 0 to 1.
    cheap, frontier : ndarray of float64, shape (k,)
        Share of all rows that are in a bin and go to the tier under the new policy; both arrays
        together add up to 1.
    cheap_without, frontier_without : float
        Share of all rows that go to a tier that the logging policy could not choose.
    """

    edges: Floats
    cheap: Floats
    frontier: Floats
    cheap_without: float
    frontier_without: float


def importance_weights(log: LoggedDecisions, new_frontier: Floats) -> Floats:
    """Return the probability of each logged decision under the new policy over its propensity.

    Parameters
    ----------
    log : LoggedDecisions
    new_frontier : ndarray of float64, shape (n,)
        The new policy's probability of the frontier tier, in [0, 1].

    Returns
    -------
    ndarray of float64, shape (n,)
        0 or more; NaN if the propensity is NaN.
    """
    return np.where(log.frontier, new_frontier, 1 - new_frontier) / log.propensity


def overlap_of(
    log: LoggedDecisions, new_frontier: Floats, *, fewest_effective: float = 100.0
) -> Overlap:
    """Measure how far a log covers a new policy, and whether that is enough to evaluate it.

    Parameters
    ----------
    log : LoggedDecisions
    new_frontier : ndarray of float64, shape (n,)
        In [0, 1].
    fewest_effective : float
        Smallest effective number of groups for an evaluation.

    Raises
    ------
    ValueError
        If the number of probabilities differs from the number of rows, or one is outside [0, 1].
    """
    _check_policy(log, new_frontier)
    rate, groups = float(new_frontier.mean()), len(np.unique(log.group.astype(str)))
    missing = missing_values(log.propensity, "propensity")
    if missing is not None:
        return Overlap(len(log), groups, rate, None, None, None, None, missing)
    weights = importance_weights(log, new_frontier)
    effective = _effective_groups(log, weights)
    without = sum(_without_overlap(log, new_frontier))
    # The most specific reason comes first: a tier that the log never contains also lacks overlap,
    # and lowers the effective sample size.
    reason = _never_taken(log, new_frontier)
    if reason is None and without:
        reason = (
            f"for {without:.1%} of the new policy's decisions the logging router could not choose "
            "that tier (propensity 1 of the other one); let it explore there, or leave these rows "
            "out and evaluate the others only"
        )
    elif reason is None and effective < fewest_effective:
        reason = (
            f"the effective sample size is {effective:.1f} groups, at least {fewest_effective:g} "
            "are needed: the log agrees too rarely with the new policy; log more, or explore more"
        )
    reason = reason or _implausible(log, new_frontier)
    largest, mean = float(weights.max()), float(weights.mean())
    return Overlap(len(log), groups, rate, effective, largest, mean, without, reason)


def overlap_bins(log: LoggedDecisions, new_frontier: Floats, bins: int = 20) -> OverlapBins:
    """Return the data of the overlap plot; parameters as in `overlap_of`.

    Raises
    ------
    ValueError
        If a propensity is missing, or the probabilities do not fit the log.
    """
    _check_policy(log, new_frontier)
    missing = missing_values(log.propensity, "propensity")
    if missing is not None:
        raise ValueError(missing)
    chance, edges = log.frontier_propensity, np.linspace(0, 1, bins + 1)
    cheap = np.histogram(chance, edges, weights=1 - new_frontier)[0] / len(log)
    frontier = np.histogram(chance, edges, weights=new_frontier)[0] / len(log)
    return OverlapBins(edges, cheap, frontier, *_without_overlap(log, new_frontier))


def missing_values(column: Floats, name: str) -> str | None:
    """Return a message if rows lack a value; None if all have one.

    Rows are never left out silently, because an estimate without them answers another question.
    """
    count = int(np.isnan(column).sum())
    if not count:
        return None
    return (
        f"{count} of {len(column)} rows have no {name}, and none is assumed; log it, or leave "
        "these rows out and evaluate the others only"
    )


def _check_policy(log: LoggedDecisions, new_frontier: Floats) -> None:
    if new_frontier.shape != (len(log),):
        raise ValueError(
            f"the log has {len(log)} rows, and the new policy's probabilities have the shape "
            f"{new_frontier.shape}; give one per row"
        )
    if not ((new_frontier >= 0) & (new_frontier <= 1)).all():
        raise ValueError(
            "the new policy's frontier probabilities must be in [0, 1], and range from "
            f"{new_frontier.min():g} to {new_frontier.max():g}"
        )


def _never_taken(log: LoggedDecisions, new_frontier: Floats) -> str | None:
    for tier, taken, wanted in _by_tier(log, new_frontier):
        if wanted.any() and not wanted[taken].any():
            return (
                f"the log never has the {tier} tier when the new policy chooses it, on "
                f"{wanted.mean():.1%} of the rows; let the router explore there"
            )
    return None


def _implausible(log: LoggedDecisions, new_frontier: Floats) -> str | None:
    """Compare the number of rows with each tier with the number that the propensities predict."""
    for tier, taken, wanted in _by_tier(log, new_frontier):
        rows = wanted > 0
        if not rows.any():
            continue
        mean, error = _mean_weight(log.where(rows), taken[rows], wanted[rows])
        if abs(mean - 1) > _IMPLAUSIBLE * error + 1e-9:
            return (
                f"if the new policy chooses the {tier} tier, the mean importance weight is "
                f"{mean:.3f} (standard error {error:.3f}) and should be 1 with the right "
                "propensities; check that the router logs the propensity of the tier it chose, and "
                "whether answers of one tier lack an outcome more often"
            )
    return None


def _mean_weight(
    log: LoggedDecisions, taken: NDArray[np.bool_], wanted: Floats
) -> tuple[float, float]:
    """Return a tier's mean weight, and its observed or predicted standard error if larger."""
    chance = np.where(taken, log.propensity, 1 - log.propensity)
    surplus = clustered_mean(wanted * (taken / chance - 1), log.group)
    index = np.unique(log.group.astype(str), return_inverse=True)[1]
    spread = np.bincount(index, weights=wanted * np.sqrt((1 - chance) / chance))
    # If chance explored too few rows, the observed error is too small in just those logs whose mean
    # weight is far from 1. The propensities predict it without that bias.
    predicted = float(np.sqrt(spread @ spread)) / len(log)
    share = float(wanted.mean())
    return 1 + surplus.mean / share, float(np.fmax(surplus.standard_error, predicted)) / share


def _by_tier(
    log: LoggedDecisions, new_frontier: Floats
) -> tuple[tuple[str, NDArray[np.bool_], Floats], ...]:
    """Return each tier with its rows, and its probability under the new policy."""
    return ("cheap", ~log.frontier, 1 - new_frontier), ("frontier", log.frontier, new_frontier)


def _without_overlap(log: LoggedDecisions, new_frontier: Floats) -> tuple[float, float]:
    """Return the share of rows that go cheap, and to the frontier tier, without overlap."""
    sure = log.propensity >= 1
    cheap = float(((1 - new_frontier) * (sure & log.frontier)).mean())
    return cheap, float((new_frontier * (sure & ~log.frontier)).mean())


def _effective_groups(log: LoggedDecisions, weights: Floats) -> float:
    # By group, because a hundred copies of a row are no more informative than one row.
    sums = np.bincount(np.unique(log.group.astype(str), return_inverse=True)[1], weights=weights)
    squares = float(sums @ sums)
    return float(sums.sum()) ** 2 / squares if squares else 0.0
