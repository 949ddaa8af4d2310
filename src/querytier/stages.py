"""The stages prepare, train, export and evaluate, each a function; the command line calls them.

All share one folder, `out`::

    out/data/             examples.parquet, summary.json        prepare
    out/quarantine.jsonl  records that made no example          prepare
    out/train/            head, candidates, embeddings, run     train
    out/model/            the artifact                          export
    out/metrics.json      the evaluation, for tools             evaluate
    out/report.html       the evaluation, for people            evaluate
"""

import shutil
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from querytier.assessment import Assessment, assess
from querytier.classifier.artifact import MODEL
from querytier.classifier.encoder import load_encoder
from querytier.classifier.exporting import Lineage, export_artifact, parity_views
from querytier.classifier.manifest import Certificate, Manifest
from querytier.data.atomic import atomic_folder
from querytier.data.columns import ColumnMap
from querytier.data.examples import Examples
from querytier.data.preparing import DataSummary, prepare, read_unsplit
from querytier.data.redaction import Redactor
from querytier.data.sources import LogSource
from querytier.data.text_view import text_view
from querytier.errors import UsageError
from querytier.eval.evaluation import Ranking
from querytier.eval.gate import absolute_gate
from querytier.params import Params
from querytier.scoring import embed_all
from querytier.serve import Router
from querytier.tracking import RunReference, Tracker
from querytier.training.auditing import Suspect, audit_labels, write_suspects
from querytier.training.baselines import (
    LEARNED_BASELINES,
    Labelled,
    cross_fitted,
    group_folds,
)
from querytier.training.fitted import Fitted, fit_classifier

__all__ = [
    "audit_stage",
    "evaluate_artifact",
    "evaluate_stage",
    "export_stage",
    "prepare_stage",
    "train_stage",
]

_NO_CERTIFICATE = Certificate(
    "refused",
    "this version of querytier does not certify thresholds; the threshold meets a frontier rate "
    "and promises nothing about risk",
)


def prepare_stage(
    source: LogSource,
    columns: ColumnMap | None,
    out: Path,
    params: Params,
    corrections: Path | None = None,
) -> DataSummary:
    """Read, label and split a log; errors as in `querytier.data.preparing.prepare`."""
    section = params.prepare
    return prepare(
        source,
        columns,
        out,
        ok_threshold=section.ok_threshold,
        shares=section.shares.model_dump(),
        seed=section.seed,
        max_bad_share=section.max_bad_share,
        near_duplicate_threshold=section.near_duplicate_threshold,
        near_duplicate_rows=section.near_duplicate_rows,
        temporal=section.temporal,
        redaction=section.redaction,
        corrections=corrections,
    )


def train_stage(out: Path, params: Params, tracker: Tracker) -> Fitted:
    """Encode, choose, fit and calibrate on what `prepare_stage` left.

    Raises
    ------
    UsageError
        If `out` has no prepared data.
    TrainingError
        If a role holds one class only.
    """
    examples, data = _prepared(out)
    examples = examples.of_role("train", "calibration")
    encoder = load_encoder()
    with (
        tracker.start(data.source, params.model_dump()) as run,
        atomic_folder(out / "train") as new,
    ):
        run.write(new / "run.json")
        tracker.log_dataset(examples.dataset(), data.source, data.fingerprint)
        embeddings = encoder.encode([text_view(query) for query in examples.query])
        np.save(new / "embeddings.npy", embeddings)
        fitted = fit_classifier(
            Labelled(examples, embeddings),
            regularisation=params.train.regularisation,
            folds=params.train.folds,
            target_frontier_rate=params.train.target_frontier_rate,
            seed=params.train.seed,
        )
        fitted.write(new)
        _log_candidates(tracker, fitted, encoder.name)
    return fitted


def export_stage(out: Path, params: Params, tracker: Tracker) -> Manifest:
    """Build the artifact of what `train_stage` left, and register it as challenger.

    Raises
    ------
    UsageError
        If `out` has no trained classifier.
    ExportError
        If the graph strays from the fitted classifier.
    """
    examples, data = _prepared(out)
    fitted, run = _trained(out)
    with tracker.resume(run):
        manifest = export_artifact(
            out / "model",
            load_encoder(),
            fitted.head,
            threshold=fitted.threshold,
            fallback_tier=params.export.fallback_tier,
            views=parity_views(
                examples.of_role("train").query.tolist(), params.export.parity_texts
            ),
            tolerance=params.export.parity_tolerance,
            certificate=_NO_CERTIFICATE,
            lineage=_lineage(fitted, data),
        )
        tracker.log_metrics({"parity_max_difference": manifest.parity["max_difference"]})
        tracker.log_files(
            [path for path in sorted((out / "model").iterdir()) if path.name != MODEL], "artifact"
        )
    return manifest


def evaluate_stage(out: Path, params: Params, tracker: Tracker) -> Assessment:
    """Judge the artifact on the test role, write metrics and report, ask the gate.

    Raises
    ------
    UsageError
        If a stage before is missing.
    """
    examples, data = _prepared(out)
    fitted, run = _trained(out)
    router = Router.load(out / "model")
    with tracker.resume(run):
        known, asked = examples.of_role("train", "calibration"), examples.of_role("test")
        train = Labelled(known, np.load(out / "train" / "embeddings.npy"))
        train = train.where(known.role == "train")
        learned = _baselines_from(train, _embedded(router, asked))
        base_rate = float(train.examples.needs_frontier.mean())
        assessment = assess(router, asked, learned, {}, base_rate=base_rate, params=params.evaluate)
        gate = absolute_gate(assessment.evaluation)
        metrics = assessment.metrics(data, gate, fitted.candidates)
        plots = assessment.write(metrics, out, out / "model")
        _log_evaluation(tracker, assessment, plots, out)
        model_version = router.classifier.manifest.model_version
        tags = {"model_version": model_version, "data_fingerprint": data.fingerprint}
        registered = tracker.register(
            out / "model" / MODEL, {"token_ids": np.array([[101, 7592, 102]])}, tags
        )
        tracker.judge(registered, gate.passed, gate.reason)
    return assessment


def evaluate_artifact(
    source: LogSource,
    columns: ColumnMap | None,
    artifact: Path,
    out: Path,
    *,
    ok_threshold: float | None,
    params: Params,
) -> Assessment:
    """Judge an existing artifact on other labelled logs; its baselines are cross-fitted on them.

    Parameters
    ----------
    source : LogSource
    columns : ColumnMap or None
    artifact, out : Path
    ok_threshold : float or None
        None takes the artifact's.
    params : Params
    """
    router = Router.load(artifact)
    if ok_threshold is None:
        ok_threshold = router.classifier.manifest.label_rule["ok_threshold"]
    out.mkdir(parents=True, exist_ok=True)
    examples, data = read_unsplit(
        source, columns, out / "quarantine.jsonl", ok_threshold, params.prepare.max_bad_share
    )
    tracker = Tracker(out)
    with tracker.start(f"evaluate {data.source}", params.evaluate.model_dump()):
        learned, left_out = _cross_fitted_baselines(_embedded(router, examples), params)
        base_rate = router.classifier.manifest.data["needs_frontier"]
        assessment = assess(
            router, examples, learned, left_out, base_rate=base_rate, params=params.evaluate
        )
        plots = assessment.write(assessment.metrics(data, None, []), out, artifact)
        _log_evaluation(tracker, assessment, plots, out)
    return assessment


def audit_stage(
    source: LogSource, columns: ColumnMap | None, out: Path, params: Params
) -> list[Suspect]:
    """Write the table of doubtful labels of a log for a person to review.

    Parameters
    ----------
    source : LogSource
    columns : ColumnMap or None
    out : Path
        The `.csv` file; records that make no example go to `OUT.quarantine.jsonl`.
    params : Params
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    section = params.prepare
    examples, _ = read_unsplit(
        source,
        columns,
        out.with_name(f"{out.name}.quarantine.jsonl"),
        section.ok_threshold,
        section.max_bad_share,
        redactor=Redactor("off" if section.redaction == "off" else "on"),
    )
    embeddings = load_encoder().encode([text_view(query) for query in examples.query])
    labelled = Labelled(examples, embeddings)
    suspects = audit_labels(labelled, folds=params.train.folds, seed=params.train.seed)
    write_suspects(suspects, out)
    return suspects


def _prepared(out: Path) -> tuple[Examples, DataSummary]:
    folder = out / "data"
    if not (folder / "summary.json").is_file():
        raise UsageError(f"{folder} holds no prepared data; run `querytier prepare` first")
    return Examples.read_parquet(folder / "examples.parquet"), DataSummary.read(
        folder / "summary.json"
    )


def _trained(out: Path) -> tuple[Fitted, RunReference]:
    folder = out / "train"
    if not (folder / "run.json").is_file():
        raise UsageError(f"{folder} holds no trained classifier; run `querytier train` first")
    return Fitted.read(folder), RunReference.read(folder / "run.json")


def _embedded(router: Router, examples: Examples) -> Labelled:
    return Labelled(examples, embed_all(router, [text_view(query) for query in examples.query]))


def _baselines_from(train: Labelled, asked: Labelled) -> list[Ranking]:
    return [
        Ranking(name, learner(train, asked), True, "training role")
        for name, learner in LEARNED_BASELINES.items()
    ]


def _cross_fitted_baselines(
    asked: Labelled, params: Params
) -> tuple[list[Ranking], dict[str, str]]:
    """Fit the baselines on the asked rows themselves, out of fold: a harder test than ours."""
    labels, folds = asked.examples.needs_frontier, params.train.folds
    if min((labels > 0.5).sum(), (labels < 0.5).sum(), len(set(asked.examples.group))) < 2 * folds:
        reason = f"fewer than {2 * folds} rows of one class, or groups"
        return [], dict.fromkeys(LEARNED_BASELINES, reason)
    masks = group_folds(asked.examples, folds, params.train.seed)
    source = f"these rows, {folds}-fold out of fold"
    learners, left_out = dict(LEARNED_BASELINES), {}
    if len(set(asked.examples.domain)) < 2:
        # Means of the other folds rank a lone domain against its own labels.
        del learners["domain_prior"]
        left_out["domain_prior"] = "the log has no domains"
    rankings = [
        Ranking(name, cross_fitted(learner, asked, masks), True, source)
        for name, learner in learners.items()
    ]
    return rankings, left_out


def _lineage(fitted: Fitted, data: DataSummary) -> Lineage:
    chosen = next(item for item in fitted.candidates if item["name"] == fitted.chosen)
    return Lineage(
        label_rule=asdict(data.label_rule),
        metrics={
            "chosen": fitted.chosen,
            "cross_validated_auroc": chosen["auroc"],
            "target_frontier_rate": fitted.target_frontier_rate,
            "calibration": fitted.calibration.method,
            "calibration_rows": fitted.calibration.rows,
        },
        data={
            "source": data.source,
            "fingerprint": data.fingerprint,
            "roles": data.roles,
            "label_sources": data.label_sources,
            "needs_frontier": data.shares["needs_frontier"],
        },
        code={"querytier": version("querytier"), "commit": _commit()},
    )


def _commit() -> str | None:
    """Return the commit of the checkout that this code runs from; None outside one."""
    git, folder = shutil.which("git"), Path(__file__).resolve().parent
    if git is None or folder.parent.name != "src":
        return None
    command = [git, "-C", str(folder), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return answer.stdout.strip() or None


def _log_candidates(tracker: Tracker, fitted: Fitted, encoder: str) -> None:
    for candidate in fitted.candidates:
        area = candidate["auroc"]
        tracker.log_candidate(
            candidate["name"],
            {
                "encoder": encoder,
                "regularisation": candidate["regularisation"],
                "chosen": candidate["name"] == fitted.chosen,
                "baseline": candidate["regularisation"] is None,
            },
            {
                "cv_auroc": area["value"],
                "cv_auroc_low": area["low"],
                "cv_auroc_high": area["high"],
                "cv_auroc_fold_mean": candidate["fold_mean"],
                "cv_auroc_fold_standard_error": candidate["fold_standard_error"],
                "fit_seconds": candidate["seconds"],
            },
        )
    tracker.set_tags({"chosen": fitted.chosen})
    tracker.log_metrics(
        {"threshold": fitted.threshold, "calibration_slope": fitted.calibration.slope}
    )


def _log_evaluation(
    tracker: Tracker, assessment: Assessment, plots: dict[str, str], out: Path
) -> None:
    for row in assessment.evaluation.rows:
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
    tracker.log_files([out / "metrics.json", out / "report.html"])
    with TemporaryDirectory() as folder:
        pictures = [Path(folder, f"{name}.svg") for name in plots]
        for path, svg in zip(pictures, plots.values(), strict=True):
            path.write_text(svg, "utf-8")
        tracker.log_files(pictures, "plots")
