"""Artifacts that come while the service runs: proved before they decide, or not taken."""

import asyncio
import logging
import statistics
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from querytier.classifier.artifact import GOLDEN
from querytier.classifier.golden import golden_queries, replay_golden
from querytier.classifier.manifest import Manifest
from querytier.errors import ArtifactError
from querytier.serve.router import Router
from querytier.serve.settings import RouterSettings
from querytier.serve.watch.certificate_watch import CertificateWatch
from querytier.tracking.model_uri import fetch_artifact, is_model_uri, registered_at
from querytier.tracking.store import StoreError

__all__ = ["ArtifactState", "Loaded", "Watched", "load_proved", "watch"]

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
    state : ArtifactState
        What the artifact was like just before it was loaded.
    watch : CertificateWatch or None
        The watch over the artifact's certificate.
    """

    router: Router
    vectors: int
    decision_seconds: float
    state: "ArtifactState"
    watch: CertificateWatch | None = None

    @property
    def manifest(self) -> Manifest:
        """The manifest of the artifact."""
        return self.router.classifier.manifest


def load_proved(artifact: Path | str, settings: RouterSettings) -> Loaded:
    """Load an artifact, and have it reproduce its golden vectors.

    Parameters
    ----------
    artifact : Path or str
        A folder, or the name of a registered version (`querytier.tracking.model_uri`).
    settings : RouterSettings

    Raises
    ------
    ArtifactError
        If it is none, is damaged, or computes another thing on this machine.
    """
    state = _state_of(artifact)
    folder = fetch_artifact(artifact) if is_model_uri(artifact) else Path(artifact)
    router = Router.load(folder, settings)
    replay = replay_golden(router.classifier, folder / GOLDEN)
    return Loaded(router, replay.vectors, _decision_seconds(router), state)


class Watched(Protocol):
    """What reloads, as the watch sees it."""

    @property
    def loaded_state(self) -> "ArtifactState":
        """What the artifact that decides was like when it was loaded."""

    async def reload(self) -> object:
        """Take the artifact as it is now.

        Raises
        ------
        ArtifactError
            If it cannot be taken.
        """

    def count_failed_look_up(self) -> None:
        """Hear that the artifact could not be looked up."""


async def watch(artifact: Path | str, seconds: float, watched: Watched) -> None:
    """Look at an artifact every so many seconds, and reload after each change.

    What was refused is not tried again until it changes, unless the registry did not answer.

    Parameters
    ----------
    artifact : Path or str
        A folder of which files may change, or the name of a registered version, which may come to
        mean another. While the registry cannot be asked, nothing changes.
    seconds : float
    watched : Watched
    """
    refused = None
    while True:
        await asyncio.sleep(seconds)
        try:
            found = await asyncio.to_thread(_state_of, artifact)
        except Exception as error:  # noqa: BLE001 the watch must outlive whatever the registry does
            watched.count_failed_look_up()
            _log.warning("%s cannot be looked up, nothing is reloaded: %s", artifact, error)
            continue
        if found not in {watched.loaded_state, refused}:
            refused = found if await _refuses(watched) else None


async def _refuses(watched: Watched) -> bool:
    try:
        await watched.reload()
    except ArtifactError as error:  # it is logged and counted
        return not isinstance(error.__cause__, StoreError)
    return False


ArtifactState = str | tuple[tuple[str, int, int, int], ...]


def _state_of(artifact: Path | str) -> ArtifactState:
    return registered_at(artifact) if is_model_uri(artifact) else _files_of(Path(artifact))


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
