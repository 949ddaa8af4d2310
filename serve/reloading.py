"""Artifacts that come while the service runs: proved before they decide, or not taken."""

import asyncio
import logging
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from querytier.classifier.artifact import GOLDEN
from querytier.classifier.golden import golden_queries, replay_golden
from querytier.classifier.manifest import Manifest
from querytier.model_uri import fetch_artifact, is_model_uri, registered_at
from querytier.serve.router import Router
from querytier.serve.settings import RouterSettings

__all__ = ["Loaded", "load_proved", "watch"]

_TIMED_QUERIES = 30
_log = logging.getLogger(__name__)


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


def load_proved(artifact: Path | str, settings: RouterSettings) -> Loaded:
    """Load an artifact, and have it reproduce its golden vectors.

    Parameters
    ----------
    artifact : Path or str
        A folder, or the name of a registered version (`querytier.model_uri`).
    settings : RouterSettings

    Raises
    ------
    ArtifactError
        If it is none, is damaged, or computes another thing on this machine.
    """
    folder = fetch_artifact(artifact) if is_model_uri(artifact) else Path(artifact)
    router = Router.load(folder, settings)
    replay = replay_golden(router.classifier, folder / GOLDEN)
    return Loaded(router, replay.vectors, _decision_seconds(router))


async def watch(
    artifact: Path | str, seconds: float, reload: Callable[[], Awaitable[bool]]
) -> None:
    """Look at an artifact every so many seconds, and reload after each change.

    Parameters
    ----------
    artifact : Path or str
        A folder of which files may change, or the name of a registered version, which may come to
        mean another. While the registry cannot be asked, nothing changes.
    seconds : float
    reload : callable
        Says False where it is worth another attempt.
    """
    seen = await _state_of(artifact, None)
    while True:
        await asyncio.sleep(seconds)
        found = await _state_of(artifact, seen)
        if found != seen and await reload():
            seen = found


_State = str | tuple[tuple[str, int, int, int], ...]


async def _state_of(artifact: Path | str, before: _State | None) -> _State | None:
    if not is_model_uri(artifact):
        return await asyncio.to_thread(_files_of, Path(artifact))
    try:
        return await asyncio.to_thread(registered_at, artifact)
    except Exception as error:  # noqa: BLE001 the watch must outlive whatever the registry does
        _log.warning("%s cannot be looked up, nothing is reloaded: %s", artifact, error)
        return before


def _files_of(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
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
