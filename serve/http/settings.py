"""Settings of the HTTP service, and limits on what a caller may send."""

from dataclasses import dataclass, field
from pathlib import Path

from querytier.serve.http.shadow_metrics import ShadowSettings
from querytier.serve.log.decision_log import DecisionLog
from querytier.serve.settings import RouterSettings
from querytier.serve.watch.state import WatchSettings

__all__ = ["Limits", "ServiceSettings"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on requests.

    Attributes
    ----------
    body_bytes : int
        Largest body of a request.
    batch : int
        Largest number of queries, or outcomes, in a request.
    concurrency : int
        Number of requests with a body at the same time; more are refused, not queued.
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
    """Settings of the service.

    Attributes
    ----------
    artifact : Path or str
        A folder, or the name of a registered version: `models:/querytier@champion`.
    router : RouterSettings
    token : str or None
        Token that callers have to send; None admits everybody who can reach the port.
    limits : Limits
    watch_s : float or None
        Seconds between checks for a changed artifact; None checks only on request.
    log : DecisionLog or None
        Log of decisions and outcomes; the service closes it when it ends.
    shadow : ShadowSettings or None
        A challenger that decides the same queries silently.
    audits : Path or None
        Folder for the file of the watch over the certificate; None turns the watch off.
    certificate : WatchSettings
        Settings of the watch.
    """

    artifact: Path | str
    router: RouterSettings = field(default_factory=RouterSettings)
    token: str | None = field(default=None, repr=False)
    limits: Limits = field(default_factory=Limits)
    watch_s: float | None = None
    log: DecisionLog | None = None
    shadow: ShadowSettings | None = None
    audits: Path | None = None
    certificate: WatchSettings = field(default_factory=WatchSettings)
