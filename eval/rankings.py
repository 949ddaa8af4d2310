"""Rankings of queries: the classifier, those that need no training, the oracle, and chance."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats
from querytier.data.examples import Examples

__all__ = [
    "KEYWORD_THRESHOLD",
    "Ranking",
    "keyword_score",
    "keyword_scores",
    "keyword_tier",
    "length_scores",
    "oracle",
    "probability_ranking",
    "shuffled_decisions",
]


KEYWORD_THRESHOLD = 0.6
# The heuristic in articles about routers, word for word; a classifier has to beat it.
_KEYWORDS = ("why", "compare", "analyze", "strategy", "tradeoff")


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores that order queries; the highest go to the frontier tier first.

    Attributes
    ----------
    name : str
    scores : ndarray of float64, shape (n,)
    probabilities : ndarray of float64, shape (n,), or None
        Predicted P(needs_frontier), which may be the scores; None if there is none.
    fitted_on : str
        The rows that it was fitted on, in words.
    """

    name: str
    scores: Floats
    probabilities: Floats | None
    fitted_on: str


def probability_ranking(name: str, probabilities: Floats, fitted_on: str) -> Ranking:
    """Return a ranking by predicted P(needs_frontier)."""
    return Ranking(name, probabilities, probabilities, fitted_on)


def oracle(examples: Examples) -> Ranking:
    """Return the ranking that knows the outcomes: by gain, or by label without scores."""
    # By gain, not by label: queries that the cheap model answers better come last.
    gain = examples.frontier_score - examples.cheap_score
    scores = gain if examples.scored else examples.needs_frontier
    return Ranking("oracle", scores, None, "the answers themselves")


def shuffled_decisions(classifier: Ranking, seed: int) -> Ranking:
    """Return the classifier's decisions in random order.

    At the same frontier rate, this shows the effect of the rate alone, without any skill. It is one
    permutation; the mean over all permutations equals that of a constant.

    Parameters
    ----------
    classifier : Ranking
    seed : int
        For the permutation.
    """
    scores = np.random.default_rng(seed).permutation(classifier.scores)
    return Ranking("shuffled_decisions", scores, None, "our own decisions, shuffled")


def keyword_score(query: str) -> float:
    """Return the score of the published keyword heuristic, in [0, 1].

    `min(length / 400, 1)` plus 0.2 for each of five words in the query, at most 1.

    Examples
    --------
    >>> round(keyword_score("Why is the sky blue?"), 3)
    0.25
    """
    text = query.lower()
    return min(min(len(query) / 400, 1) + 0.2 * sum(word in text for word in _KEYWORDS), 1.0)


def keyword_tier(query: str) -> str:
    """Return the tier that the published keyword heuristic chooses: frontier above 0.6.

    Examples
    --------
    >>> keyword_tier("Analyze the tradeoffs of switching our checkout to a subscription model")
    'cheap'
    """
    return "frontier" if keyword_score(query) > KEYWORD_THRESHOLD else "cheap"


def keyword_scores(queries: Iterable[str]) -> NDArray[np.float64]:
    """Return `keyword_score` of each query."""
    return np.array([keyword_score(query) for query in queries])


def length_scores(queries: Iterable[str]) -> NDArray[np.float64]:
    """Return the length of each query in characters."""
    return np.array([float(len(query)) for query in queries])
