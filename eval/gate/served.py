"""What a router does at its own threshold: frontier rate, quality, cost, calibration."""

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.eval.gate.comparisons import Contender
from querytier.eval.intervals import Estimate, Resampling, weighted_mean
from querytier.eval.metrics import brier

__all__ = ["as_served"]

Floats = NDArray[np.float64]


def as_served(
    examples: Examples, contender: Contender, replicates: int, seed: int
) -> dict[str, Estimate]:
    """Estimate what a router does with rows, each with its 95% interval over groups.

    Parameters
    ----------
    examples : Examples, length n
    contender : Contender
    replicates, seed : int
        Of the bootstrap.

    Returns
    -------
    dict of str to Estimate
        `frontier_rate`; `quality`, the mean score as routed (without scores, the share of
        needs_frontier that is caught); `cost`, the mean a query, where the log has costs; `brier`.
    """
    resampling = Resampling(examples.group.tolist(), replicates, seed)
    frontier, labels = contender.frontier, examples.needs_frontier
    found = {"frontier_rate": resampling.estimate(lambda w: weighted_mean(frontier, w), "")}
    if examples.scored:
        routed = np.where(frontier > 0, examples.frontier_score, examples.cheap_score)
        found["quality"] = resampling.estimate(lambda w: weighted_mean(routed, w), "")
    else:
        found["quality"] = resampling.estimate(
            lambda w: weighted_mean(frontier, w * labels),
            "no row needs the frontier model",
        )
    if examples.priced:
        spent = np.where(frontier > 0, examples.frontier_cost, examples.cheap_cost)
        found["cost"] = resampling.estimate(lambda w: weighted_mean(spent, w), "")
    probabilities = contender.ranking.probabilities
    if probabilities is not None:
        found["brier"] = resampling.estimate(lambda w: brier(probabilities, labels, w), "")
    return found
