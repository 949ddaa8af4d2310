"""Parity: a graph that differs from the fitted classifier is not exported."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.golden import golden_queries
from querytier.classifier.manifest import Tolerance
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Heads
from querytier.classifier.model.typicality import Typicality
from querytier.classifier.runtime import Classifier
from querytier.data.text_view import text_view
from querytier.errors import ExportError

__all__ = ["Parity", "check_parity", "parity_views", "tolerance_for"]

Floats = NDArray[np.floating]

# scikit-learn puts splits on values that rows share, so rounding decides there: 3 of 300 texts
# differed, by up to 0.0016. Splits are now moved midway, but a text may still hit one.
_SHARE_ON_A_SPLIT = 0.01
_LARGEST_STEP = 0.01
# A typicality is a rank among a few hundred distances: rounding moves it past a few of them.
_TYPICALITY_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the graph differs from the classifier as it was fitted; part of the manifest.

    It contains no text, because a text may come from a user's log.

    Attributes
    ----------
    texts : int
    max_difference, mean_difference : float
        Absolute difference in p_frontier and decision score, given the graph's own embedding, and
        in the embedding, unless it is quantised.
    tolerance : float
    """

    texts: int
    max_difference: float
    mean_difference: float
    tolerance: float


def tolerance_for(heads: Heads, difference: float) -> Tolerance:
    """Return how far rounding by at most `difference` can move the scores of heads.

    With trees, one text in a hundred may differ by up to 0.01: rounding can put a feature on the
    other side of a split.
    """
    if heads.smooth:
        return Tolerance(difference, 0.0, difference)
    return Tolerance(difference, _SHARE_ON_A_SPLIT, _LARGEST_STEP)


def parity_views(queries: Sequence[str], count: int) -> list[str]:
    """Return distinct views for the parity gate: of the golden queries, then of the log's.

    Parameters
    ----------
    queries : sequence of str
        Queries of the training split.
    count : int
        Largest number of views.
    """
    views = dict.fromkeys(text_view(query) for query in [*golden_queries(), *queries[:count]])
    return [view for view in views if view][:count]


def check_parity(
    classifier: Classifier,
    features: Features,
    heads: Heads,
    views: Sequence[str],
    *,
    tolerance: float,
    typicality: Typicality | None = None,
) -> Parity:
    """Compare the graph, run on one text at a time as in serving, with the fitted classifier.

    Embeddings are compared with the encoder's; scores and typicality are compared with those that
    heads and `typicality` compute from the graph's own embeddings.

    Raises
    ------
    ExportError
        If they differ by more than the tolerance; names the text with the largest difference.
    """
    embeddings = np.array([classifier.embedding(view) for view in views])
    # Not from the encoder's embeddings: rounding there can put a feature on the other side of a
    # tree's split, which no tolerance could tell from a mistake in the heads.
    read = features.from_embeddings(embeddings, views)
    scores = [classifier.scores(view, typicality=typicality is not None) for view in views]
    fitted = {"p_frontier": heads.p_frontier, "decision_score": heads.decision_scores}
    by_output: dict[str, Floats] = {
        name: np.abs(compute(read) - [getattr(one, name) for one in scores])
        for name, compute in fitted.items()
    }
    # Quantised embeddings differ on purpose; the flip budget judges those.
    if classifier.manifest.precision == "fp32":
        distances = np.abs(embeddings - features.encoder.encode(views))
        by_output["sentence_embedding"] = distances.max(axis=1)
    differences = np.max(list(by_output.values()), axis=0)
    if not tolerance_for(heads, tolerance).allows(differences.tolist()):
        worst = int(differences.argmax())
        name = max(by_output, key=lambda key: float(by_output[key][worst]))
        raise ExportError(
            f"the graph differs from the fitted classifier: {name} is off by "
            f"{differences[worst]:.2g}, more than export.parity_tolerance {tolerance:g} allows, on "
            f"{views[worst][:200]!r}; no artifact was written"
        )
    if typicality is not None:
        apart = np.abs(typicality.of(embeddings) - [one.typicality for one in scores]).max()
        if not apart <= _TYPICALITY_TOLERANCE:
            raise ExportError(
                f"the graph differs from the fitted classifier: typicality is off by {apart:.4f}, "
                "more than rounding explains; no artifact was written"
            )
    return Parity(len(views), float(differences.max()), float(differences.mean()), tolerance)
