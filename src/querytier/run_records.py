"""What a run leaves in MLflow of its candidates and of its evaluation."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from querytier.assessment import Assessment
from querytier.eval.evaluation import Row
from querytier.tracking import Tracker
from querytier.training.fitted import Fitted

__all__ = ["log_candidates", "log_evaluation", "log_rows"]


def log_candidates(tracker: Tracker, fitted: Fitted) -> None:
    """Log a child run a candidate, and what was chosen."""
    for candidate in fitted.candidates:
        measured = {
            f"cv_{name}{end}": candidate[name][part]
            for name in ("apgr", "auroc")
            for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
        }
        tracker.log_candidate(
            candidate["name"],
            {
                "regularisation": candidate["regularisation"],
                "ranks_by": candidate["ranks_by"],
                "features": "+".join(candidate["features"] or ()),
                "chosen_by": fitted.metric,
                "chosen": candidate["name"] == fitted.chosen,
                "baseline": candidate["regularisation"] is None,
            },
            {
                **measured,
                "cv_fold_mean": candidate["fold_mean"],
                "cv_fold_standard_error": candidate["fold_standard_error"],
                "fit_seconds": candidate["seconds"],
            },
        )
    tracker.set_tags({"chosen": fitted.chosen})
    tracker.log_metrics(
        {"threshold": fitted.threshold, "calibration_slope": fitted.calibration.slope}
    )


def log_evaluation(
    tracker: Tracker, assessment: Assessment, plots: dict[str, str], out: Path
) -> None:
    """Log metrics with intervals, the report and its pictures."""
    log_rows(tracker, assessment.evaluation.rows)
    tracker.log_files([out / "metrics.json", out / "report.html"])
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
