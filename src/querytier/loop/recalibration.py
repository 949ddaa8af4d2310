"""Recalibrate a run for another pair of models, from few labels.

Encoder, features and heads stay, so the ranking stays too; calibrator, threshold and certificate
are new. The classifier is read back from the run and exported again, in the same precision.
The result has the layout of a run::

    out/data/                examples.parquet, summary.json, learned.parquet
    out/train/               the run's, with the new calibrator and threshold
    out/model/               the artifact
    out/recalibration.json   the findings, for tools
    out/recalibration.html   the same for people, recalibration.md for a pull request
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from querytier.classifier.artifact import MODEL
from querytier.classifier.manifest import Manifest
from querytier.classifier.runtime import GraphOutputs
from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import read_prepared
from querytier.data.ingest.sources import LogSource
from querytier.errors import ExportError, UsageError
from querytier.eval.certificates.sample_size import SampleSize
from querytier.eval.staleness import measure, staleness
from querytier.files import atomic_folder
from querytier.loop.pair_labels import PairLabels, prepare_pair_labels
from querytier.loop.recalibration_result import PAGE, Recalibration
from querytier.pipeline.certification import Certified, certify_artifact, plan_sample_size
from querytier.pipeline.evaluate import version_tags
from querytier.pipeline.export import export_fitted, lineage_of, typical_queries
from querytier.pipeline.feature_blocks import FeatureBlocks
from querytier.pipeline.param_sections import RecalibrateParams
from querytier.pipeline.params import CertifyParams, Params
from querytier.pipeline.scoring import load_for_evaluation, load_trained_on, score_all
from querytier.pipeline.train import RUN, read_trained
from querytier.serve import Router
from querytier.tracking.tracker import Tracker
from querytier.training.calibration import FittedCalibration, fit_calibrator
from querytier.training.fit import Calibration, FittedClassifier, threshold_for

__all__ = ["overtaking", "recalibrate"]


# For float32 scores: two calibrators round differently.
_ROUNDING = 1e-5


def recalibrate(
    run: Path, sources: Sequence[LogSource], out: Path, reading: Reading, params: Params
) -> Recalibration:
    """Calibrate a run's classifier on labels of another pair of models, and certify it or refuse.

    Parameters
    ----------
    run : Path
        The --out folder of a run, or the artifact inside one, such as the champion of a loop.
        Queries that its head was trained on are set aside, because it is overconfident on them.
    sources : sequence of LogSource
        Logs with labels of the new pair.
    out : Path
        Another folder.
    reading : Reading
    params : Params
        Sections recalibrate, certify and export. Without an alpha, the alpha of the old certificate
        is used.

    Raises
    ------
    UsageError
        If `run` has no trained classifier or no artifact of it, or `out` is the same folder.
    LogError
        If the logs cannot be read, or fewer than `FEWEST_LABELS` rows are left.
    ExportError
        If a gate of the export fails, or the new artifact ranks queries differently from the old
        one.
    """
    run = _run_of(run)
    if out.resolve() == run.resolve():
        raise UsageError(f"--out {out} is the run to recalibrate; name another folder")
    if not (run / "train").is_dir():
        raise UsageError(
            f"{run} has no train/, and the classifier is exported again from there: give the --out "
            "folder of its run; if only the artifact is left, train on labels of the new pair "
            "(`querytier run`)"
        )
    fitted, old_run = read_trained(run)
    _, summary = read_prepared(run)
    old = load_trained_on(run, summary.fingerprint)
    out.mkdir(parents=True, exist_ok=True)
    # Use the store of the old run, so that one registry has both versions.
    tracker = Tracker.of(old_run)
    name = f"recalibrate {', '.join(one.path.name for one in sources)}"
    settings = {**params.recalibrate.model_dump(), **params.certify.model_dump()}
    with tracker.start(name, settings) as new_run:
        pair = prepare_pair_labels(run, sources, out, reading, params.recalibrate)
        tracker.log_dataset(pair.examples.dataset(), pair.data.source, pair.data.fingerprint)
        fitted, calibration = _calibrated(run, fitted, pair, params.recalibrate)
        with atomic_folder(out / "train") as new:
            shutil.copytree(run / "train", new, dirs_exist_ok=True)
            fitted.write(new)
            new_run.write(new / RUN)
        _export(out, fitted, old.classifier.manifest, pair, params)
        result = _result(run, out, old, pair, calibration=calibration, params=params)
        result.write()
        _log(tracker, result)
    return result


def _run_of(folder: Path) -> Path:
    """Return the run of an artifact inside one, or the folder itself."""
    artifact = folder.resolve()  # a loop's champion is a link to the artifact of its round
    is_inside = artifact.name == "model" and (artifact.parent / "train").is_dir()
    return artifact.parent if is_inside else folder


def _calibrated(
    run: Path, fitted: FittedClassifier, pair: PairLabels, section: RecalibrateParams
) -> tuple[FittedClassifier, FittedCalibration]:
    """Return the classifier with calibrator and threshold for the new pair."""
    # 100 labels are enough for this (llmdrift: Brier score 0.282 to 0.173, calibration error 0.302
    # to 0.048) but hardly for a ranking, which needed 300 to beat the old one on a mix of tasks.
    rows = pair.examples.of_split("calibration")
    blocks = FeatureBlocks.read(run / "train").of(fitted.recipe).of(rows.views())
    found = fit_calibrator(
        fitted.heads.log_odds(blocks),
        rows.needs_frontier,
        rows.weight,
        rows.group,
        method=section.calibration,
        seed=section.seed,
    )
    heads = fitted.heads.calibrated(found.calibrator)
    # The threshold is set on the same rows, the certificate on rows that neither has seen.
    rate = section.target_frontier_rate or fitted.target_frontier_rate
    losses = dict(found.log_losses)
    calibrated = replace(
        fitted,
        heads=heads,
        threshold=threshold_for(heads.decision_scores(blocks), rate),
        target_frontier_rate=rate,
        calibration=Calibration(found.method, found.reason, "calibration", found.n, losses, None),
    )
    return calibrated, found


def _result(
    run: Path,
    out: Path,
    old: Router,
    pair: PairLabels,
    *,
    calibration: FittedCalibration,
    params: Params,
) -> Recalibration:
    """Compare the new artifact with the old one, and certify it if requested."""
    before, examples, seed = old.classifier.manifest, pair.examples, params.recalibrate.seed
    old_scores, new_scores = (
        score_all(router, examples.views()) for router in (old, load_for_evaluation(out / "model"))
    )
    _check_same_ranking(out / "model", old_scores, new_scores)
    certify = _certify_params(params.certify, before)
    certified = None if certify.alpha is None else certify_artifact(out, certify)
    manifest = load_for_evaluation(out / "model").classifier.manifest
    held_out = examples.split == "certification"
    judged = examples.where(held_out)
    # A certificate moves the threshold, not the scores.
    new_scores = replace(new_scores, threshold=manifest.threshold)
    return Recalibration(
        out=out,
        run=run,
        manifest=manifest,
        old_version=before.model_version,
        rows={
            "calibration": int((~held_out).sum()),
            "certification": len(judged),
            "set_aside": pair.set_aside,
        },
        stale=staleness(
            examples,
            old_scores,
            promised=before.certificate.details["alpha"]
            if before.certificate.status == "granted"
            else None,
            rate_before=before.data.get("needs_frontier"),
            seed=seed,
        ),
        before=measure(judged, old_scores.where(held_out), seed),
        after=measure(judged, new_scores.where(held_out), seed),
        calibration=calibration,
        certified=certified,
        plan=_plan(out, certified, certify, manifest.metrics["target_frontier_rate"]),
    )


def _export(
    out: Path, fitted: FittedClassifier, old: Manifest, pair: PairLabels, params: Params
) -> None:
    """Export in the old artifact's precision: another one would rank some queries differently."""
    lineage = lineage_of(fitted, pair.data)
    recalibrated_from = {
        "model_version": old.model_version,
        "created": old.created,
        "source": old.data.get("source"),
        "fingerprint": old.data.get("fingerprint"),
    }
    kept = {"precision": old.precision, "fallback_tier": old.fallback_tier}
    try:
        export_fitted(
            out,
            fitted,
            # The rows that the head was trained on add texts to the gates of a quantised encoder.
            Examples.concatenated([pair.known.of_split("train"), pair.examples]),
            params.model_copy(update={"export": params.export.model_copy(update=kept)}),
            lineage=replace(lineage, data={**lineage.data, "recalibrated_from": recalibrated_from}),
            # Which queries are typical depends on the traffic, not on the pair of models.
            typical=typical_queries(out, pair.known),
        )
    except ExportError as error:
        if old.precision == "fp32":
            raise
        raise ExportError(
            f"{error}; a recalibration keeps the precision of its artifact ({old.precision}), so "
            "only a wider export.drift, or a new run, helps here"
        ) from error


def overtaking(before: Floats, after: Floats) -> float:
    """Return the largest margin by which a query has overtaken a higher one; 0 or less if none has.

    Parameters
    ----------
    before, after : ndarray of float64, shape (n,)
        Old and new decision scores of the same n > 0 queries.

    Examples
    --------
    >>> overtaking(np.array([0.1, 0.2, 0.2]), np.array([0.5, 0.3, 0.9]))
    0.2
    """
    order = np.argsort(before)
    old, new = before[order], after[order]
    highest = np.maximum.accumulate(np.append(-np.inf, new))
    # Scores that were equal up to rounding have no order: a steep calibrator ends at 0 and 1.
    below = np.searchsorted(old, old - _ROUNDING)
    return float(np.max(highest[below] - new))


def _check_same_ranking(model: Path, before: GraphOutputs, after: GraphOutputs) -> None:
    """Check that the ranking is that of the old artifact, because `train/` may be newer."""
    apart = overtaking(before.decision_scores, after.decision_scores)
    if not apart <= _ROUNDING:
        shutil.rmtree(model)
        raise ExportError(
            f"the new artifact ranks queries differently from the old one (by up to {apart:.2g} "
            "of a decision score), so the run's artifact was not exported from its train/; run "
            "`querytier export` on the run first; no artifact was written"
        )


def _certify_params(params: CertifyParams, old: Manifest) -> CertifyParams:
    """Return the promise to request: by default, with the alpha of the old certificate."""
    alpha = params.alpha or old.certificate.details.get("alpha")
    return params.model_copy(update={"alpha": None if alpha is None else float(alpha)})


def _plan(
    out: Path, certified: Certified | None, certify: CertifyParams, target: float
) -> SampleSize | None:
    if certified is None or certified.certification.granted:
        return None
    try:
        return plan_sample_size(out, certify, 1 - target, None)
    except ValueError:  # there is no such plan for graded losses
        return None


def _log(tracker: Tracker, found: Recalibration) -> None:
    """Log the findings, and register the artifact as challenger."""
    for name, side in (("before", found.before), ("after", found.after)):
        metrics = {key: getattr(side, key).value for key in ("brier", "ece", "auroc")}
        tracker.log_metrics({f"{name}_{key}": value for key, value in metrics.items()})
    tags = version_tags(found.out, found.manifest) | {"recalibrated_from": found.old_version}
    tracker.set_tags({**tags, "certificate_reason": found.manifest.certificate.reason})
    model = found.out / "model"
    tracker.log_files([path for path in sorted(model.iterdir()) if path.name != MODEL], "artifact")
    tracker.log_files([found.out / f"{PAGE}.{ending}" for ending in ("json", "html", "md")])
    example = load_for_evaluation(model).classifier.feed("an example")
    tracker.register(model, MODEL, example, tags)
