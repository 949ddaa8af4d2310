"""Labelled logs other than the training logs: evaluate an artifact on them, audit their labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from querytier.classifier.model.encoder import load_encoder
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import read_unsplit
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.eval.rankings import Ranking, probability_ranking
from querytier.pipeline.evaluation_run import RouterEvaluation, evaluate_router
from querytier.pipeline.metrics_file import metrics_of
from querytier.pipeline.params import Params
from querytier.pipeline.scoring import embedded, load_for_evaluation
from querytier.tracking.tracker import Tracker
from querytier.training.baselines import LEARNED_BASELINES, LabelledFeatures
from querytier.training.folds import group_folds, out_of_fold_scores
from querytier.training.label_audit.label_errors import Suspect, audit_labels, write_suspects

__all__ = ["audit_logs", "evaluate_artifact"]


def evaluate_artifact(
    sources: Sequence[LogSource],
    artifact: Path,
    out: Path,
    *,
    rules: LabelRules | None,
    params: Params,
    champion: Path | None = None,
) -> RouterEvaluation:
    """Evaluate an existing artifact on other labelled logs, with baselines cross-fitted on them.

    Parameters
    ----------
    sources : sequence of LogSource
    artifact, out : Path
    rules : LabelRules or None
        None uses the artifact's rules, then the automatic ones.
    params : Params
    champion : Path, optional
        An artifact that gets a row of its own.
    """
    router = load_for_evaluation(artifact)
    trained_on = LabelRules(**router.classifier.manifest.label_rule)
    reading = Reading(rules or trained_on.with_automatic(), params.prepare.max_bad_share)
    out.mkdir(parents=True, exist_ok=True)
    examples, data = read_unsplit(sources, reading, out / "quarantine.jsonl")
    tracker = Tracker(out)
    with tracker.start(f"evaluate {data.source}", params.evaluate.model_dump()):
        rows = embedded(router, examples)
        learned, left_out = _cross_fitted_baselines(rows, params)
        evaluation = evaluate_router(
            router,
            rows,
            rows,
            learned,
            left_out,
            base_rate=router.classifier.manifest.data["needs_frontier"],
            params=params.evaluate,
            champion=None if champion is None else load_for_evaluation(champion),
        )
        evaluation.write(metrics_of(evaluation, data, None, []), out, artifact, tracker)
    return evaluation


def audit_logs(
    sources: Sequence[LogSource], out: Path, reading: Reading, params: Params
) -> list[Suspect]:
    """Write a table of the doubtful labels of logs, for a person to review.

    Parameters
    ----------
    sources : sequence of LogSource
    out : Path
        The `.csv` file; bad records go to `OUT.quarantine.jsonl`.
    reading : Reading
        With `redaction: fail`, personal data is redacted instead, because a person reads the table.
    params : Params
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if reading.redaction == "fail":
        reading = replace(reading, redaction="on")
    quarantine = out.with_name(f"{out.name}.quarantine.jsonl")
    examples, _ = read_unsplit(sources, reading, quarantine, planned=True)
    embeddings = load_encoder().encode(examples.views())
    labelled = LabelledFeatures(examples, {"minilm": embeddings})
    suspects = audit_labels(labelled, folds=params.train.folds, seed=params.train.seed)
    write_suspects(suspects, out)
    return suspects


def _cross_fitted_baselines(
    rows: LabelledFeatures, params: Params
) -> tuple[list[Ranking], dict[str, str]]:
    """Fit the baselines to these rows out of fold, an advantage that the artifact does not have."""
    labels, folds = rows.examples.needs_frontier, params.train.folds
    if min((labels > 0.5).sum(), (labels < 0.5).sum(), len(set(rows.examples.group))) < 2 * folds:
        reason = f"fewer than {2 * folds} rows of one class, or groups"
        return [], dict.fromkeys(LEARNED_BASELINES, reason)
    masks = group_folds(rows.examples, folds, params.train.seed)
    source = f"these rows, {folds}-fold out of fold"
    learners, left_out = dict(LEARNED_BASELINES), {}
    if len(set(rows.examples.domain)) < 2:
        # With one domain, the mean of the other folds is high if the held-out labels are low.
        del learners["domain_prior"]
        left_out["domain_prior"] = "the log has no domains"
    rankings = [
        probability_ranking(name, out_of_fold_scores(learner, rows, masks), source)
        for name, learner in learners.items()
    ]
    return rankings, left_out
