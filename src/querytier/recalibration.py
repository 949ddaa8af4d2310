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
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.certification import Certified, certify_artifact, plan_labels
from querytier.classifier.artifact import MANIFEST, MODEL
from querytier.classifier.manifest import Certificate, Manifest
from querytier.classifier.recalibrating import log_odds_before_calibration, write_recalibrated
from querytier.data.atomic import atomic_file, atomic_folder
from querytier.data.data_summary import DataSummary
from querytier.data.examples import Examples
from querytier.data.held_out import met_before
from querytier.data.labelled_log import Reading
from querytier.data.preparing import EXAMPLES, SUMMARY, read_unsplit
from querytier.data.roles import ROLES, roles_of
from querytier.data.sources import LogSource
from querytier.data.text_view import text_view
from querytier.errors import LogError, UsageError
from querytier.eval.planning import Plan
from querytier.eval.recalibration_page import render_markdown, render_page
from querytier.eval.staleness import Measured, Staleness, measured, staleness
from querytier.params import CertifyParams, Params
from querytier.scoring import load_to_judge
from querytier.serve import Router
from querytier.tracking import RunReference, Tracker
from querytier.training.calibrating import FittedCalibration, fit_calibrator
from querytier.training.fitted import threshold_for

__all__ = ["FEWEST_LABELS", "LEARNED", "Recalibrated", "recalibrate"]

FEWEST_LABELS = 50
LEARNED = "learned.parquet"
_PAGE, _RUN = "recalibration", "run.json"
_NOT_ASKED = Certificate(
    "refused",
    "not asked for (certify.alpha, or querytier certify); the threshold meets a frontier rate",
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Recalibrated:
    """What came of a recalibration.

    Attributes
    ----------
    out : Path
    source : Path
        The artifact that it started from.
    manifest : Manifest
        Of the new artifact, with the certificate.
    old_version : str
    rows : dict of str to int
        `calibration`, `certification`, and `set_aside`: those that the head learned from.
    stale : Staleness
        Of the old classifier, on all rows that were used.
    before, after : Measured
        Old and new classifier on the certification rows, which calibrated neither.
    calibration : FittedCalibration
    certified : Certified or None
        None where no promise was asked for.
    plan : Plan or None
        What it takes to certify the target cheap share, where the promise was refused.
    """

    out: Path
    source: Path
    manifest: Manifest
    old_version: str
    rows: dict[str, int]
    stale: Staleness
    before: Measured
    after: Measured
    calibration: FittedCalibration
    certified: Certified | None
    plan: Plan | None

    @property
    def ranks(self) -> bool:
        """Whether the old ranking still tells queries of the new pair apart."""
        return max(self.calibration.calibrator.rising, self.calibration.calibrator.falling) > 0

    def lines(self) -> list[str]:
        """Return what there is to say of it."""
        rows = self.rows
        lines = [
            f"rows: {rows['calibration']} calibrate, {rows['certification']} certify, "
            f"{rows['set_aside']} set aside that the head learned from",
            *self.stale.lines(),
            f"calibration: {self.calibration.reason}; on the certification rows Brier "
            f"{_pair(self.before.brier.value, self.after.brier.value)}, ECE "
            f"{_pair(self.before.ece.value, self.after.ece.value)}",
        ]
        if not self.ranks:
            lines.append(
                "the old ranking tells nothing about the new pair: every query gets the same "
                "probability; train on labels of the new pair (`querytier run`)"
            )
        rate = self.after.frontier_rate.text()
        lines.append(f"threshold {self.manifest.threshold:.4f} sends {rate} to the frontier model")
        lines += self.certified.lines() if self.certified else []
        if self.plan is not None:
            needed = "no number" if self.plan.more is None else f"{self.plan.more} more"
            lines.append(f"labels needed: {needed} ({self.plan.reason})")
        return lines

    def record(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        certificate = self.manifest.certificate
        return {
            "querytier": version("querytier"),
            "created": self.manifest.created,
            "from": {"artifact": str(self.source), "model_version": self.old_version},
            "model_version": self.manifest.model_version,
            "threshold": self.manifest.threshold,
            "rows": self.rows,
            "stale": self.stale.record(),
            "before": self.before.record(),
            "after": self.after.record(),
            "calibration": asdict(self.calibration),
            "ranks": self.ranks,
            "certificate": {"status": certificate.status, "reason": certificate.reason},
            "plan": None if self.plan is None else self.plan.record(),
            "lines": self.lines(),
        }


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
        examples, data, set_aside = _prepared(run, sources, out, reading, params)
        tracker.log_dataset(examples.dataset(), data.source, data.fingerprint)
        made = _recalibrated(source, out, examples, data, params, set_aside)
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


def _prepared(
    run: Path, sources: Sequence[LogSource], out: Path, reading: Reading, params: Params
) -> tuple[Examples, DataSummary, int]:
    """Read the new labels, give them roles, write them; also count the rows set aside."""
    examples, data = read_unsplit(sources, reading, out / "quarantine.jsonl")
    learned = _learned(run)
    met = np.zeros(len(examples), dtype=np.bool_)
    if learned is not None:
        met = met_before(examples, learned)
    fresh = examples.where(~met)
    if len(fresh) < FEWEST_LABELS:
        raise LogError(
            f"{data.source}: {len(fresh)} labelled rows to calibrate and certify on, "
            f"{int(met.sum())} more are of queries that the head learned from; recalibrate takes "
            f"at least {FEWEST_LABELS}: label other queries with the new pair"
        )
    share, seed = params.recalibrate.certification_share, params.recalibrate.seed
    groups = np.array([int(group, 16) for group in fresh.group], dtype=np.uint64)
    roles = roles_of(groups, {"certification": share}, seed, fresh.needs_frontier)
    fresh = replace(fresh, role=np.where(roles == "train", "calibration", roles).astype(object))
    data = _summary(data, fresh)
    with atomic_folder(out / "data") as folder:
        _write_parquet(fresh, folder / EXAMPLES)
        if learned is not None:
            _write_parquet(learned, folder / LEARNED)
        data.write(folder / SUMMARY)
    return fresh, data, int(met.sum())


def _learned(run: Path) -> Examples | None:
    """Return the rows that the head of a run learned from; None where nothing tells."""
    kept, examples = run / "data" / LEARNED, run / "data" / EXAMPLES
    if kept.is_file():
        return Examples.read_parquet(kept)
    if examples.is_file() and (run / "train").is_dir():
        return Examples.read_parquet(examples).of_role("train")
    return None


def _write_parquet(examples: Examples, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(examples.table(), path)


def _summary(data: DataSummary, examples: Examples) -> DataSummary:
    labels = {role: examples.of_role(role).needs_frontier for role in ROLES}
    needy = examples.needs_frontier
    return replace(
        data,
        usable=len(examples),
        positive=int((needy > 0.5).sum()),
        negative=int((needy < 0.5).sum()),
        groups=len(np.unique(examples.group.astype(str))),
        roles={role: len(found) for role, found in labels.items()},
        needs_frontier={role: float(found.mean()) for role, found in labels.items() if len(found)},
        shares={**data.shares, "needs_frontier": float(needy.mean())},
        fingerprint=examples.fingerprint(),
    )


def _recalibrated(
    source: Path,
    out: Path,
    examples: Examples,
    data: DataSummary,
    params: Params,
    set_aside: int,
) -> Recalibrated:
    section = params.recalibrate
    old = load_to_judge(source)
    certify = _asked(params.certify, old.classifier.manifest)
    p_frontier, scores = _decided(old, examples)
    found = _calibration(source, examples, params)
    calibrating = examples.role == "calibration"
    target = section.target_frontier_rate or _target(old.classifier.manifest)
    calibrated = scores[calibrating]
    if old.classifier.manifest.decision_score == "p_frontier":
        views = [text_view(query) for query in examples.query[calibrating]]
        logits = found.calibrator.logits(log_odds_before_calibration(source, views))
        calibrated = np.asarray(1 / (1 + np.exp(-logits)))
    manifest = write_recalibrated(
        source,
        out / "model",
        found.calibrator,
        threshold_for(calibrated, target),
        certificate=_NOT_ASKED,
        lineage=_lineage(old.classifier.manifest, data, found, target),
    )
    certified = None if certify.alpha is None else certify_artifact(out, certify)
    manifest = certified.manifest if certified else manifest
    new_p, new_scores = _decided(load_to_judge(out / "model"), examples)
    judged = ~calibrating
    old_manifest, rows = old.classifier.manifest, examples.where(judged)
    return Recalibrated(
        out=out,
        source=source,
        manifest=manifest,
        old_version=old_manifest.model_version,
        rows={
            "calibration": int(calibrating.sum()),
            "certification": int(judged.sum()),
            "set_aside": set_aside,
        },
        stale=staleness(
            examples,
            p_frontier,
            scores,
            threshold=old_manifest.threshold,
            promised=_promised(old_manifest),
            rate_before=old_manifest.data.get("needs_frontier"),
            seed=section.seed,
        ),
        before=measured(
            rows,
            p_frontier[judged],
            scores[judged],
            threshold=old_manifest.threshold,
            seed=section.seed,
        ),
        after=measured(
            rows,
            new_p[judged],
            new_scores[judged],
            threshold=manifest.threshold,
            seed=section.seed,
        ),
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


def _target(manifest: Manifest) -> float:
    return float(manifest.metrics.get("target_frontier_rate", 0.3))


def _decided(router: Router, examples: Examples) -> tuple[Floats, Floats]:
    """Return p_frontier and decision score of every query, as they are served."""
    scores = [router.classifier.scores(text_view(query)) for query in examples.query]
    return (
        np.array([one.p_frontier for one in scores], dtype=np.float64),
        np.array([one.decision_score for one in scores], dtype=np.float64),
    )


def _calibration(source: Path, examples: Examples, params: Params) -> FittedCalibration:
    rows = examples.of_role("calibration")
    log_odds = log_odds_before_calibration(source, [text_view(query) for query in rows.query])
    return fit_calibrator(
        log_odds,
        rows.needs_frontier,
        rows.weight,
        rows.group,
        method=params.recalibrate.calibration,
        seed=params.recalibrate.seed,
    )


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
            "roles": data.roles,
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
) -> Plan | None:
    if certified is None or certified.certification.granted:
        return None
    try:
        return plan_labels(out, certify, 1 - target, None)
    except ValueError:  # graded losses, of which no plan is made
        return None


def _write(made: Recalibrated) -> None:
    record = made.record()
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
        "model_version": made.manifest.model_version,
        "data_fingerprint": data.fingerprint,
        "recalibrated_from": made.old_version,
        "certificate": certificate.status,
    }
    tracker.set_tags({**tags, "certificate_reason": certificate.reason})
    model = made.out / "model"
    tracker.log_files([path for path in sorted(model.iterdir()) if path.name != MODEL], "artifact")
    tracker.log_files([made.out / f"{_PAGE}.{ending}" for ending in ("json", "html", "md")])
    example = load_to_judge(model).classifier.feed("an example")
    tracker.register(model / MODEL, example, tags)


def _pair(before: float | None, after: float | None) -> str:
    return " -> ".join("unknown" if one is None else f"{one:.3f}" for one in (before, after))
