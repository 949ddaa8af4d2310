"""Export: from fitted features and heads to an artifact, through the gates."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.artifact import MODEL, TOKENIZER
from querytier.classifier.export.onnx_graph import OPSET, trace, write_graph
from querytier.classifier.export.parity import check_parity, tolerance_for
from querytier.classifier.export.precision import (
    Encoded,
    Quantising,
    choose_precision,
    traced_embeddings,
)
from querytier.classifier.export.sealing import seal
from querytier.classifier.graph_file import graph_sha256
from querytier.classifier.manifest import Certificate, Manifest, TextView, Tolerance
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Calibrated
from querytier.classifier.model.typicality import FEWEST_TYPICAL, Typicality
from querytier.classifier.model.words import cuts_words
from querytier.classifier.runtime import Classifier, open_session
from querytier.classifier.threshold import Tier
from querytier.data.text_view import VIEW_VERSION, view_fingerprint
from querytier.files import atomic_folder

__all__ = ["Lineage", "TypicalQueries", "export_artifact"]

# Processors differ in the last bit of a float, and the quantiser rounds some of these to another
# whole number; without VNNI or in another kernel that moves a few scores visibly.
_QUANTISED_TOLERANCE = Tolerance(difference=0.005, exceptions=0.02, largest=0.05)


@dataclass(frozen=True, eq=False)
class TypicalQueries:
    """The queries that the graph treats as typical.

    Attributes
    ----------
    training : ndarray of float32, shape (n, dimension)
        Embeddings of training queries.
    views : sequence of str
        Text views of other queries of the same traffic.
    """

    training: NDArray[np.float32]
    views: Sequence[str]


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


def export_artifact(
    folder: Path,
    features: Features,
    fitted: Calibrated,
    *,
    fallback_tier: Tier,
    views: Sequence[str],
    tolerance: float,
    certificate: Certificate,
    lineage: Lineage,
    quantising: Quantising | None = None,
    typical: TypicalQueries | None = None,
) -> Manifest:
    """Write an artifact. If a gate fails, nothing is written and a previous artifact stays.

    Parameters
    ----------
    folder : Path
    features : Features
    fitted : Calibrated
    fallback_tier : {"frontier", "cheap"}
    views : sequence of str
        Text views for the parity gate.
    tolerance : float
        Largest difference in embedding, p_frontier and decision score that the parity gate allows;
        for trees see `querytier.classifier.export.parity.tolerance_for`.
    certificate : Certificate
    lineage : Lineage
    quantising : Quantising, optional
        By default the encoder stays float32. A static encoder always does: its word vectors have
        8 bits already, and it has no matrices.
    typical : TypicalQueries, optional
        By default the graph does not compute how typical a query is.

    Raises
    ------
    ExportError
        If the graph differs from the fitted classifier by more than the tolerance, or a required
        precision exceeds its budget.
    """
    encoder = features.encoder
    reads_text = cuts_words(encoder.tokenizer_json)
    with atomic_folder(folder) as new, TemporaryDirectory(dir=new.parent) as scratch:
        traced = Path(scratch, "traced.onnx")
        trace(features, traced)
        encoded = choose_precision(traced, features, fitted, None if reads_text else quantising)
        heads = encoded.calibrated.heads
        typicality = _typicality(encoded.traced, features, typical)
        write_graph(encoded.traced, features, heads, new / MODEL, typicality)
        if not reads_text:
            (new / TOKENIZER).write_text(encoder.tokenizer.json, "utf-8")
        manifest = Manifest(
            model_version=graph_sha256(new / MODEL)[:12],
            fallback_tier=fallback_tier,
            certificate=certificate,
            tolerance=tolerance_for(heads, tolerance)
            if encoded.precision == "fp32"
            else _QUANTISED_TOLERANCE,
            **_described(features, encoded, lineage, reads_text=reads_text),
        )
        tokenizer = None if reads_text else encoder.tokenizer
        classifier = Classifier(manifest, tokenizer, open_session(new / MODEL))
        parity = check_parity(
            classifier, features, heads, views, tolerance=tolerance, typicality=typicality
        )
        manifest = replace(manifest, parity=asdict(parity))
        return seal(new, replace(classifier, manifest=manifest))


def _described(
    features: Features, encoded: Encoded, lineage: Lineage, *, reads_text: bool
) -> dict[str, Any]:
    """Return the fields of the manifest that follow from fit and lineage."""
    encoder, heads = features.encoder, encoded.calibrated.heads
    threshold = encoded.calibrated.threshold
    known = asdict(lineage)
    # A certificate replaces the threshold. If a later one is refused, this one comes back.
    known["metrics"] = {**known["metrics"], "target_threshold": threshold}
    return {
        **known,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": "text" if reads_text else "token_ids",
        "precision": encoded.precision,
        "max_tokens": encoder.max_tokens,
        "text_view": TextView(VIEW_VERSION, view_fingerprint()),
        "decision_score": heads.ranks_by,
        "threshold": threshold,
        "encoder": {
            "name": encoder.name,
            "weights_sha256": encoder.weights_sha256,
            "opset": OPSET,
            "blocks": sorted(heads.blocks),
        },
        "parity": {},
        "quantisation": encoded.report,
        "files": {},
    }


def _typicality(
    traced: Path, features: Features, typical: TypicalQueries | None
) -> Typicality | None:
    if typical is None or len(typical.views) < FEWEST_TYPICAL:
        return None
    # With the graph in its final precision, which computes the distances of later queries, too.
    served = traced_embeddings(traced, features, typical.views)
    return Typicality.fitted_to(typical.training, served)
