"""What a decision service is started with, and what it is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from querytier.classifier.threshold import Tier
from querytier.serve.decision import Query
from querytier.serve.http.decision_sink import DecisionSink
from querytier.serve.http.shadow_metrics import ShadowSettings
from querytier.serve.settings import RouterSettings
from querytier.serve.watch.state import WatchSettings

__all__ = ["Asked", "Limits", "ServiceSettings"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken.

    Attributes
    ----------
    body_bytes : int
        Of one request.
    batch : int
        Queries, or outcomes, of one request.
    concurrency : int
        Requests with a body at once; more are refused, not queued.
    arrival_s : float
        Seconds for a request's headers, and again for its body, to arrive.

    Raises
    ------
    ValueError
        If one of them is not above 0.
    """

    body_bytes: int = 1 << 20
    batch: int = 256
    concurrency: int = 512
    arrival_s: float = 10.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be above 0")


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """What is served, and how.

    Attributes
    ----------
    artifact : Path or str
        A folder, or the name of a registered version: `models:/querytier@champion`.
    router : RouterSettings
    token : str or None
        What a caller has to show; None lets everybody in who reaches the port.
    limits : Limits
    watch_s : float or None
        It is looked so often whether the artifact has changed; None: only on request.
    log : DecisionSink or None
        Gets decisions and outcomes; the service closes it at its end.
    shadow : ShadowSettings or None
        Which challenger decides the same queries, silently.
    audits : Path or None
        Folder in which the watch over the certificate keeps its file; None: no watch.
    certificate : WatchSettings
        How the certificate is watched.
    """

    artifact: Path | str
    router: RouterSettings = field(default_factory=RouterSettings)
    token: str | None = field(default=None, repr=False)
    limits: Limits = field(default_factory=Limits)
    watch_s: float | None = None
    log: DecisionSink | None = None
    shadow: ShadowSettings | None = None
    audits: Path | None = None
    certificate: WatchSettings = field(default_factory=WatchSettings)


@dataclass(frozen=True, slots=True)
class Asked:
    """One query to be decided, and what its caller says of it; who is told of no audit has none."""

    query: Query
    allow: Sequence[Tier] | None = None
    deny: Sequence[Tier] | None = None
    conversation: str | None = None
    id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    tenant: str | None = None
    is_told_audits: bool = True
