"""What a decision service is started with, and what it is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from querytier.classifier.threshold import Tier
from querytier.serve.http.access import Limits
from querytier.serve.http.decision_sink import DecisionSink
from querytier.serve.http.neighbours import LabelledQueries
from querytier.serve.http.shadow_metrics import ShadowSettings
from querytier.serve.router import Query
from querytier.serve.settings import RouterSettings
from querytier.serve.watch.state import WatchSettings

__all__ = ["Asked", "ServiceSettings"]


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
    neighbours : LabelledQueries or None
        What is shown to whoever asks for neighbours; None shows no text of any log.
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
    neighbours: LabelledQueries | None = None
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
