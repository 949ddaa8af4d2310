"""What a run leaves in MLflow of its candidates and of its evaluation."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from querytier.classifier.artifact import MANIFEST, file_sha256
from querytier.classifier.manifest import Manifest
from querytier.eval.evaluation import Row
from querytier.pipeline.router_evaluation import REPORT_FILES, Assessment
from querytier.tracking.tracker import Tracker
from querytier.training.cross_validation import FRONTIER_RATES
from querytier.training.fit import Fitted
from querytier.training.recipes import recipe_from

__all__ = ["log_candidates", "log_evaluation", "log_export", "log_rows", "version_tags"]

_PERCENT = [round(100 * rate) for rate in FRONTIER_RATES]


def log_candidates(tracker: Tracker, fitted: Fitted, encoder_ms: Mapping[str, float]) -> None:
    """Log a child run a candidate, with its curve, and what was chosen.

    Parameters
    ----------
    tracker : Tracker
    fitted : Fitted
    encoder_ms : mapping of str to float
        Milliseconds that each encoder takes for a query.
    """
    for candidate in fitted.candidates:
        measured = {
            f"cv_{name}{end}": candidate[name][part]
            for name in ("apgr", "auroc")
            for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
        }
        tracker.log_candidate(
            candidate["name"],
            {
                **_described(candidate["recipe"]),
                "chosen_by": fitted.metric,
                "chosen": candidate["name"] == fitted.chosen,
                "baseline": candidate["recipe"] is None,
            },
            {
                **measured,
                "cv_fold_mean": candidate["fold_mean"],
                "cv_fold_standard_error": candidate["fold_standard_error"],
                "fit_seconds": candidate["seconds"],
                "encoder_ms": encoder_ms.get(_encoder(candidate["recipe"])),
            },
            {"cv_gap_recovered": dict(zip(_PERCENT, candidate["curve"], strict=True))},
        )
    calibration = fitted.calibration
    tracker.set_tags({"chosen": fitted.chosen, "calibration": calibration.reason})
    calibrator = fitted.heads.calibrator
    tracker.log_metrics(
        {
            "threshold": fitted.threshold,
            **{f"calibration_{name}": value for name, value in asdict(calibrator).items()},
            **{f"venn_abers_{name}": it for name, it in (calibration.venn_abers or {}).items()},
        }
    )


def log_export(tracker: Tracker, manifest: Manifest) -> None:
    """Log how far the graph is from what was fitted, the gates of precision, the certificate."""
    tracker.log_metrics({"parity_max_difference": manifest.parity["max_difference"]})
    for trial in manifest.quantisation["trials"]:
        drift = {f"{trial['precision']}_{name}": value for name, value in trial["drift"].items()}
        tracker.log_metrics(drift)
    refusals = {
        f"{trial['precision']}_refused": trial["refusal"]
        for trial in manifest.quantisation["trials"]
        if trial["refusal"]
    }
    tracker.set_tags({"precision": manifest.precision, **refusals})
    certificate = manifest.certificate
    tracker.set_tags({"certificate": certificate.status, "certificate_reason": certificate.reason})
    if certificate.status == "granted":
        measured = {
            f"certified_{name}": certificate.details[name] for name in ("bound", "coverage")
        }
        tracker.log_metrics(measured)


def version_tags(out: Path, manifest: Manifest) -> dict[str, str]:
    """Return what is known of a run's artifact when it is registered, but for the gate's verdict.

    Parameters
    ----------
    out : Path
        The run's folder; a `drift.json` in it has the verdict on the data.
    manifest : Manifest
        Of its artifact.
    """
    certificate, code = manifest.certificate, manifest.code
    tags = {
        "model_version": manifest.model_version,
        "manifest_sha256": file_sha256(out / "model" / MANIFEST),
        "data_fingerprint": manifest.data.get("fingerprint"),
        "code_commit": code.get("commit"),
        "querytier": code.get("querytier"),
        "certificate": certificate.status,
        "certificate_alpha": certificate.details.get("alpha"),
        "certificate_bound": certificate.details.get("bound"),
        "certificate_expires": certificate.details.get("expires"),
        "drift": _drift_verdict(out / "drift.json"),
    }
    return {name: str(value) for name, value in tags.items() if value is not None}


def _drift_verdict(path: Path) -> str | None:
    if not path.is_file():
        return None
    return "drifted" if json.loads(path.read_text("utf-8"))["drifted"] else "none"


def _encoder(recipe: Mapping[str, Any] | None) -> str:
    return "" if recipe is None else recipe_from(recipe).encoder


def _described(recipe: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a recipe as MLflow's params: a learner a param where there are several."""
    if recipe is None:
        return {}
    learners = {
        f"learner_{place}": json.dumps(one) for place, one in enumerate(recipe["learners"], 1)
    }
    return {"ranks_by": recipe["ranks_by"], **learners}


def log_evaluation(
    tracker: Tracker, assessment: Assessment, plots: dict[str, str], out: Path
) -> None:
    """Log metrics with intervals, the report and its pictures."""
    log_rows(tracker, assessment.evaluation.rows)
    tracker.log_files([out / name for name in REPORT_FILES])
    with TemporaryDirectory() as folder:
        pictures = [Path(folder, f"{name}.svg") for name in plots]
        for path, svg in zip(pictures, plots.values(), strict=True):
            path.write_text(svg, "utf-8")
        tracker.log_files(pictures, "plots")


def log_rows(tracker: Tracker, rows: Sequence[Row]) -> None:
    """Log the metrics of the classifier and of what stands beside it, with intervals."""
    for row in rows:
        for name in (
            "auroc",
            "average_precision",
            "apgr",
            "cpt50",
            "cpt80",
            "brier",
            "ece",
            "recall",
            "quality_retained",
        ):
            estimate = getattr(row, name)
            key = f"test_{name}" if row.name == "classifier" else f"baseline_{row.name}.{name}"
            tracker.log_metrics(
                {key: estimate.value, f"{key}_low": estimate.low, f"{key}_high": estimate.high}
            )
