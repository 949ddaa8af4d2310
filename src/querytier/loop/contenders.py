"""Load champion and challenger, and score both on test rows that neither has learned from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from querytier.classifier.artifact import MANIFEST
from querytier.classifier.manifest import Manifest
from querytier.data.arrays import Floats, Mask
from querytier.data.examples import Examples
from querytier.data.ingest.preparing import SUMMARY, read_prepared
from querytier.data.leakage import rows_id, seen_in_training
from querytier.data.splits import SPLITS
from querytier.errors import UsageError
from querytier.eval.gate.checks import Gate
from querytier.eval.gate.comparisons import Contender, as_served
from querytier.eval.gate.non_inferiority import Margins, compare
from querytier.pipeline.param_sections import GateParams
from querytier.pipeline.scoring import (
    data_fingerprint,
    load_for_evaluation,
    load_trained_on,
    ranking_by,
)
from querytier.serve import Router
from querytier.tracking.registry import RegisteredVersion
from querytier.tracking.tracker import RunReference

__all__ = [
    "Challenger",
    "Champion",
    "PairedScores",
    "UnseenRows",
    "check_is_champion",
    "interleaved_latencies",
    "load_challenger",
    "load_champion",
    "unseen_test_rows",
]


# The first runs of an ONNX session allocate its buffers, so they are slower than all others.
_WARM_UP = 20


@dataclass(frozen=True, eq=False)
class Challenger:
    """The artifact of a run, and the run's test split.

    Attributes
    ----------
    folder : Path
        The run's `--out`.
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
        """The artifact's manifest."""
        return self.router.classifier.manifest


@dataclass(frozen=True, eq=False)
class Champion:
    """The artifact to beat.

    Attributes
    ----------
    folder : Path
    router : Router
    training_rows : Examples or None
        Its examples outside the test split; None if they are unknown, or already outside the
        challenger's test split.
    training_data : str
        A description of these data, for the reader.
    """

    folder: Path
    router: Router
    training_rows: Examples | None
    training_data: str

    @property
    def manifest(self) -> Manifest:
        """The artifact's manifest."""
        return self.router.classifier.manifest


@dataclass(frozen=True, eq=False)
class UnseenRows:
    """The challenger's test split without the rows that the champion has learned from.

    Attributes
    ----------
    examples : Examples
    left_out : int
        Number of rows that the champion has learned from.
    name : str
        Stable name of the whole test split, for counting its uses.
    """

    examples: Examples
    left_out: int
    name: str

    def counts(self) -> dict[str, int]:
        """Return the numbers of rows (all of the test split, left out, used) and of groups."""
        return {
            "test": len(self.examples) + self.left_out,
            "left_out": self.left_out,
            "used": len(self.examples),
            "groups": len(set(self.examples.group)),
        }


@dataclass(frozen=True, eq=False)
class PairedScores:
    """Champion and challenger on the same n rows.

    Attributes
    ----------
    examples : Examples, length n
    champion, challenger : Contender
    """

    examples: Examples
    champion: Contender
    challenger: Contender

    @classmethod
    def of(
        cls, examples: Examples, champion: Champion, challenger: Challenger, params: GateParams
    ) -> "PairedScores":
        """Decide all rows with both artifacts, and time both on the first queries."""
        queries = examples.query[: params.latency_queries].tolist()
        their_times, our_times = interleaved_latencies(champion.router, challenger.router, queries)
        theirs = ranking_by(champion.router, examples, "champion")
        ours = ranking_by(challenger.router, examples, "challenger")
        return cls(
            examples,
            Contender(theirs, champion.manifest.threshold, their_times),
            Contender(ours, challenger.manifest.threshold, our_times),
        )

    def where(self, mask: Mask) -> "PairedScores":
        """Return the rows for which `mask`, of shape (n,), is true; latencies stay as they are."""
        return PairedScores(
            self.examples.where(mask), _rows(self.champion, mask), _rows(self.challenger, mask)
        )

    def gate(self, params: GateParams, quality_margin: float | None = None) -> Gate:
        """Compare the two by the margins of `params`; if given, `quality_margin` replaces one."""
        margins = Margins(
            quality=params.quality_margin if quality_margin is None else quality_margin,
            calibration=params.calibration_margin,
            worst_slice=params.slice_margin,
            latency=params.latency_margin,
        )
        return compare(
            self.examples,
            self.champion,
            self.challenger,
            margins,
            superior_on=params.superior_on,
            fewest_slice_rows=params.fewest_slice_rows,
            replicates=params.bootstrap,
            seed=params.seed,
        )

    def as_served(self, params: GateParams) -> dict[str, Any]:
        """Return the results of each at its own threshold, by name, for JSON."""
        return {
            name: {
                what: estimate.to_dict()
                for what, estimate in as_served(
                    self.examples, contender, params.bootstrap, params.seed
                ).items()
            }
            for name, contender in (("champion", self.champion), ("challenger", self.challenger))
        }


def load_challenger(folder: Path) -> Challenger:
    """Load a challenger from its run's `--out`.

    Raises
    ------
    UsageError
        If the folder has no data or no run, or the artifact was trained on other data.
    ArtifactError
        If there is no valid artifact.
    """
    path = folder / "train" / "run.json"
    if not path.is_file():
        raise UsageError(f"{path} is missing; give the folder that was --out of a run")
    examples, data = read_prepared(folder)
    # The fingerprint proves that the test split of these data was not trained on.
    router = load_trained_on(folder, data.fingerprint)
    return Challenger(folder, router, examples.of_split("test"), RunReference.read(path))


def load_champion(folder: Path, challenger: Challenger) -> Champion:
    """Load a champion from its run's `--out`, or from the folder of an artifact.

    Raises
    ------
    UsageError
        If the folder has data, but the artifact was trained on other data.
    ArtifactError
        If there is no valid artifact.
    """
    if (folder / "data" / SUMMARY).is_file():
        examples, data = read_prepared(folder)
        learned = examples.of_split(*(split for split in SPLITS if split != "test"))
        router = load_trained_on(folder, data.fingerprint)
        return Champion(folder, router, learned, "its run's data")
    artifact = folder if (folder / MANIFEST).is_file() else folder / "model"
    router = load_for_evaluation(artifact)
    theirs, ours = (data_fingerprint(one) for one in (router, challenger.router))
    if theirs == ours:
        # The fingerprint covers the splits, so these are the champion's test rows too.
        return Champion(folder, router, None, "the challenger's data, in the same splits")
    unknown = (
        f"unknown: it may include these rows (fingerprint of its data {theirs[:12]}, of the "
        f"challenger's {ours[:12]})"
    )
    return Champion(folder, router, None, unknown)


def check_is_champion(
    registered: RegisteredVersion | None, challenger: Challenger, champion: Champion | None
) -> None:
    """Check that the challenger is compared with the registered champion.

    Raises
    ------
    UsageError
    """
    # A challenger that is champion itself may be compared again with any other artifact.
    if registered is None or registered.model_version == challenger.manifest.model_version:
        return
    theirs = f"model {registered.model_version}, version {registered.number}"
    if champion is None:
        raise UsageError(f"the registry has a champion ({theirs}); name its folder: --champion DIR")
    if registered.model_version != champion.manifest.model_version:
        raise UsageError(
            f"--champion {champion.folder} is model {champion.manifest.model_version}, but the "
            f"registry's champion is another one ({theirs}); name the folder of that one"
        )


def unseen_test_rows(
    challenger: Challenger, champion: Champion | None, fewest: int = 0
) -> UnseenRows:
    """Return the challenger's test rows that the champion has not learned from.

    Raises
    ------
    UsageError
        If fewer than `fewest` rows are left.
    """
    test = challenger.test
    learned = np.zeros(len(test), dtype=np.bool_)
    if champion is not None and champion.training_rows is not None:
        learned = seen_in_training(test, champion.training_rows)
    left_out, left = int(learned.sum()), int((~learned).sum())
    if champion is not None and left < fewest:
        raise UsageError(
            f"{left} of the {len(test)} test rows of {challenger.folder} are usable: the champion "
            f"trained on {left_out}; at least {fewest} are needed (gate.fewest_rows). Prepare "
            "both runs with the same prepare.seed and shares, or from more logs"
        )
    return UnseenRows(test.where(~learned), left_out, rows_id(test))


def interleaved_latencies(
    first: Router, second: Router, queries: Sequence[str]
) -> tuple[Floats, Floats]:
    """Time two routers on the same queries, one at a time, with the order swapped each time.

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
    # If they were timed one after the other, other load on the machine could slow down only one of
    # them. The order is swapped because the first call of a pair warms up caches for the second.
    for place, query in enumerate(queries):
        for which in (0, 1) if place % 2 == 0 else (1, 0):
            times[which, place] = routers[which].decide(query).latency_ms
    return times[0], times[1]


def _rows(contender: Contender, mask: Mask) -> Contender:
    ranking = contender.ranking
    assert ranking.probabilities is not None, "routers give probabilities"
    rows = replace(ranking, scores=ranking.scores[mask], probabilities=ranking.probabilities[mask])
    return replace(contender, ranking=rows)
