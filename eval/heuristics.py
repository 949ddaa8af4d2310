"""Scores that need no training: what routers use today, and what any classifier has to beat."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEYWORD_THRESHOLD", "keyword_score", "keyword_scores", "keyword_tier", "length_scores"]

KEYWORD_THRESHOLD = 0.6
_KEYWORDS = ("why", "compare", "analyze", "strategy", "tradeoff")


def keyword_score(query: str) -> float:
    """Return the score of the published keyword heuristic, in [0, 1].

    `min(length / 400, 1)` plus 0.2 for each of five words that occurs, capped at 1.

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
