"""What orders queries: the classifier, the oracle, chance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples

__all__ = ["Ranking", "oracle", "probability_ranking", "shuffled_decisions"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores that order queries, the ones to send to the frontier tier first.

    Attributes
    ----------
    name : str
    scores : ndarray of float64, shape (n,)
        Higher goes to the frontier tier first.
    probabilities : ndarray of float64, shape (n,), or None
        What is claimed to be P(needs_frontier): the scores, others, or nothing.
    fitted_on : str
        Which rows it learned from, for the reader.
    """

    name: str
    scores: Floats
    probabilities: Floats | None
    fitted_on: str


def probability_ranking(name: str, probabilities: Floats, fitted_on: str) -> Ranking:
    """Return a ranking by what is claimed to be P(needs_frontier)."""
    return Ranking(name, probabilities, probabilities, fitted_on)


def oracle(examples: Examples) -> Ranking:
    """Return the ranking that knows the outcomes: by gain, without scores by label."""
    gain = examples.frontier_score - examples.cheap_score
    scores = gain if examples.scored else examples.needs_frontier
    return Ranking("oracle", scores, None, "the answers themselves")


def shuffled_decisions(classifier: Ranking, seed: int) -> Ranking:
    """Return the classifier's decisions dealt out to the queries by chance.

    At the same frontier rate, this is what the rate alone gives, without any skill. It is one
    permutation; the mean over all of them is what a constant gets.

    Parameters
    ----------
    classifier : Ranking
    seed : int
        Of the permutation.
    """
    scores = np.random.default_rng(seed).permutation(classifier.scores)
    return Ranking("shuffled_decisions", scores, None, "our own decisions, shuffled")
