"""Export: from encoder and heads to an artifact, past the gates."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.artifact import (
    CARD,
    GOLDEN,
    MANIFEST,
    MODEL,
    TOKENIZER,
    artifact_files,
    file_sha256,
)
from querytier.classifier.export.model_card import model_card
from querytier.classifier.export.onnx_graph import OPSET, trace, write_graph
from querytier.classifier.export.parity import check_parity, check_typicality, tolerance_for
from querytier.classifier.export.precision import (
    Encoded,
    Quantising,
    choose_precision,
    traced_embeddings,
)
from querytier.classifier.golden import replay_golden, write_golden
from querytier.classifier.graph_metadata import graph_sha256
from querytier.classifier.manifest import (
    Certificate,
    Manifest,
    TextView,
    Tolerance,
    dump_manifest,
)
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Calibrated
from querytier.classifier.model.typicality import FEWEST_TYPICAL, Typicality
from querytier.classifier.model.words import cuts_words
from querytier.classifier.runtime import Classifier, open_session
from querytier.classifier.threshold import Tier
from querytier.data.text_view import VIEW_VERSION, view_fingerprint
from querytier.files import atomic_folder

__all__ = ["Lineage", "TypicalQueries", "export_artifact"]

# Where a processor's floats differ in the last bit, some rounds to another whole number.
_QUANTISED_TOLERANCE = Tolerance(difference=0.005, exceptions=0.02, largest=0.05)


@dataclass(frozen=True, eq=False)
class TypicalQueries:
    """What the graph learns typical queries from.

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
    """Write an artifact; nothing is left, and what stood there before stays, if a gate fails.

    Parameters
    ----------
    folder : Path
    features : Features
    fitted : Calibrated
    fallback_tier : {"frontier", "cheap"}
    views : sequence of str
        Text views for the parity gate.
    tolerance : float
        Largest difference, in the embedding, p_frontier and the decision score, that the gate lets
        through, but for what `querytier.classifier.export.parity.tolerance_for` says of trees.
    certificate : Certificate
    lineage : Lineage
    quantising : Quantising, optional
        Without, the encoder stays as it is. An encoder that cuts words always does: it has nothing
        to quantise that takes time.
    typical : TypicalQueries, optional
        Without, the graph cannot tell how typical a query is.

    Raises
    ------
    ExportError
        If the graph strays further than the tolerance, or a precision that is required further than
        its budget.
    """
    encoder = features.encoder
    cut = cuts_words(encoder.tokenizer_json)
    with atomic_folder(folder) as new, TemporaryDirectory(dir=new.parent) as scratch:
        traced = Path(scratch, "traced.onnx")
        trace(features, traced)
        encoded = choose_precision(traced, features, fitted, None if cut else quantising)
        heads = encoded.calibrated.heads
        typicality = _typicality(encoded.traced, features, typical)
        write_graph(encoded.traced, features, heads, new / MODEL, typicality)
        if not cut:
            (new / TOKENIZER).write_text(encoder.tokenizer.json, "utf-8")
        manifest = _unproved(
            features,
            encoded,
            lineage,
            model_version=graph_sha256(new / MODEL)[:12],
            fallback_tier=fallback_tier,
            certificate=certificate,
            tolerance=_replay_tolerance(encoded, tolerance),
        )
        tokenizer = None if cut else encoder.tokenizer
        classifier = Classifier(manifest, tokenizer, open_session(new / MODEL))
        parity = check_parity(classifier, features, heads, views, tolerance)
        if typicality is not None:
            check_typicality(classifier, typicality, views)
        write_golden(classifier, new / GOLDEN)
        (new / CARD).write_text(model_card(manifest), "utf-8")
        files = {name: file_sha256(new / name) for name in artifact_files(manifest.input)}
        # The worst text may stem from a user's log, which an artifact never carries.
        numbers = {key: value for key, value in asdict(parity).items() if key != "worst_text"}
        manifest = replace(manifest, parity=numbers, files=files)
        (new / MANIFEST).write_text(dump_manifest(manifest), "utf-8")
        replay_golden(Classifier.load(new), new / GOLDEN)
    return manifest


def _unproved(
    features: Features,
    encoded: Encoded,
    lineage: Lineage,
    *,
    model_version: str,
    fallback_tier: Tier,
    certificate: Certificate,
    tolerance: Tolerance,
) -> Manifest:
    """Return the manifest of a graph that has met no gate yet, and has no files."""
    encoder, heads = features.encoder, encoded.calibrated.heads
    known = asdict(lineage)
    # What a certificate that is refused later leaves in force.
    metrics = {**known.pop("metrics"), "target_threshold": encoded.calibrated.threshold}
    return Manifest(
        model_version=model_version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        input="text" if cuts_words(encoder.tokenizer_json) else "token_ids",
        precision=encoded.precision,
        tolerance=tolerance,
        max_tokens=encoder.max_tokens,
        text_view=TextView(VIEW_VERSION, view_fingerprint()),
        decision_score=heads.ranks_by,
        threshold=encoded.calibrated.threshold,
        fallback_tier=fallback_tier,
        certificate=certificate,
        encoder={
            "name": encoder.name,
            "weights_sha256": encoder.weights_sha256,
            "opset": OPSET,
            "blocks": sorted(heads.blocks),
        },
        parity={},
        quantisation=encoded.report,
        files={},
        metrics=metrics,
        **known,
    )


def _typicality(
    traced: Path, features: Features, typical: TypicalQueries | None
) -> Typicality | None:
    if typical is None or len(typical.views) < FEWEST_TYPICAL:
        return None
    served = traced_embeddings(traced, features, typical.views)
    return Typicality.fitted_to(typical.training, served)


def _replay_tolerance(encoded: Encoded, tolerance: float) -> Tolerance:
    if encoded.precision == "fp32":
        return tolerance_for(encoded.calibrated.heads, tolerance)
    return _QUANTISED_TOLERANCE
