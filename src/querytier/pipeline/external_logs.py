"""What an artifact decides on other labelled logs, and which of a log's labels are doubtful."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from querytier.classifier.model.encoder import load_encoder
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import read_unsplit
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.eval.rankings import Ranking, probability_ranking
from querytier.pipeline.metrics_file import metrics_of
from querytier.pipeline.params import Params
from querytier.pipeline.router_evaluation import Assessment, assess
from querytier.pipeline.run_records import log_evaluation
from querytier.pipeline.scoring import embedded, load_to_judge
from querytier.tracking.tracker import Tracker
from querytier.training.baselines import (
    LEARNED_BASELINES,
    Labelled,
    cross_fitted,
    group_folds,
)
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
) -> Assessment:
    """Judge an existing artifact on other labelled logs; its baselines are cross-fitted on them.

    Parameters
    ----------
    sources : sequence of LogSource
    artifact, out : Path
    rules : LabelRules or None
        None takes the artifact's, and the automatic ones beside them.
    params : Params
    champion : Path, optional
        Gets a row of its own.
    """
    router = load_to_judge(artifact)
    trained_on = LabelRules(**router.classifier.manifest.label_rule)
    reading = Reading(rules or trained_on.with_automatic(), params.prepare.max_bad_share)
    out.mkdir(parents=True, exist_ok=True)
    examples, data = read_unsplit(sources, reading, out / "quarantine.jsonl")
    tracker = Tracker(out)
    with tracker.start(f"evaluate {data.source}", params.evaluate.model_dump()):
        asked = embedded(router, examples)
        learned, left_out = _cross_fitted_baselines(asked, params)
        assessment = assess(
            router,
            asked,
            asked,
            learned,
            left_out,
            base_rate=router.classifier.manifest.data["needs_frontier"],
            params=params.evaluate,
            champion=None if champion is None else load_to_judge(champion),
        )
        plots = assessment.write(metrics_of(assessment, data, None, []), out, artifact)
        log_evaluation(tracker, assessment, plots, out)
    return assessment


def audit_logs(
    sources: Sequence[LogSource], out: Path, reading: Reading, params: Params
) -> list[Suspect]:
    """Write the table of doubtful labels of logs for a person to review.

    Parameters
    ----------
    sources : sequence of LogSource
    out : Path
        The `.csv` file; bad records go to `OUT.quarantine.jsonl`.
    reading : Reading
        What `redaction: fail` would refuse is redacted instead.
    params : Params
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if reading.redaction == "fail":
        reading = replace(reading, redaction="on")
    quarantine = out.with_name(f"{out.name}.quarantine.jsonl")
    examples, _ = read_unsplit(sources, reading, quarantine, planned=True)
    embeddings = load_encoder().encode(examples.views())
    labelled = Labelled(examples, {"minilm": embeddings})
    suspects = audit_labels(labelled, folds=params.train.folds, seed=params.train.seed)
    write_suspects(suspects, out)
    return suspects


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
        probability_ranking(name, cross_fitted(learner, asked, masks), source)
        for name, learner in learners.items()
    ]
    return rankings, left_out
