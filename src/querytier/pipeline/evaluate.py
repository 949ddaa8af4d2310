"""Stage 4, evaluate: test the artifact, report on it, register it, and apply the absolute gate."""

import json
from pathlib import Path

import numpy as np

from querytier.classifier.artifact import MANIFEST, MODEL, file_sha256
from querytier.classifier.manifest import Manifest
from querytier.data.ingest.preparing import read_prepared
from querytier.data.leakage import rows_id
from querytier.eval.gate.checks import baseline_gate
from querytier.eval.rankings import Ranking, probability_ranking
from querytier.pipeline.evaluation_run import RouterEvaluation, evaluate_router
from querytier.pipeline.metrics_file import metrics_of
from querytier.pipeline.params import Params
from querytier.pipeline.scoring import embedded, load_for_evaluation
from querytier.pipeline.train import EMBEDDINGS, read_trained
from querytier.tracking.registry import RegisteredVersion
from querytier.tracking.tracker import Tracker
from querytier.training.baselines import LEARNED_BASELINES, LabelledFeatures

__all__ = ["evaluate_stage", "version_tags"]


def evaluate_stage(
    out: Path, params: Params, tracker: Tracker, champion: Path | None = None
) -> RouterEvaluation:
    """Evaluate the artifact on the test split; write metrics and report; register the version.

    If the registry has no champion, a version that passes the baseline checks becomes champion.
    Otherwise, `querytier.loop.gate` compares the two.

    Parameters
    ----------
    out : Path
    params : Params
    tracker : Tracker
    champion : Path, optional
        An artifact that gets a row of its own in the report.

    Raises
    ------
    UsageError
        If an earlier stage has not run.
    """
    examples, data = read_prepared(out)
    fitted, run = read_trained(out)
    with tracker.resume(run):
        router = load_for_evaluation(out / "model")
        manifest = router.classifier.manifest
        known, held_out = examples.of_split("train", "calibration"), examples.of_split("test")
        test_rows = rows_id(held_out)
        # Tag before counting: this evaluation is a use of the test rows, even if it fails.
        tracker.set_tags({"test_rows": test_rows})
        train = LabelledFeatures(
            known, {fitted.recipe.encoder: np.load(out / "train" / EMBEDDINGS)}
        )
        train = train.where(known.split == "train")
        test = embedded(router, held_out)
        evaluation = evaluate_router(
            router,
            test,
            train,
            _baselines(train, test),
            {},
            base_rate=float(train.examples.needs_frontier.mean()),
            params=params.evaluate,
            champion=None if champion is None else load_for_evaluation(champion),
        )
        registry = tracker.registry()
        current = registry.champion_other_than(manifest.model_version)
        gate = baseline_gate(evaluation.evaluation, _how_to_replace(current, out))
        if registry.was_rolled_back(manifest.model_version):
            gate = gate.with_rollback()
        uses = tracker.count_runs("test_rows", test_rows)
        metrics = metrics_of(evaluation, data, gate, fitted.candidates, test_uses=uses)
        evaluation.write(metrics, out, out / "model", tracker)
        version = tracker.register(
            out / "model", MODEL, router.classifier.feed("an example"), version_tags(out, manifest)
        )
        # Only a first champion is made here: replacing a champion needs a paired comparison.
        registry.record_gate(
            version, passed=gate.passed, reason=gate.reason, promote=current is None
        )
    return evaluation


def _baselines(train: LabelledFeatures, test: LabelledFeatures) -> list[Ranking]:
    return [
        probability_ranking(name, learner(train, test), "training split")
        for name, learner in LEARNED_BASELINES.items()
    ]


def _how_to_replace(champion: RegisteredVersion | None, out: Path) -> str:
    """Return how this run's artifact can replace the champion; empty if there is none."""
    if champion is None:
        return ""
    return (
        f"the champion, model {champion.model_version} (version {champion.number}), stays until "
        f"`querytier gate --champion DIR --challenger {out}` replaces it with this one"
    )


def version_tags(out: Path, manifest: Manifest) -> dict[str, str]:
    """Return the tags of a run's artifact in the registry; the gate adds its verdict later."""
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
    """Return what `querytier drift` found on the run's data; None if it was not run."""
    if not path.is_file():
        return None
    return "drifted" if json.loads(path.read_text("utf-8"))["drifted"] else "none"
