"""What an interrupted training or cross-validation goes on from."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from querytier.data.examples import Examples
from querytier.pipeline.params import TrainParams
from querytier.training.checkpoints import JSON, Unfinished
from querytier.training.hyperparameters import Search

__all__ = ["CHECKPOINTS", "search_of", "unfinished"]

# Below a run's folder.
CHECKPOINTS = "checkpoints"
_SEARCH = "search.journal"
_UNFINISHED = "unfinished"


def unfinished(
    out: Path, examples: Examples, section: TrainParams, weights: Mapping[str, str]
) -> Unfinished:
    """Return what an earlier run on the same examples, with the same parameters, had computed.

    Parameters
    ----------
    out : Path
        The run's folder.
    examples : Examples
    section : TrainParams
    weights : mapping of str to str
        The sha256 of each encoder's weights: a path may hold another model by now.
    """
    in_order = hashlib.sha256("\n".join(examples.id.tolist()).encode("utf-8", "surrogatepass"))
    run: dict[str, JSON] = {
        "examples": examples.fingerprint(),
        "order": in_order.hexdigest(),
        "weights": weights,
        "train": section.model_dump(mode="json"),
        "querytier": version("querytier"),
    }
    return Unfinished(out / _UNFINISHED, run)


def search_of(section: TrainParams, out: Path) -> Search | None:
    """Return where settings are searched; only the budget "thorough" searches."""
    if section.budget != "thorough":
        return None
    storage = section.search_storage or out / _SEARCH
    return Search(storage, section.search_trials, section.seed)
