"""Parity: the graph says what was fitted, or it is not exported."""

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

__all__ = ["Parity", "check_parity", "check_typicality", "parity_views", "tolerance_for"]

Floats = NDArray[np.floating]

_ON_A_SPLIT = 0.01
_LARGEST_STEP = 0.01
# A typicality is a share of some hundred distances: rounding takes it past a few of them.
_TYPICALITY_APART = 0.02


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the graph strays from the classifier as it was fitted.

    Attributes
    ----------
    texts : int
    max_difference, mean_difference : float
        Of the sentence embedding, unless it is quantised, and given it of p_frontier and the
        decision score.
    tolerance : float
    worst_text : str
        The view at which they differ most, at most 200 characters of it.
    """

    texts: int
    max_difference: float
    mean_difference: float
    tolerance: float
    worst_text: str


def tolerance_for(heads: Heads, difference: float) -> Tolerance:
    """Return what rounding by at most `difference` can do to the scores of heads.

    Where there are trees, one text in a hundred may differ by up to 0.01, which is what rounding
    does to a feature on a split.
    """
    if heads.smooth:
        return Tolerance(difference, 0.0, difference)
    return Tolerance(difference, _ON_A_SPLIT, _LARGEST_STEP)


def parity_views(queries: Sequence[str], count: int) -> list[str]:
    """Return distinct views for the parity gate: of all golden queries, then of the log's queries.

    Parameters
    ----------
    queries : sequence of str
        Of the training split.
    count : int
        How many views at the most.
    """
    views = dict.fromkeys(text_view(query) for query in [*golden_queries(), *queries[:count]])
    return [view for view in views if view][:count]


def check_parity(
    classifier: Classifier,
    features: Features,
    heads: Heads,
    views: Sequence[str],
    tolerance: float,
) -> Parity:
    """Compare the graph, asked row by row as it serves, with what was fitted.

    Its sentence embeddings are compared with the encoder's, and what it makes of them with what the
    heads make of them: rounding in the encoder can put a feature on the other side of a tree's
    split, which no tolerance would tell from an error of the heads. Embeddings of a quantised
    encoder are not compared; `querytier.classifier.export.flips` judges those.

    Raises
    ------
    ExportError
        If they differ by more than the tolerance, with the worst text.
    """
    embeddings = np.array([classifier.embedding(view) for view in views])
    read = features.beside(embeddings, views)
    said = [classifier.scores(view) for view in views]
    references: dict[str, Floats] = {
        "p_frontier": heads.p_frontier(read),
        "decision_score": heads.decision_scores(read),
    }
    served: dict[str, Floats] = {
        name: np.array([getattr(one, name) for one in said]) for name in references
    }
    if classifier.manifest.precision == "fp32":
        encoded = features.encoder.encode(views, progress=False)
        served["sentence_embedding"] = np.abs(embeddings - encoded).max(axis=1)
        references["sentence_embedding"] = np.zeros(len(views))
    apart = {name: np.abs(served[name] - references[name]) for name in references}
    differences = np.max(list(apart.values()), axis=0)
    worst = int(differences.argmax())
    name = max(apart, key=lambda key: float(apart[key][worst]))
    parity = Parity(
        texts=len(views),
        max_difference=float(differences[worst]),
        mean_difference=float(differences.mean()),
        tolerance=tolerance,
        worst_text=views[worst][:200],
    )
    if not tolerance_for(heads, tolerance).allows(differences.tolist()):
        raise ExportError(
            f"the graph strays from the fitted classifier: {name} {served[name][worst]:.8f} "
            f"against {references[name][worst]:.8f}, more than export.parity_tolerance "
            f"{tolerance:g} apart, on {parity.worst_text!r}; no artifact was written"
        )
    return parity


def check_typicality(classifier: Classifier, typicality: Typicality, views: Sequence[str]) -> None:
    """Compare the graph's typicality of its own embeddings with what was fitted.

    Raises
    ------
    ExportError
        If they are further apart than rounding takes them, with the worst text.
    """
    fitted = typicality.of(np.array([classifier.embedding(view) for view in views]))
    served = np.array([classifier.scores(view, typicality=True).typicality for view in views])
    apart = np.abs(served - fitted)
    worst = int(apart.argmax())
    if not apart[worst] <= _TYPICALITY_APART:
        raise ExportError(
            f"the graph's typicality strays from the fitted one: {served[worst]:.4f} against "
            f"{fitted[worst]:.4f} on {views[worst][:200]!r}; no artifact was written"
        )
