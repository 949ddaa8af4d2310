"""Checkpoints of a training or cross-validation: where they are, and which run they belong to."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from querytier.data.examples import Examples
from querytier.pipeline.params import TrainParams
from querytier.training.checkpoints import JSON, Checkpoints
from querytier.training.fit import FitSettings
from querytier.training.hyperparameters import Search

__all__ = ["FINE_TUNING", "checkpoints_of", "fit_settings", "search_of"]

# Below a run's folder. The weights of a fine-tuning are files of its own library, hence apart.
FINE_TUNING = "checkpoints"
_SEARCH = "search.journal"
_UNFINISHED = "unfinished"


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
        The sha256 of each encoder's weights: a path may have another model by now.
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
    """Return the settings with which a classifier is fitted."""
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
