"""Runs on real sets, the same as in `make bench-real`, for benchmarks of their artifacts."""

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from real_runs import OUTCOMES, RUNS, run
from tqdm import tqdm

from querytier.data.examples import Examples
from querytier.data.ingest.preparing import read_prepared
from querytier.serve import Router

__all__ = ["Decided", "FinishedRun", "finished_runs"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Decided:
    """An artifact's decisions on n examples; the columns have shape (n,)."""

    examples: Examples
    decision_scores: Floats
    p_frontier: Floats
    latencies_ms: Floats


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run's artifact, and the labelled examples of all splits."""

    name: str
    router: Router
    examples: Examples

    @classmethod
    def of(cls, name: str, folder: Path) -> "FinishedRun":
        """Read the run in a folder; run it first if it is missing."""
        if not (folder / "metrics.json").exists():
            run(RUNS[name], folder)
        return cls(name, Router.load(folder / "model"), read_prepared(folder)[0])

    def decided(self, split: str) -> Decided:
        """Decide the examples of a split, one after the other.

        Raises
        ------
        SystemExit
            If the fallback answered instead of the classifier, because it has no score.
        """
        examples = self.examples.of_split(split)
        bar = tqdm(examples.query, desc=f"{self.name}: {split}", unit="query")
        decisions = [self.router.decide(query) for query in bar]
        fallbacks = {one.reason for one in decisions if one.decision_score is None}
        if fallbacks:
            raise SystemExit(f"{self.name}: some {split} rows have no score: {fallbacks}")
        names = ("decision_score", "p_frontier", "latency_ms")
        columns = [np.array([getattr(one, name) for one in decisions], float) for name in names]
        return Decided(examples, *columns)


@contextmanager
def finished_runs(names: Iterable[str], about: str | None) -> Iterator[Iterator[FinishedRun]]:
    """Yield the runs of sets in order; `--runs` is the folder that keeps them.

    Raises
    ------
    SystemExit
        If there are no outcomes.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        "--runs", type=Path, metavar="DIR", help="reuse the runs in DIR, and keep new ones there"
    )
    runs = parser.parse_args().runs
    if not OUTCOMES.is_dir():
        print(f"nothing measured: {OUTCOMES} is missing; set QUERYTIER_OUTCOMES to the outcomes")
        raise SystemExit(0)
    with tempfile.TemporaryDirectory() as scratch:
        yield (FinishedRun.of(name, (runs or Path(scratch)) / name) for name in names)
