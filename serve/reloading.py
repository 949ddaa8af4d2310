"""Artifacts that come while the service runs: proved before they decide, or not taken."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from querytier.classifier.artifact import GOLDEN
from querytier.classifier.golden import golden_queries, replay_golden
from querytier.classifier.manifest import Manifest
from querytier.serve.router import Router
from querytier.serve.settings import RouterSettings

__all__ = ["Loaded", "load_proved", "watch"]

_TIMED_QUERIES = 30


@dataclass(frozen=True, slots=True)
class Loaded:
    """A router that has reproduced its golden vectors on this machine.

    Attributes
    ----------
    router : Router
    vectors : int
        Golden vectors that it has reproduced.
    decision_seconds : float
        Median time of a decision, of golden queries.
    """

    router: Router
    vectors: int
    decision_seconds: float

    @property
    def manifest(self) -> Manifest:
        """The manifest of the artifact."""
        return self.router.classifier.manifest


def load_proved(folder: Path, settings: RouterSettings) -> Loaded:
    """Load an artifact, and have it reproduce its golden vectors.

    Raises
    ------
    ArtifactError
        If it is none, is damaged, or computes another thing on this machine.
    """
    router = Router.load(folder, settings)
    replay = replay_golden(router.classifier, folder / GOLDEN)
    return Loaded(router, replay.vectors, _decision_seconds(router))


async def watch(folder: Path, seconds: float, reload: Callable[[], Awaitable[object]]) -> None:
    """Look at a folder every so many seconds, and reload after each change of a file in it."""
    seen = await asyncio.to_thread(_state_of, folder)
    while True:
        await asyncio.sleep(seconds)
        found = await asyncio.to_thread(_state_of, folder)
        if found != seen:
            seen = found
            await reload()


def _state_of(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return what changes with every file that is written, replaced or taken away."""
    try:
        files = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    except OSError:
        return ()
    return tuple((name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in files)


def _decision_seconds(router: Router) -> float:
    times = []
    for query in islice(golden_queries(), _TIMED_QUERIES):
        started = time.perf_counter()
        router.decide(query)
        times.append(time.perf_counter() - started)
    return statistics.median(times)
