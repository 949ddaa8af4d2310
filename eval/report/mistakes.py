"""The worst mistakes of both kinds, each with the labelled queries nearest to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats, Vectors
from querytier.data.examples import Examples
from querytier.eval.rankings import Ranking

__all__ = ["Neighbourhood", "mistakes_record", "worst_mistakes"]

Places = NDArray[np.intp]

_EXCERPT = 300
_NEAREST = 3


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """Labelled queries, and queries to find neighbours for among them.

    Attributes
    ----------
    known : Examples, length k
        The labelled queries.
    known_vectors : ndarray of float32, shape (k, d)
        Embeddings of the labelled queries.
    query_vectors : ndarray of float32, shape (n, d)
        Embeddings of the other queries, from the same encoder.
    """

    known: Examples
    known_vectors: Vectors
    query_vectors: Vectors

    def nearest(self, index: int, group: str, count: int = _NEAREST) -> list[dict[str, Any]]:
        """Return the labelled queries nearest to a query by cosine, except those of its group."""
        # A near copy of the query would be its nearest neighbour, and explain nothing.
        known, vector = _unit(self.known_vectors), _unit(self.query_vectors[index])
        similarities = np.where(self.known.group == group, -np.inf, known @ vector)
        places = np.argsort(-similarities, kind="stable")[:count]
        return [
            {
                "query": _excerpt(str(self.known.query[place])),
                "similarity": float(similarities[place]),
                "needs_frontier": float(self.known.needs_frontier[place]),
            }
            for place in places
            if np.isfinite(similarities[place])
        ]


def worst_mistakes(
    examples: Examples, decision_scores: Floats, frontier: NDArray[np.bool_]
) -> dict[str, Places]:
    """Return the wrong decisions, the worst first.

    The larger the loss, the worse; for equal losses, the surer the classifier was. The loss is in
    scores if both answers have one, else in labels.

    Parameters
    ----------
    examples : Examples, length n
    decision_scores : ndarray of float64, shape (n,)
    frontier : ndarray of bool, shape (n,)
        Which rows the classifier sends to the frontier tier.

    Returns
    -------
    dict of str to ndarray of intp
        `sent_cheap`: queries that needed the frontier model; `sent_frontier`: queries that did not.
    """
    labels = examples.needs_frontier
    gain = examples.frontier_score - examples.cheap_score if examples.scored else labels
    missed = np.lexsort((decision_scores, -gain))
    wasted = np.lexsort((-decision_scores, gain))
    return {
        "sent_cheap": missed[(~frontier & (labels > 0.5))[missed]],
        "sent_frontier": wasted[(frontier & (labels < 0.5))[wasted]],
    }


def mistakes_record(
    examples: Examples,
    classifier: Ranking,
    frontier: NDArray[np.bool_],
    neighbourhood: Neighbourhood,
    count: int,
) -> Mapping[str, list[dict[str, Any]]]:
    """Return the worst mistakes of both kinds for JSON, at most `count` of each.

    Parameters
    ----------
    examples : Examples, length n
    classifier : Ranking
        A ranking with probabilities.
    frontier : ndarray of bool, shape (n,)
    neighbourhood : Neighbourhood
        Its `query_vectors` are those of the examples.
    count : int
        0 keeps the texts of the log out of the record.
    """
    probabilities = classifier.probabilities
    if probabilities is None:
        raise ValueError(f"{classifier.name} has no probabilities; the classifier needs them")

    def record(place: int) -> dict[str, Any]:
        return {
            "query": _excerpt(str(examples.query[place])),
            "p_frontier": float(probabilities[place]),
            "decision_score": _known(classifier.scores[place]),
            "needs_frontier": float(examples.needs_frontier[place]),
            "cheap_score": _known(examples.cheap_score[place]),
            "frontier_score": _known(examples.frontier_score[place]),
            "neighbours": neighbourhood.nearest(place, str(examples.group[place])),
        }

    found = worst_mistakes(examples, classifier.scores, frontier)
    return {kind: [record(place) for place in places[:count]] for kind, places in found.items()}


def _unit(vectors: Vectors) -> Vectors:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), dtype=np.float32)


def _excerpt(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _EXCERPT else f"{words[: _EXCERPT - 1]}…"


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
