"""What export is told besides the classifier: its lineage, and how it is quantised."""

import shutil
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from querytier.classifier.export.exporting import Lineage, TypicalQueries
from querytier.classifier.export.flips import FlipBudget
from querytier.classifier.export.precision import QUANTISED, Quantising
from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Blocks, Calibrated
from querytier.data.examples import Examples
from querytier.data.ingest.data_summary import DataSummary
from querytier.pipeline.params import Params
from querytier.training.embedding_cache import EmbeddingCache
from querytier.training.fit import Fitted, recalibrated

if TYPE_CHECKING:
    from querytier.classifier.manifest import Precision

__all__ = ["lineage_of", "quantising_of", "typical_queries"]


def quantising_of(
    features: Features, fitted: Fitted, examples: Examples, params: Params
) -> Quantising | None:
    """Return how the encoder is quantised; None where it is not, or nothing could judge it."""
    wanted = params.export.precision
    precisions: tuple[Precision, ...] = QUANTISED if wanted == "auto" else (wanted,)
    calibration, train = examples.of_split("calibration"), examples.of_split("train")
    if wanted == "fp32" or not len(calibration):
        return None
    # Labels are for calibrating; whether a decision changes can be seen on any query.
    more = np.arange(len(train)) < params.export.drift_texts - len(calibration)
    views = [*calibration.views(), *train.where(more).views()]

    def recalibrate(blocks: Blocks) -> Calibrated:
        known = {name: block[: len(calibration)] for name, block in blocks.items()}
        return recalibrated(fitted, known, calibration, params.train.seed)

    return Quantising(
        precisions,
        views,
        EmbeddingCache().encode(features.encoder, views),
        recalibrate,
        FlipBudget(**params.export.drift.model_dump()),
        required=wanted != "auto",
    )


def typical_queries(out: Path, examples: Examples) -> TypicalQueries:
    """Return what the graph learns typical queries from, as `train_stage` left it in `out`."""
    known = examples.of_split("train", "calibration")
    embeddings = np.load(out / "train" / "embeddings.npy")
    views = examples.of_split("calibration").views()
    return TypicalQueries(embeddings[known.split == "train"], views)


def lineage_of(fitted: Fitted, data: DataSummary) -> Lineage:
    """Return where a fitted classifier comes from."""
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
    if git is None or folder.parent.name != "src":
        return None
    command = [git, "-C", str(folder), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return answer.stdout.strip() or None
