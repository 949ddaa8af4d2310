"""Stage 3, export: build the artifact, and certify it if the parameters name a risk."""

import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from querytier.classifier.artifact import MODEL
from querytier.classifier.export.exporting import Lineage, TypicalQueries, export_artifact
from querytier.classifier.export.flips import FlipBudget
from querytier.classifier.export.parity import parity_views
from querytier.classifier.export.precision import QUANTISED, Quantising
from querytier.classifier.manifest import Certificate, Manifest, Precision
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Blocks, Calibrated
from querytier.data.examples import Examples
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.preparing import read_prepared
from querytier.pipeline.certification import Certified, certify_artifact
from querytier.pipeline.feature_blocks import FeatureBlocks
from querytier.pipeline.params import Params
from querytier.pipeline.train import EMBEDDINGS, read_trained
from querytier.tracking.tracker import Tracker
from querytier.training.embedding_cache import EmbeddingCache
from querytier.training.fit import FittedClassifier, recalibrate_classifier

__all__ = ["Exported", "export_fitted", "export_stage", "lineage_of", "typical_queries"]

_NO_CERTIFICATE = Certificate(
    "refused",
    "not requested (certify.alpha, or querytier certify); the threshold meets a frontier rate",
)


@dataclass(frozen=True)
class Exported:
    """The result of `export_stage`.

    Attributes
    ----------
    manifest : Manifest
        The manifest in the folder, with the certificate.
    certified : Certified or None
        None if the parameters name no risk.
    """

    manifest: Manifest
    certified: Certified | None


def export_stage(out: Path, params: Params, tracker: Tracker) -> Exported:
    """Build the artifact of the classifier that `train_stage` wrote; certify it if alpha is given.

    If the certificate is refused, the threshold for the target frontier rate stays.

    Raises
    ------
    UsageError
        If `out` has no trained classifier.
    ExportError
        If the graph and the fitted classifier differ by more than the tolerance.
    """
    examples, data = read_prepared(out)
    fitted, run = read_trained(out)
    with tracker.resume(run):
        manifest = export_fitted(
            out,
            fitted,
            examples,
            params,
            lineage=lineage_of(fitted, data),
            typical=typical_queries(out, examples),
        )
        certified = None
        if params.certify.alpha is not None:
            certified = certify_artifact(out, params.certify)
            manifest = certified.manifest
        _log_export(tracker, manifest)
        # The graph itself is logged when the version is registered.
        tracker.log_files(
            [path for path in sorted((out / "model").iterdir()) if path.name != MODEL], "artifact"
        )
    return Exported(manifest, certified)


def export_fitted(
    out: Path,
    fitted: FittedClassifier,
    examples: Examples,
    params: Params,
    *,
    lineage: Lineage,
    typical: TypicalQueries,
) -> Manifest:
    """Build the artifact of a classifier whose features are in `out/train`, without a certificate.

    Parameters
    ----------
    out : Path
        Gets `model/`.
    fitted : FittedClassifier
    examples : Examples
        The train split adds texts to the gates; a quantised encoder is calibrated again on the
        calibration split.
    params : Params
        Section export, and the seed of train.
    lineage : Lineage
    typical : TypicalQueries

    Raises
    ------
    ExportError
        If the graph and the fitted classifier differ by more than the tolerance, or a required
        precision exceeds its budget.
    """
    features = FeatureBlocks.read(out / "train").of(fitted.recipe)
    queries = examples.of_split("train").query.tolist()
    return export_artifact(
        out / "model",
        features,
        Calibrated(fitted.heads, fitted.threshold),
        fallback_tier=params.export.fallback_tier,
        views=parity_views(queries, params.export.parity_texts),
        tolerance=params.export.parity_tolerance,
        certificate=_NO_CERTIFICATE,
        lineage=lineage,
        quantising=_quantising(features, fitted, examples, params),
        typical=typical,
    )


def _quantising(
    features: Features, fitted: FittedClassifier, examples: Examples, params: Params
) -> Quantising | None:
    """Return how to quantise the encoder; None if it stays fp32 or calibration has no rows."""
    wanted = params.export.precision
    precisions: tuple[Precision, ...] = QUANTISED if wanted == "auto" else (wanted,)
    calibration, train = examples.of_split("calibration"), examples.of_split("train")
    if wanted == "fp32" or not len(calibration):
        return None
    # Only calibration needs labels; a changed decision shows on any query.
    more = np.arange(len(train)) < params.export.drift_texts - len(calibration)
    views = [*calibration.views(), *train.where(more).views()]

    def recalibrate(blocks: Blocks) -> Calibrated:
        known = {name: block[: len(calibration)] for name, block in blocks.items()}
        return recalibrate_classifier(fitted, known, calibration, params.train.seed)

    return Quantising(
        precisions,
        views,
        EmbeddingCache().encode(features.encoder, views),
        recalibrate,
        FlipBudget(**params.export.drift.model_dump()),
        required=wanted != "auto",
    )


def typical_queries(out: Path, examples: Examples) -> TypicalQueries:
    """Return the queries that the graph treats as typical, with the embeddings in `out/train`."""
    known = examples.of_split("train", "calibration")
    embeddings = np.load(out / "train" / EMBEDDINGS)
    views = examples.of_split("calibration").views()
    return TypicalQueries(embeddings[known.split == "train"], views)


def lineage_of(fitted: FittedClassifier, data: DataSummary) -> Lineage:
    """Return the data, code and cross-validation behind a fitted classifier, for the manifest."""
    chosen = next(item for item in fitted.candidates if item["name"] == fitted.chosen)
    return Lineage(
        label_rule=asdict(data.label_rules),
        metrics={
            "chosen": fitted.chosen,
            "chosen_by": fitted.metric,
            "cross_validated_auroc": chosen["auroc"],
            "target_frontier_rate": fitted.target_frontier_rate,
            "calibration": fitted.calibration.method,
            "calibration_rows": fitted.calibration.rows,
            "calibration_reason": fitted.calibration.reason,
            "venn_abers": fitted.calibration.venn_abers,
        },
        data={
            "source": data.source,
            "fingerprint": data.fingerprint,
            "splits": data.splits,
            "label_sources": data.label_sources,
            "needs_frontier": data.shares["needs_frontier"],
        },
        code={"querytier": version("querytier"), "commit": _commit()},
    )


def _commit() -> str | None:
    """Return the commit of the checkout that this code runs from; None outside one."""
    git, folder = shutil.which("git"), Path(__file__).resolve().parents[1]
    # An installed copy may be inside the checkout of another project.
    if git is None or folder.parent.name != "src":
        return None
    command = [git, "-C", str(folder), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return answer.stdout.strip() or None


def _log_export(tracker: Tracker, manifest: Manifest) -> None:
    """Log the parity of the graph, the trials of quantisation, and the certificate."""
    tracker.log_metrics({"parity_max_difference": manifest.parity["max_difference"]})
    trials = manifest.quantisation["trials"]
    for trial in trials:
        drift = {f"{trial['precision']}_{name}": value for name, value in trial["drift"].items()}
        tracker.log_metrics(drift)
    refusals = {
        f"{trial['precision']}_refused": trial["refusal"] for trial in trials if trial["refusal"]
    }
    certificate = manifest.certificate
    tracker.set_tags(
        {
            "precision": manifest.precision,
            "certificate": certificate.status,
            "certificate_reason": certificate.reason,
            **refusals,
        }
    )
    if certificate.status == "granted":
        tracker.log_metrics(
            {f"certified_{name}": certificate.details[name] for name in ("bound", "coverage")}
        )
