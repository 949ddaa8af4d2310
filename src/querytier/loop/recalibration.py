"""A classifier for another pair of models, of few labels: new calibrator, threshold and promise.

Encoder, features and heads stay, and with them the ranking. What is written has the layout of a
run, but for `train/`::

    out/data/                examples.parquet, summary.json, learned.parquet
    out/model/               the artifact
    out/recalibration.json   what was found, for tools
    out/recalibration.html   the same for people, recalibration.md for a pull request
    out/run.json             its run in MLflow
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.artifact import MANIFEST, MODEL
from querytier.classifier.export.recalibrate_artifact import (
    log_odds_before_calibration,
    write_recalibrated,
)
from querytier.classifier.manifest import Certificate, Manifest
from querytier.data.examples import Examples
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.sources import LogSource
from querytier.errors import UsageError
from querytier.eval.certificates.sample_size import SampleSize
from querytier.eval.report.recalibration_page import render_markdown, render_page
from querytier.eval.staleness import measured, staleness
from querytier.files import atomic_file
from querytier.loop.pair_labels import NewPair, prepare_new_pair
from querytier.loop.recalibrated import Recalibrated
from querytier.pipeline.certification import Certified, certify_artifact, plan_sample_size
from querytier.pipeline.evaluate import version_tags
from querytier.pipeline.param_sections import RecalibrateParams
from querytier.pipeline.params import CertifyParams, Params
from querytier.pipeline.scoring import load_to_judge
from querytier.serve import Router
from querytier.tracking.tracker import RunReference, Tracker
from querytier.training.calibration import FittedCalibration, fit_calibrator
from querytier.training.fit import threshold_for

__all__ = ["recalibrate"]

_PAGE, _RUN = "recalibration", "run.json"
_NOT_ASKED = Certificate(
    "refused",
    "not asked for (certify.alpha, or querytier certify); the threshold meets a frontier rate",
)

Floats = NDArray[np.float64]


def recalibrate(
    run: Path, sources: Sequence[LogSource], out: Path, reading: Reading, params: Params
) -> Recalibrated:
    """Calibrate an artifact anew on labels of another pair of models, and certify it or refuse.

    Parameters
    ----------
    run : Path
        What `--out` of a run was, or an artifact. Of a run it is known which rows the head learned
        from: these are set aside, as the head is surer of them than of others.
    sources : sequence of LogSource
        Logs with labels of the new pair.
    out : Path
        Another folder.
    reading : Reading
    params : Params
        Sections recalibrate and certify; without an alpha that of the old certificate is asked for.

    Raises
    ------
    UsageError
        If `run` holds no artifact, or `out` is the same folder.
    LogError
        If the logs cannot be read, or fewer than `FEWEST_LABELS` rows are left.
    """
    source = _artifact_of(run)
    if out.resolve() in (run.resolve(), source.resolve().parent):
        raise UsageError(f"--out {out} is what is recalibrated; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    tracker = _tracker(run, out)
    section = params.recalibrate
    name = f"recalibrate {', '.join(one.path.name for one in sources)}"
    with tracker.start(name, {**section.model_dump(), **params.certify.model_dump()}) as reference:
        reference.write(out / _RUN)
        pair = prepare_new_pair(run, sources, out, reading, section)
        data = pair.data
        tracker.log_dataset(pair.examples.dataset(), data.source, data.fingerprint)
        made = _recalibrated(source, out, pair, params)
        _write(made)
        _log(tracker, made, data)
    return made


def _artifact_of(run: Path) -> Path:
    for folder in (run / "model", run):
        if (folder / MANIFEST).is_file():
            return folder
    raise UsageError(
        f"{run} holds no artifact; give what --out of a run was, or the folder of an artifact"
    )


def _tracker(run: Path, out: Path) -> Tracker:
    """Return a tracker of the store in which the old run was logged; without one, of a new."""
    for path in (run / _RUN, run / "train" / _RUN):
        if path.is_file():
            return Tracker.of(RunReference.read(path))
    return Tracker(out)


def _recalibrated(source: Path, out: Path, pair: NewPair, params: Params) -> Recalibrated:
    section, examples = params.recalibrate, pair.examples
    old = load_to_judge(source)
    before = old.classifier.manifest
    certify, target = _asked(params.certify, before), _target(before, params)
    said = _said(old, examples)
    found = _calibration(source, examples, section)
    calibrating = np.asarray(examples.split == "calibration", dtype=np.bool_)
    manifest = write_recalibrated(
        source,
        out / "model",
        found.calibrator,
        threshold_for(_new_scores(source, examples, said, found)[calibrating], target),
        certificate=_NOT_ASKED,
        lineage=_lineage(before, pair.data, found, target),
    )
    certified = None if certify.alpha is None else certify_artifact(out, certify)
    manifest = certified.manifest if certified else manifest
    judged = examples.where(~calibrating)
    says = _said(load_to_judge(out / "model"), judged)
    seed = section.seed
    return Recalibrated(
        out=out,
        source=source,
        manifest=manifest,
        old_version=before.model_version,
        rows={"calibration": int(calibrating.sum()), "certification": len(judged)}
        | {"set_aside": pair.set_aside},
        stale=staleness(
            examples,
            *said,
            threshold=before.threshold,
            promised=_promised(before),
            rate_before=before.data.get("needs_frontier"),
            seed=seed,
        ),
        before=measured(
            judged, *(one[~calibrating] for one in said), threshold=before.threshold, seed=seed
        ),
        after=measured(judged, *says, threshold=manifest.threshold, seed=seed),
        calibration=found,
        certified=certified,
        plan=_plan(out, certified, certify, target),
    )


def _asked(params: CertifyParams, old: Manifest) -> CertifyParams:
    """Return what is to be promised: what the old certificate did, where nothing else is said."""
    if params.alpha is not None or old.certificate.details.get("alpha") is None:
        return params
    return params.model_copy(update={"alpha": float(old.certificate.details["alpha"])})


def _promised(manifest: Manifest) -> float | None:
    certificate = manifest.certificate
    granted = certificate.status == "granted"
    return float(certificate.details["alpha"]) if granted else None


def _target(manifest: Manifest, params: Params) -> float:
    said = params.recalibrate.target_frontier_rate
    return float(said or manifest.metrics.get("target_frontier_rate", 0.3))


def _said(router: Router, examples: Examples) -> tuple[Floats, Floats]:
    """Return p_frontier and decision score of every query, as they are served."""
    scores = [router.classifier.scores(view) for view in examples.views()]
    return (
        np.array([one.p_frontier for one in scores], dtype=np.float64),
        np.array([one.decision_score for one in scores], dtype=np.float64),
    )


def _calibration(source: Path, examples: Examples, section: RecalibrateParams) -> FittedCalibration:
    rows = examples.of_split("calibration")
    log_odds = log_odds_before_calibration(source, rows.views())
    return fit_calibrator(
        log_odds,
        rows.needs_frontier,
        rows.weight,
        rows.group,
        method=section.calibration,
        seed=section.seed,
    )


def _new_scores(
    source: Path, examples: Examples, said: tuple[Floats, Floats], found: FittedCalibration
) -> Floats:
    """Return the decision scores once calibrated; an expected gain stays as it is."""
    if load_to_judge(source).classifier.manifest.decision_score == "gain":
        return said[1]
    views = examples.views()
    logits = found.calibrator.logits(log_odds_before_calibration(source, views))
    return np.asarray(1 / (1 + np.exp(-logits)))


def _lineage(
    old: Manifest, data: DataSummary, found: FittedCalibration, target: float
) -> dict[str, dict[str, Any]]:
    return {
        "label_rule": asdict(data.label_rules),
        "metrics": {
            **old.metrics,
            "target_frontier_rate": target,
            "calibration": found.method,
            "calibration_rows": "calibration",
            "calibration_reason": found.reason,
            "venn_abers": None,
        },
        "data": {
            "source": data.source,
            "fingerprint": data.fingerprint,
            "splits": data.splits,
            "label_sources": data.label_sources,
            "needs_frontier": data.shares["needs_frontier"],
            "recalibrated_from": {
                "model_version": old.model_version,
                "created": old.created,
                "source": old.data.get("source"),
                "fingerprint": old.data.get("fingerprint"),
            },
        },
        "code": {**old.code, "querytier": version("querytier")},
    }


def _plan(
    out: Path, certified: Certified | None, certify: CertifyParams, target: float
) -> SampleSize | None:
    if certified is None or certified.certification.granted:
        return None
    try:
        return plan_sample_size(out, certify, 1 - target, None)
    except ValueError:  # graded losses, of which no plan is made
        return None


def _write(made: Recalibrated) -> None:
    record = made.to_dict()
    pages = {
        "json": json.dumps(record, indent=2, allow_nan=False) + "\n",
        "html": render_page(record),
        "md": render_markdown(record),
    }
    for ending, text in pages.items():
        with atomic_file(made.out / f"{_PAGE}.{ending}") as scratch:
            scratch.write_text(text, "utf-8")


def _log(tracker: Tracker, made: Recalibrated, data: DataSummary) -> None:
    """Log what was found, and register the artifact as challenger."""
    for name, found in (("before", made.before), ("after", made.after)):
        metrics = {key: getattr(found, key).value for key in ("brier", "ece", "auroc")}
        tracker.log_metrics({f"{name}_{key}": value for key, value in metrics.items()})
    certificate = made.manifest.certificate
    tags = {
        **version_tags(made.out, made.manifest),
        "data_fingerprint": data.fingerprint,
        "recalibrated_from": made.old_version,
    }
    tracker.set_tags({**tags, "certificate_reason": certificate.reason})
    model = made.out / "model"
    tracker.log_files([path for path in sorted(model.iterdir()) if path.name != MODEL], "artifact")
    tracker.log_files([made.out / f"{_PAGE}.{ending}" for ending in ("json", "html", "md")])
    example = load_to_judge(model).classifier.feed("an example")
    tracker.register(model, MODEL, example, tags)
