"""Stage 2, train: encode, choose a candidate, fit and calibrate it."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from querytier.data.examples import Examples
from querytier.data.ingest.preparing import read_prepared
from querytier.errors import UsageError
from querytier.files import atomic_folder
from querytier.pipeline.feature_blocks import FeatureBlocks
from querytier.pipeline.params import Params, TrainParams
from querytier.tracking.tracker import RunReference, Tracker
from querytier.training.checkpoints import JSON, Checkpoints
from querytier.training.cross_validation import FRONTIER_RATES
from querytier.training.fit import FitSettings, FittedClassifier, fit_classifier
from querytier.training.hyperparameters import Search
from querytier.training.recipes import recipe_from

__all__ = [
    "EMBEDDINGS",
    "RUN",
    "checkpoints_of",
    "fit_settings",
    "read_trained",
    "search_of",
    "train_stage",
]

# The embeddings of training and calibration rows by the chosen encoder, below `out/train`.
EMBEDDINGS = "embeddings.npy"
RUN = "run.json"
# Below the run's folder. Fine-tuning has its own folder, because its library writes the files.
_FINE_TUNING = "checkpoints"
_SEARCH = "search.journal"
_UNFINISHED = "unfinished"
_TIMED_QUERIES = 20
_PERCENT = [round(100 * rate) for rate in FRONTIER_RATES]


def train_stage(out: Path, params: Params, tracker: Tracker) -> FittedClassifier:
    """Encode, choose, fit and calibrate on the data that `prepare_stage` wrote.

    Raises
    ------
    UsageError
        If `out` has no prepared data.
    LogError
        If there are too few rows to train and test a classifier.
    TrainingError
        If a split has only one class.
    """
    examples, data = read_prepared(out)
    data.check_trainable()
    # Drop the certification and test rows here, so that nothing below can learn from them.
    examples = examples.of_split("train", "calibration")
    section, train = params.train, examples.of_split("train")
    with (
        tracker.start(data.source, params.model_dump()) as run,
        atomic_folder(out / "train") as new,
    ):
        run.write(new / RUN)
        tracker.log_dataset(examples.dataset(), data.source, data.fingerprint)
        blocks = FeatureBlocks.fitted_to(train, section)
        checkpoints = checkpoints_of(out, examples, section, blocks.weights)
        if section.budget == "thorough":
            blocks = blocks.with_tuned(train, section, checkpoints, out / _FINE_TUNING)
        blocks.write(new)
        labelled = blocks.labelled(examples)
        fitted = fit_classifier(
            labelled,
            blocks.recipes(train, section),
            fit_settings(section, search_of(section, out)),
            checkpoints=checkpoints,
        )
        fitted.write(new)
        np.save(new / EMBEDDINGS, labelled.blocks[fitted.recipe.encoder])
        timed = train.where(np.arange(len(train)) < _TIMED_QUERIES)
        _log_candidates(tracker, fitted, blocks.encoder_ms(timed.views()))
        by_rule = f"the first within one standard error of the best {fitted.metric}"
        why = by_rule if section.candidate is None else "named by train.candidate"
        tracker.set_tags({"chosen_because": why})
    # Delete them only now: until the folder is in place, a failed run has to resume from them.
    checkpoints.remove()
    shutil.rmtree(out / _FINE_TUNING, ignore_errors=True)
    return fitted


def read_trained(out: Path) -> tuple[FittedClassifier, RunReference]:
    """Return what `train_stage` wrote, and the MLflow run that it was logged in.

    Raises
    ------
    UsageError
        If `out` has no trained classifier.
    """
    folder = out / "train"
    if not (folder / RUN).is_file():
        raise UsageError(f"{folder} contains no trained classifier; run `querytier train` first")
    return FittedClassifier.read(folder), RunReference.read(folder / RUN)


def checkpoints_of(
    out: Path, examples: Examples, section: TrainParams, weights: Mapping[str, str]
) -> Checkpoints:
    """Return the checkpoints of an earlier run on the same examples with the same parameters.

    Parameters
    ----------
    out : Path
        The run's folder.
    examples : Examples
    section : TrainParams
    weights : mapping of str to str
        The sha256 of each encoder's weights, because the model at a path may have changed.
    """
    # The fingerprint ignores the order of rows; folds, and so partial results, depend on it.
    in_order = hashlib.sha256("\n".join(examples.id.tolist()).encode("utf-8", "surrogatepass"))
    run: dict[str, JSON] = {
        "examples": examples.fingerprint(),
        "order": in_order.hexdigest(),
        "weights": weights,
        "train": section.model_dump(mode="json"),
        "querytier": version("querytier"),
    }
    return Checkpoints.open(out / _UNFINISHED, run)


def fit_settings(section: TrainParams, search: Search | None = None) -> FitSettings:
    """Return the settings for fitting a classifier."""
    return FitSettings(
        section.folds,
        section.target_frontier_rate,
        section.seed,
        section.candidate,
        section.calibration,
        search,
    )


def search_of(section: TrainParams, out: Path) -> Search | None:
    """Return the search of hyperparameters; None unless the budget is "thorough"."""
    if section.budget != "thorough":
        return None
    storage = section.search_storage or out / _SEARCH
    return Search(storage, section.search_trials, section.seed)


def _log_candidates(
    tracker: Tracker, fitted: FittedClassifier, encoder_ms: Mapping[str, float]
) -> None:
    """Log each candidate as a child run with its curve, and the choice in the parent run."""
    for candidate in fitted.candidates:
        recipe = candidate["recipe"]  # None for a baseline
        encoder = None if recipe is None else recipe_from(recipe).encoder
        measured = {
            f"cv_{name}{end}": candidate[name][part]
            for name in ("apgr", "auroc")
            for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
        }
        tracker.log_candidate(
            candidate["name"],
            {
                **({} if recipe is None else _recipe_params(recipe)),
                "chosen_by": fitted.metric,
                "chosen": candidate["name"] == fitted.chosen,
                "baseline": recipe is None,
            },
            {
                **measured,
                "cv_fold_mean": candidate["fold_mean"],
                "cv_fold_standard_error": candidate["fold_standard_error"],
                "fit_seconds": candidate["seconds"],
                "encoder_ms": encoder_ms.get(encoder or ""),
            },
            {"cv_gap_recovered": dict(zip(_PERCENT, candidate["curve"], strict=True))},
        )
    calibration = fitted.calibration
    tracker.set_tags({"chosen": fitted.chosen, "calibration": calibration.reason})
    tracker.log_metrics(
        {
            "threshold": fitted.threshold,
            **{
                f"calibration_{name}": value
                for name, value in asdict(fitted.heads.calibrator).items()
            },
            **{
                f"venn_abers_{name}": value
                for name, value in (calibration.venn_abers or {}).items()
            },
        }
    )


def _recipe_params(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as MLflow params, one for each learner."""
    learners = {
        f"learner_{place}": json.dumps(one) for place, one in enumerate(recipe["learners"], 1)
    }
    return {"ranks_by": recipe["ranks_by"], **learners}
