"""Export: from encoder and head to an artifact, past the parity gate."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.artifact import (
    CARD,
    GOLDEN,
    MANIFEST,
    MODEL,
    TOKENIZER,
    file_sha256,
)
from querytier.classifier.card import model_card
from querytier.classifier.features import Features
from querytier.classifier.golden import golden_queries, write_golden
from querytier.classifier.graph import OPSET, write_graph
from querytier.classifier.head import Heads
from querytier.classifier.manifest import Certificate, Manifest, TextView, dump_manifest
from querytier.classifier.runtime import Classifier, open_session
from querytier.classifier.threshold import Tier
from querytier.data.atomic import atomic_folder
from querytier.data.text_view import VIEW_VERSION, text_view, view_fingerprint
from querytier.errors import ExportError

__all__ = ["Lineage", "Parity", "check_parity", "export_artifact", "parity_views"]


_ON_A_SPLIT = 0.01
_LARGEST_STEP = 0.01


@dataclass(frozen=True)
class Lineage:
    """Where a classifier comes from; written into its manifest.

    Attributes
    ----------
    label_rule, metrics, data, code : mapping
    """

    label_rule: Mapping[str, Any]
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]
    code: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the graph strays from the classifier as it was fitted.

    Attributes
    ----------
    texts : int
    max_difference, mean_difference : float
        Of the sentence embedding, and given it of p_frontier and the decision score.
    tolerance : float
    worst_text : str
        The view at which they differ most, at most 200 characters of it.
    """

    texts: int
    max_difference: float
    mean_difference: float
    tolerance: float
    worst_text: str


def export_artifact(
    folder: Path,
    features: Features,
    heads: Heads,
    *,
    threshold: float,
    fallback_tier: Tier,
    views: Sequence[str],
    tolerance: float,
    certificate: Certificate,
    lineage: Lineage,
) -> Manifest:
    """Write an artifact; nothing is left, and what stood there before stays, if a gate fails.

    Parameters
    ----------
    folder : Path
    features : Features
    heads : Heads
    threshold : float
    fallback_tier : {"frontier", "cheap"}
    views : sequence of str
        Text views for the parity gate.
    tolerance : float
        Largest difference, in the embedding, p_frontier and the decision score, that the gate lets
        through;
        where there are trees, one text in a hundred may differ by up to 0.01, which is what
        rounding does to a feature on a split.
    certificate : Certificate
    lineage : Lineage

    Raises
    ------
    ExportError
        If the graph strays further than the tolerance.
    """
    with atomic_folder(folder) as new:
        encoder = features.encoder
        write_graph(features, heads, new / MODEL)
        (new / TOKENIZER).write_text(encoder.tokenizer.json, "utf-8")
        manifest = Manifest(
            model_version=file_sha256(new / MODEL)[:12],
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            input="token_ids",
            max_tokens=encoder.max_tokens,
            text_view=TextView(VIEW_VERSION, view_fingerprint()),
            decision_score=heads.ranks_by,
            threshold=threshold,
            fallback_tier=fallback_tier,
            certificate=certificate,
            encoder={
                "name": encoder.name,
                "weights_sha256": encoder.weights_sha256,
                "opset": OPSET,
                "blocks": sorted(heads.blocks),
            },
            parity={},
            files={},
            **asdict(lineage),
        )
        classifier = Classifier(manifest, encoder.tokenizer, open_session(new / MODEL))
        parity = check_parity(classifier, features, heads, views, tolerance)
        write_golden(classifier, new / GOLDEN)
        (new / CARD).write_text(model_card(manifest), "utf-8")
        files = {name: file_sha256(new / name) for name in (MODEL, TOKENIZER, GOLDEN, CARD)}
        # The worst text may stem from a user's log, which an artifact never carries.
        numbers = {key: value for key, value in asdict(parity).items() if key != "worst_text"}
        manifest = replace(manifest, parity=numbers, files=files)
        (new / MANIFEST).write_text(dump_manifest(manifest), "utf-8")
        Classifier.load(new)
    return manifest


def _within(differences: NDArray[np.float64], tolerance: float, *, smooth: bool) -> bool:
    """Return whether differences are those of rounding.

    Trees turn a difference of rounding into a step where a feature lies on a split; such rows are
    rare, and the steps small.
    """
    apart = differences[~(differences <= tolerance)]
    if smooth or not len(apart):
        return not len(apart)
    few = len(apart) <= max(1, _ON_A_SPLIT * len(differences))
    return few and bool((apart <= _LARGEST_STEP).all())


def parity_views(queries: Sequence[str], count: int) -> list[str]:
    """Return distinct views for the parity gate: of all golden queries, then of the log's queries.

    Parameters
    ----------
    queries : sequence of str
        Of the training role.
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
    split, which no tolerance would tell from an error of the heads.

    Raises
    ------
    ExportError
        If they differ by more than the tolerance, with the worst text.
    """
    embeddings = np.array([classifier.embedding(view) for view in views])
    strays = np.abs(embeddings - features.encoder.encode(views, progress=False)).max(axis=1)
    read = features.beside(embeddings, views)
    said = [classifier.scores(view) for view in views]
    references = {
        "p_frontier": heads.p_frontier(read),
        "decision_score": heads.decision_scores(read),
    }
    served = {name: np.array([getattr(one, name) for one in said]) for name in references}
    references["sentence_embedding"], served["sentence_embedding"] = np.zeros_like(strays), strays
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
    if not _within(differences, tolerance, smooth=heads.smooth):
        raise ExportError(
            f"the graph strays from the fitted classifier: {name} {served[name][worst]:.8f} "
            f"against {references[name][worst]:.8f}, more than export.parity_tolerance "
            f"{tolerance:g} apart, on {parity.worst_text!r}; no artifact was written"
        )
    return parity
