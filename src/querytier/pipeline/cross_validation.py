"""Nested cross-validation of choice, fit and calibration, for logs too small for a test split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import read_unsplit
from querytier.data.ingest.sources import LogSource
from querytier.eval.evaluation import Evaluation, evaluate_rankings
from querytier.eval.rankings import Ranking, oracle
from querytier.files import atomic_file, write_json
from querytier.pipeline.evaluation_run import log_rows, unfitted_rankings
from querytier.pipeline.feature_blocks import FeatureBlocks
from querytier.pipeline.metrics_file import row_counts
from querytier.pipeline.params import Params
from querytier.pipeline.train import checkpoints_of, fit_settings, search_of
from querytier.tracking.tracker import Tracker
from querytier.training.baselines import LEARNED_BASELINES, LabelledFeatures
from querytier.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from querytier.training.fit import threshold_for
from querytier.training.folds import out_of_fold_scores, rank_within_folds
from querytier.training.hyperparameters import Search
from querytier.training.nested import OutOfFoldPredictions, nested_cross_validation
from querytier.training.recipes import Recipe

__all__ = ["cross_validate_logs", "nested_evaluation"]


def cross_validate_logs(
    sources: Sequence[LogSource], out: Path, reading: Reading, params: Params
) -> dict[str, Any]:
    """Cross-validate choice, fit and calibration on labelled logs; write metrics and scores.

    Parameters
    ----------
    sources : sequence of LogSource
    out : Path
        Folder for `metrics.json`, `out_of_fold.parquet` (id, fold, p_frontier, decision_score)
        and `quarantine.jsonl`.
    reading : Reading
    params : Params

    Returns
    -------
    dict
        The content of `metrics.json`.

    Raises
    ------
    LogError
        If the logs cannot be read, or too many records are bad.
    TrainingError
        If a fold has only one class, or there are fewer groups than folds.
    """
    out.mkdir(parents=True, exist_ok=True)
    examples, data = read_unsplit(sources, reading, out / "quarantine.jsonl")
    tracker = Tracker(out)
    with tracker.start(f"crossval {data.source}", params.model_dump()):
        blocks = FeatureBlocks.fitted_to(examples, params.train)
        recipes = blocks.recipes(examples, params.train)
        checkpoints = checkpoints_of(out, examples, params.train, blocks.weights)
        evaluation, found = nested_evaluation(
            blocks.labelled(examples),
            recipes,
            params,
            search=search_of(params.train, out),
            checkpoints=checkpoints,
        )
        metrics = _metrics(examples, evaluation, found, data, params)
        write_json(out / "metrics.json", metrics)
        _write_scores(examples, found, out / "out_of_fold.parquet")
        log_rows(tracker, evaluation.rows)
        tracker.log_files([out / "metrics.json"])
    checkpoints.remove()
    return metrics


def nested_evaluation(
    labelled: LabelledFeatures,
    recipes: Sequence[Recipe],
    params: Params,
    *,
    masks: Sequence[NDArray[np.bool_]] | None = None,
    search: Search | None = None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> tuple[Evaluation, OutOfFoldPredictions]:
    """Return the out-of-fold evaluation, with baselines on the same folds.

    Features are fitted to all rows, without their labels. Scores are compared as ranks within their
    outer fold, as each fold has a classifier with a scale of its own.

    Parameters
    ----------
    labelled : LabelledFeatures, length n
    recipes : sequence of Recipe
        As in `nested_cross_validation`.
    params : Params
    masks : sequence of ndarray of bool, shape (n,), optional
        Held-out rows of each outer fold; by default, folds by group.
    search : Search, optional
    checkpoints : Checkpoints
        As in `nested_cross_validation`.
    """
    section, examples = params.train, labelled.examples
    found = nested_cross_validation(
        labelled,
        recipes,
        fit_settings(section, search),
        masks=masks,
        checkpoints=checkpoints,
    )
    source = f"{section.folds} folds by group" if masks is None else f"{len(masks)} given folds"
    # If raw scores were pooled, scores without any skill would rank below chance (APGR 0.456 on
    # arena votes): a fold's own mean is low if the mean of the other folds, which its classifier
    # was fitted to, is high.
    scores = rank_within_folds(found.masks, found.decision_scores)
    classifier = Ranking("classifier", scores, found.p_frontier, source)
    mean = float(examples.needs_frontier.mean())
    baselines = [
        *unfitted_rankings(examples, classifier, mean, params.evaluate.seed),
        *(
            _out_of_fold(
                name, out_of_fold_scores(learner, labelled, found.masks), found.masks, source
            )
            for name, learner in LEARNED_BASELINES.items()
        ),
        oracle(examples),
    ]
    # Each fold has its own threshold; the table uses the frontier rate over all of them.
    rate = float(np.clip(found.to_frontier.mean(), 1e-6, 1 - 1e-6))
    evaluation = evaluate_rankings(
        examples,
        classifier,
        baselines,
        threshold=threshold_for(scores, rate),
        replicates=params.evaluate.bootstrap,
        seed=params.evaluate.seed,
    )
    return evaluation, found


def _out_of_fold(
    name: str, probabilities: Floats, masks: Sequence[NDArray[np.bool_]], source: str
) -> Ranking:
    return Ranking(name, rank_within_folds(masks, probabilities), probabilities, source)


def _metrics(
    examples: Examples,
    evaluation: Evaluation,
    found: OutOfFoldPredictions,
    data: DataSummary,
    params: Params,
) -> dict[str, Any]:
    return {
        "source": data.source,
        "protocol": f"nested cross-validation by group, {params.train.folds} folds in "
        f"{params.train.folds} folds, seed {params.train.seed}",
        "n": row_counts(data, examples),
        "labels": {"sources": data.label_sources, "shares": data.shares},
        "chosen": dict(found.chosen),
        "rows": [row.to_dict() for row in evaluation.rows],
        "mean_scores": {
            name: estimate.to_dict() for name, estimate in evaluation.mean_scores.items()
        },
        "operating_point": {
            "frontier_rate": float(found.to_frontier.mean()),
            "target_frontier_rate": params.train.target_frontier_rate,
        },
        "ece_when_calibrated_95": evaluation.ece_when_calibrated,
        "bootstrap": params.evaluate.bootstrap,
    }


def _write_scores(examples: Examples, found: OutOfFoldPredictions, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": pa.array(examples.id, pa.string()),
        "fold": np.argmax(np.array(found.masks), axis=0),
        "p_frontier": found.p_frontier,
        "decision_score": found.decision_scores,
    }
    with atomic_file(path) as scratch:
        pq.write_table(pa.table(columns), scratch)
