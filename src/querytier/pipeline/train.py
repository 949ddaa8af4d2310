"""The stages prepare, train, export and evaluate, each a function; the command line calls them.

All share one folder, `out`::

    out/data/             examples.parquet, summary.json        prepare
    out/quarantine.jsonl  records that made no example          prepare
    out/train/            head, candidates, embeddings, run     train
    out/unfinished/       what an interrupted train goes on from
    out/model/            the artifact                          export
    out/metrics.json      the evaluation, for tools             evaluate
    out/report.html       the evaluation, for people            evaluate

Each appears complete or not at all. Where train, export or evaluate fails or is interrupted, its
MLflow run says so.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from querytier.classifier.artifact import MODEL
from querytier.classifier.export.exporting import export_artifact
from querytier.classifier.export.parity import parity_views
from querytier.classifier.manifest import Certificate, Manifest
from querytier.classifier.model.head import Calibrated
from querytier.data.held_out import rows_name
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.engines import Engine
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import Splitting, prepare, read_prepared
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.errors import UsageError
from querytier.eval.gate.absolute import absolute_gate, taken_back
from querytier.eval.rankings import Ranking, probability_ranking
from querytier.files import atomic_folder
from querytier.pipeline.certification import Certified, certify_artifact
from querytier.pipeline.checkpoints import CHECKPOINTS, search_of, unfinished
from querytier.pipeline.export import lineage_of, quantising_of, typical_queries
from querytier.pipeline.feature_blocks import FeatureBlocks
from querytier.pipeline.metrics_file import metrics_of
from querytier.pipeline.params import Params, PrepareParams
from querytier.pipeline.router_evaluation import Assessment, assess
from querytier.pipeline.run_records import log_candidates, log_evaluation, log_export, version_tags
from querytier.pipeline.scoring import embedded, load_to_judge
from querytier.tracking.registry import RegisteredVersion
from querytier.tracking.tracker import RunReference, Tracker
from querytier.training.baselines import LEARNED_BASELINES, Labelled
from querytier.training.fit import Fitted, fit_classifier

__all__ = [
    "Exported",
    "evaluate_stage",
    "export_stage",
    "prepare_stage",
    "reading_of",
    "train_stage",
]

_TIMED_QUERIES = 20
_NO_CERTIFICATE = Certificate(
    "refused",
    "not asked for (certify.alpha, or querytier certify); the threshold meets a frontier rate",
)


@dataclass(frozen=True)
class Exported:
    """What `export_stage` left.

    Attributes
    ----------
    manifest : Manifest
        As it is in the folder, with the certificate.
    certified : Certified or None
        None where no promise was asked for.
    """

    manifest: Manifest
    certified: Certified | None


def prepare_stage(
    sources: Sequence[LogSource],
    out: Path,
    params: Params,
    corrections: Path | None = None,
    engine: Engine | None = None,
) -> DataSummary:
    """Read, label and split logs; errors as in `querytier.data.ingest.preparing.prepare`."""
    section = params.prepare
    splitting = Splitting(
        shares=section.shares.model_dump(),
        seed=section.seed,
        near_duplicate_threshold=section.near_duplicate_threshold,
        near_duplicate_rows=section.near_duplicate_rows,
        temporal=section.temporal,
    )
    return prepare(sources, out, reading_of(section, corrections), splitting, engine)


def reading_of(section: PrepareParams, corrections: Path | None = None) -> Reading:
    """Return how the parameters say that logs are read."""
    rules = LabelRules(
        section.label_rules, section.ok_threshold, section.ok_thresholds, section.margin
    )
    return Reading(rules, section.max_bad_share, section.redaction, corrections)


def train_stage(out: Path, params: Params, tracker: Tracker) -> Fitted:
    """Encode, choose, fit and calibrate on what `prepare_stage` left.

    Raises
    ------
    UsageError
        If `out` has no prepared data.
    LogError
        If the data are too few to train and judge a classifier.
    TrainingError
        If a split holds one class only.
    """
    examples, data = read_prepared(out)
    data.check_trainable()
    examples = examples.of_split("train", "calibration")
    section, train = params.train, examples.of_split("train")
    with (
        tracker.start(data.source, params.model_dump()) as run,
        atomic_folder(out / "train") as new,
    ):
        run.write(new / "run.json")
        tracker.log_dataset(examples.dataset(), data.source, data.fingerprint)
        blocks = FeatureBlocks.fitted_to(train, section)
        kept = unfinished(out, examples, section, blocks.weights)
        if section.budget == "thorough":
            blocks = blocks.with_tuned(train, section, kept, out / CHECKPOINTS)
        blocks.write(new)
        labelled = blocks.labelled(examples)
        fitted = fit_classifier(
            labelled,
            recipes=blocks.recipes(train, section),
            folds=section.folds,
            target_frontier_rate=section.target_frontier_rate,
            seed=section.seed,
            named=section.candidate,
            calibration=section.calibration,
            search=search_of(section, out),
            kept=kept,
        )
        fitted.write(new)
        np.save(new / "embeddings.npy", labelled.blocks[fitted.recipe.encoder])
        timed = train.where(np.arange(len(train)) < _TIMED_QUERIES).views()
        log_candidates(tracker, fitted, blocks.encoder_ms(timed))
        by_rule = f"the first within one standard error of the best {fitted.metric}"
        why = by_rule if section.candidate is None else "named by train.candidate"
        tracker.set_tags({"chosen_because": why})
    kept.done()
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    return fitted


def export_stage(out: Path, params: Params, tracker: Tracker) -> Exported:
    """Build the artifact of what `train_stage` left; certify its threshold where alpha is given.

    Where the certificate is refused, the threshold stays that of the target frontier rate.

    Raises
    ------
    UsageError
        If `out` has no trained classifier.
    ExportError
        If the graph strays from the fitted classifier.
    """
    examples, data = read_prepared(out)
    fitted, run = _trained(out)
    features = FeatureBlocks.read(out / "train").of(fitted.recipe)
    with tracker.resume(run):
        manifest = export_artifact(
            out / "model",
            features,
            Calibrated(fitted.heads, fitted.threshold),
            fallback_tier=params.export.fallback_tier,
            views=parity_views(
                examples.of_split("train").query.tolist(), params.export.parity_texts
            ),
            tolerance=params.export.parity_tolerance,
            certificate=_NO_CERTIFICATE,
            lineage=lineage_of(fitted, data),
            quantising=quantising_of(features, fitted, examples, params),
            typical=typical_queries(out, examples),
        )
        asked = params.certify.alpha is not None
        certified = certify_artifact(out, params.certify) if asked else None
        manifest = certified.manifest if certified else manifest
        log_export(tracker, manifest)
        tracker.log_files(
            [path for path in sorted((out / "model").iterdir()) if path.name != MODEL], "artifact"
        )
    return Exported(manifest, certified)


def evaluate_stage(
    out: Path, params: Params, tracker: Tracker, champion: Path | None = None
) -> Assessment:
    """Judge the artifact on the test split, write metrics and report, and check it by itself.

    Where the registry has no champion, one that passes the checks becomes it; where it has one,
    `querytier.loop.gate` compares the two.

    An artifact that is the champion gets a row of its own beside it.

    Raises
    ------
    UsageError
        If a stage before is missing.
    """
    examples, data = read_prepared(out)
    fitted, run = _trained(out)
    with tracker.resume(run):
        router = load_to_judge(out / "model")
        known, held_out = examples.of_split("train", "calibration"), examples.of_split("test")
        test_rows = rows_name(held_out)
        tracker.set_tags({"test_rows": test_rows})
        train = Labelled(known, {fitted.recipe.encoder: np.load(out / "train" / "embeddings.npy")})
        train = train.where(known.split == "train")
        asked = embedded(router, held_out)
        assessment = assess(
            router,
            asked,
            train,
            _baselines_from(train, asked),
            {},
            base_rate=float(train.examples.needs_frontier.mean()),
            params=params.evaluate,
            champion=None if champion is None else load_to_judge(champion),
        )
        manifest = router.classifier.manifest
        stands = tracker.registry().champion_besides(manifest.model_version)
        gate = absolute_gate(assessment.evaluation, _stays(stands, out))
        if tracker.registry().was_rolled_back(manifest.model_version):
            gate = taken_back(gate)
        uses = tracker.count_runs("test_rows", test_rows)
        metrics = metrics_of(assessment, data, gate, fitted.candidates, test_uses=uses)
        plots = assessment.write(metrics, out, out / "model")
        log_evaluation(tracker, assessment, plots, out)
        registered = tracker.register(
            out / "model", MODEL, router.classifier.feed("an example"), version_tags(out, manifest)
        )
        promoted = gate.passed and stands is None
        tracker.registry().judge(registered, gate.passed, gate.reason, promoted=promoted)
    return assessment


def _stays(champion: RegisteredVersion | None, out: Path) -> str:
    """Say what it takes to beat a champion."""
    if champion is None:
        return ""
    return (
        f"the champion, model {champion.model_version} (version {champion.number}), stays until "
        f"`querytier gate --champion DIR --challenger {out}` lets this one take its place"
    )


def _trained(out: Path) -> tuple[Fitted, RunReference]:
    folder = out / "train"
    if not (folder / "run.json").is_file():
        raise UsageError(f"{folder} holds no trained classifier; run `querytier train` first")
    return Fitted.read(folder), RunReference.read(folder / "run.json")


def _baselines_from(train: Labelled, asked: Labelled) -> list[Ranking]:
    return [
        probability_ranking(name, learner(train, asked), "training split")
        for name, learner in LEARNED_BASELINES.items()
    ]
