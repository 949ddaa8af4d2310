"""Load artifacts while the service runs: each has to reproduce its golden vectors first."""

import statistics
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from querytier.classifier.artifact import GOLDEN
from querytier.classifier.golden import golden_queries, replay_golden
from querytier.classifier.manifest import Manifest
from querytier.serve.router import Router
from querytier.serve.settings import RouterSettings
from querytier.serve.watch.certificate_watch import CertificateWatch
from querytier.tracking.model_uri import fetch_artifact, is_model_uri, registered_state

__all__ = ["ArtifactState", "Loaded", "load_proved", "state_of"]

_TIMED_QUERIES = 30
# The registered version, or name, inode, time and size of each file.
ArtifactState = str | tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A router that has reproduced its golden vectors on this machine.

    Attributes
    ----------
    router : Router
    vectors : int
        Number of golden vectors reproduced.
    decision_seconds : float
        Median time of a decision on golden queries.
    state : ArtifactState
        State of the artifact just before it was loaded.
    watch : CertificateWatch or None
        The watch over the artifact's certificate.
    """

    router: Router
    vectors: int
    decision_seconds: float
    state: ArtifactState
    watch: CertificateWatch | None = None

    @property
    def manifest(self) -> Manifest:
        """The manifest of the artifact."""
        return self.router.classifier.manifest


def load_proved(artifact: Path | str, settings: RouterSettings) -> Loaded:
    """Load an artifact, and check that it reproduces its golden vectors.

    Parameters
    ----------
    artifact : Path or str
        A folder, or the name of a registered version (`querytier.tracking.model_uri`).
    settings : RouterSettings

    Raises
    ------
    ArtifactError
        If it is not an artifact, is damaged, or computes other numbers on this machine.
    """
    # The state is read first: a change while loading is then seen as a change, and loaded next.
    state = state_of(artifact)
    folder = fetch_artifact(artifact) if is_model_uri(artifact) else Path(artifact)
    router = Router.load(folder, settings)
    replay = replay_golden(router.classifier, folder / GOLDEN)
    return Loaded(router, replay.vectors, _decision_seconds(router), state)


def state_of(artifact: Path | str) -> ArtifactState:
    """Return a value that changes whenever the artifact does.

    Parameters
    ----------
    artifact : Path or str
        A folder, or the name of a registered version.
    """
    if is_model_uri(artifact):
        return registered_state(artifact)
    try:
        files = [(path.name, path.stat()) for path in sorted(Path(artifact).iterdir())]
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
