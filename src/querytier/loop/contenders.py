"""Who stands at the gate: challenger and champion from their folders, and the rows to judge on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.artifact import MANIFEST
from querytier.classifier.manifest import Manifest
from querytier.data.examples import Examples
from querytier.data.ingest.preparing import SUMMARY, read_prepared
from querytier.data.leakage import rows_id, seen_in_training
from querytier.data.splits import SPLITS
from querytier.errors import UsageError
from querytier.pipeline.scoring import data_fingerprint, load_to_judge, load_trained_on
from querytier.serve import Router
from querytier.tracking.registry import RegisteredVersion
from querytier.tracking.tracker import RunReference

__all__ = [
    "Challenger",
    "Champion",
    "JudgedRows",
    "check_is_champion",
    "interleaved_latencies",
    "load_challenger",
    "load_champion",
    "rows_to_judge_on",
]

Floats = NDArray[np.float64]

_WARM_UP = 20


@dataclass(frozen=True, eq=False)
class Challenger:
    """The artifact of a run, and the run's test split.

    Attributes
    ----------
    folder : Path
        What `--out` of the run was.
    router : Router
    test : Examples
    run : RunReference
    """

    folder: Path
    router: Router
    test: Examples
    run: RunReference

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self.router.classifier.manifest


@dataclass(frozen=True, eq=False)
class Champion:
    """The artifact to be beaten.

    Attributes
    ----------
    folder : Path
    router : Router
    learned : Examples or None
        The rows that are not of its test split; None where they are not at hand.
    known : str
        What is known of them, for the reader.
    """

    folder: Path
    router: Router
    learned: Examples | None
    known: str

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self.router.classifier.manifest


@dataclass(frozen=True, eq=False)
class JudgedRows:
    """The challenger's test split, without what the champion learned from.

    Attributes
    ----------
    examples : Examples
    left_out : int
    name : str
        Of the whole test split, by which its uses are counted.
    """

    examples: Examples
    left_out: int
    name: str

    def counts(self) -> dict[str, int]:
        """Return how many rows there are, by what became of them."""
        return {
            "test": len(self.examples) + self.left_out,
            "left_out": self.left_out,
            "used": len(self.examples),
            "groups": len(set(self.examples.group)),
        }


def load_challenger(folder: Path) -> Challenger:
    """Load a challenger from what `--out` of its run was.

    Raises
    ------
    UsageError
        If the folder lacks data or run, or its data are not those that it was trained on.
    ArtifactError
        If it has no artifact.
    """
    path = folder / "train" / "run.json"
    if not path.is_file():
        raise UsageError(f"{path} is missing; the challenger has to be what --out of a run was")
    examples, data = read_prepared(folder)
    router = load_trained_on(folder, data.fingerprint)
    return Challenger(folder, router, examples.of_split("test"), RunReference.read(path))


def load_champion(folder: Path, challenger: Challenger) -> Champion:
    """Load a champion from what `--out` of its run was, or from an artifact.

    Raises
    ------
    UsageError
        If its data are not those that it was trained on.
    ArtifactError
        If it has no artifact.
    """
    if (folder / "data" / SUMMARY).is_file():
        examples, data = read_prepared(folder)
        learned = examples.of_split(*(split for split in SPLITS if split != "test"))
        router = load_trained_on(folder, data.fingerprint)
        return Champion(folder, router, learned, "its run's data")
    artifact = folder if (folder / MANIFEST).is_file() else folder / "model"
    router = load_to_judge(artifact)
    theirs, ours = (data_fingerprint(one) for one in (router, challenger.router))
    if theirs == ours:
        return Champion(folder, router, None, "the challenger's data, in the same splits")
    known = (
        f"not known: these rows may be among it (fingerprint of its data {theirs[:12]}, of the "
        f"challenger's {ours[:12]})"
    )
    return Champion(folder, router, None, known)


def check_is_champion(
    registered: RegisteredVersion | None, challenger: Challenger, champion: Champion | None
) -> None:
    """Refuse to take the alias from a champion with which the challenger is not compared.

    Raises
    ------
    UsageError
    """
    if registered is None or registered.model_version == challenger.manifest.model_version:
        return
    theirs = f"model {registered.model_version}, version {registered.number}"
    if champion is None:
        raise UsageError(f"the registry has a champion ({theirs}); name its folder: --champion DIR")
    if registered.model_version != champion.manifest.model_version:
        raise UsageError(
            f"--champion {champion.folder} holds model {champion.manifest.model_version}, and the "
            f"registry has another champion ({theirs}); name the folder of that one"
        )


def rows_to_judge_on(challenger: Challenger, champion: Champion | None, fewest: int) -> JudgedRows:
    """Return the test split of the challenger, without what the champion learned from.

    Raises
    ------
    UsageError
        If fewer than `fewest` rows are left for a comparison.
    """
    test, name = challenger.test, rows_id(challenger.test)
    if champion is None:
        return JudgedRows(test, 0, name)
    met = np.zeros(len(test), dtype=np.bool_)
    if champion.learned is not None:
        met = seen_in_training(test, champion.learned)
    left_out, left = int(met.sum()), int((~met).sum())
    if left < fewest:
        raise UsageError(
            f"{left} of the {len(test)} test rows of {challenger.folder} are left, the champion "
            f"having learned from {left_out}; at least {fewest} are needed (gate.fewest_rows). "
            "Prepare both with one prepare.seed and the same shares, or from more logs"
        )
    return JudgedRows(test.where(~met), left_out, name)


def interleaved_latencies(
    first: Router, second: Router, queries: Sequence[str]
) -> tuple[Floats, Floats]:
    """Time two routers on the same queries, one by one, each being asked first in turn.

    So what else the machine is doing falls on both alike.

    Parameters
    ----------
    first, second : Router
    queries : sequence of str, length k

    Returns
    -------
    tuple of two ndarrays of float64, shape (k,)
        Milliseconds.
    """
    routers, times = (first, second), np.empty((2, len(queries)))
    for query in queries[:_WARM_UP]:
        for router in routers:
            router.decide(query)
    for place, query in enumerate(queries):
        for which in (0, 1) if place % 2 == 0 else (1, 0):
            times[which, place] = routers[which].decide(query).latency_ms
    return times[0], times[1]
