"""The verb `querytier serve`: decisions over HTTP."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from querytier.cli.log_options import say
from querytier.cli.serve_options import (
    CapStrange,
    CostCheap,
    CostFrontier,
    LogSaltFile,
    LogShadow,
    ShadowOf,
    TenantShare,
    TenantWindow,
    salt_of,
    secret,
    shadow_settings,
    tenant_cap,
)
from querytier.errors import MissingExtraError, UsageError
from querytier.tracking.model_uri import is_model_uri

if TYPE_CHECKING:
    from querytier.serve.log.decision_log import DecisionLog
    from querytier.serve.log.settings import KeptText
    from querytier.serve.settings import RouterSettings
    from querytier.serve.watch.state import Missing

__all__ = ["serve"]

_LOOK_UP_SECONDS = 30.0
_EXTRA = frozenset({"h11", "prometheus_client", "pydantic", "starlette", "uvicorn"})

Artifact = Annotated[
    str,
    typer.Option(
        "--artifact",
        metavar="DIR",
        help="The folder of an exported classifier, or a registered version: "
        "models:/querytier@champion, which is looked up every 30 s.",
    ),
]
Host = Annotated[
    str, typer.Option("--host", help="Beyond this machine only with a token, and behind TLS.")
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")]
Log = Annotated[
    Path | None, typer.Option("--log", metavar="DIR", help="Log decisions and outcomes there.")
]
LogText = Annotated[
    str, typer.Option("--log-text", help="Queries in the log: full, redacted, or hash.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="What callers have to show; QUERYTIER_TOKEN says it too.",
    ),
]
Watch = Annotated[
    float | None,
    typer.Option(
        "--watch", metavar="SECONDS", help="Look so often whether the artifact has changed."
    ),
]
MaxBody = Annotated[int, typer.Option("--max-body", metavar="BYTES", help="Of one request.")]
MaxBatch = Annotated[int, typer.Option("--max-batch", help="Queries of one request.")]
MaxConcurrency = Annotated[
    int, typer.Option("--max-concurrency", help="Requests at once; more are refused.")
]
ArrivalTimeout = Annotated[
    float, typer.Option("--arrival-timeout", metavar="SECONDS", help="For a request to arrive.")
]
Deadline = Annotated[
    float | None,
    typer.Option("--deadline-ms", help="After so long the fallback tier answers."),
]
Explore = Annotated[
    float | None,
    typer.Option("--explore", metavar="EPSILON", help="Take the other tier this often."),
]
Band = Annotated[
    float | None,
    typer.Option("--explore-band", help="Explore only so near to the threshold."),
]
LeastTypicality = Annotated[
    float,
    typer.Option("--least-typicality", help="Less typical queries get the fallback tier."),
]
Conversations = Annotated[
    int,
    typer.Option("--conversations", help="So many stay with the frontier tier once there."),
]
AuditRate = Annotated[
    float,
    typer.Option(
        "--audit-rate",
        metavar="SHARE",
        help="Pick so many of the decisions that the certificate speaks of: ask both tiers there.",
    ),
]
AuditLevel = Annotated[
    float,
    typer.Option("--audit-level", help="Chance that a certificate that holds is withdrawn."),
]
AuditTimeout = Annotated[
    float,
    typer.Option("--audit-timeout", metavar="SECONDS", help="So long an audit waits for scores."),
]
AuditMissing = Annotated[
    str, typer.Option("--audit-missing", help="What audits without scores are: left_out or loss.")
]
LogLevel = Annotated[
    str, typer.Option("--log-level", help="debug (a line for each request), info, warning, error.")
]


def serve(
    artifact: Artifact,
    host: Host = "127.0.0.1",
    port: Port = 8321,
    log: Log = None,
    log_text: LogText = "full",
    token_file: TokenFile = None,
    watch: Watch = None,
    max_body: MaxBody = 1 << 20,
    max_batch: MaxBatch = 256,
    max_concurrency: MaxConcurrency = 512,
    arrival_timeout: ArrivalTimeout = 10.0,
    deadline_ms: Deadline = None,
    explore: Explore = None,
    explore_band: Band = None,
    least_typicality: LeastTypicality = 0.0,
    conversations: Conversations = 0,
    shadow: ShadowOf = None,
    log_shadow: LogShadow = False,
    cost_cheap: CostCheap = None,
    cost_frontier: CostFrontier = None,
    tenant_share: TenantShare = None,
    tenant_window: TenantWindow = 200,
    cap_untypical: CapStrange = False,
    log_salt_file: LogSaltFile = None,
    audit_rate: AuditRate = 0.0,
    audit_level: AuditLevel = 0.05,
    audit_timeout: AuditTimeout = 259_200.0,
    audit_missing: AuditMissing = "left_out",
    log_level: LogLevel = "info",
) -> None:
    """Decide over HTTP until SIGTERM; SIGHUP takes the artifact again as its folder has it."""
    try:
        from querytier.serve.http.server import Listening
        from querytier.serve.http.server import serve as serve_until_ended
        from querytier.serve.http.settings import Limits, ServiceSettings
        from querytier.serve.watch.state import WatchSettings
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _EXTRA:
            raise
        raise MissingExtraError(package, "serve") from error

    if watch is None and is_model_uri(artifact):
        watch = _LOOK_UP_SECONDS
    if audit_rate and log is None:
        raise UsageError(
            f"--audit-rate {audit_rate:g} has nowhere to keep what the audit finds; add --log DIR"
        )
    router = _router_settings(deadline_ms, explore, explore_band, least_typicality, conversations)
    token = secret(token_file, "--token-file", "QUERYTIER_TOKEN", "token")
    try:
        cap = tenant_cap(tenant_share, tenant_window, strange=cap_untypical)
        missing = cast("Missing", audit_missing)
        kept = _decision_log(log, log_text, log_salt_file)
        settings = ServiceSettings(
            artifact,
            replace(router, tenant_cap=cap, audit_rate=audit_rate),
            token,
            Limits(max_body, max_batch, max_concurrency, arrival_timeout),
            watch,
            kept,
            shadow_settings(shadow, (cost_cheap, cost_frontier), kept, logged=log_shadow),
            audits=log,
            certificate=WatchSettings(audit_level, audit_timeout, missing),
        )
        listening = Listening(host, port, log_level)
    except ValueError as error:
        raise UsageError(str(error)) from error
    serve_until_ended(settings, listening, _announce)


def _announce(url: str, model_version: str) -> None:
    say(f"model {model_version} decides at {url}; its page is {url}/")


def _router_settings(
    deadline_ms: float | None,
    explore: float | None,
    band: float | None,
    least_typicality: float,
    conversations: int,
) -> "RouterSettings":
    from querytier.serve.settings import Exploration, RouterSettings

    if band is not None and explore is None:
        raise UsageError(f"--explore-band {band:g} says where to explore; add --explore EPSILON")
    try:
        exploration = None if explore is None else Exploration(explore, band)
        return RouterSettings(deadline_ms, least_typicality, exploration, conversations)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _decision_log(folder: Path | None, text: str, salt: Path | None) -> "DecisionLog | None":
    from querytier.serve.log.decision_log import DecisionLog, LogSettings

    if folder is None:
        return None
    settings = LogSettings(text=cast("KeptText", text), salt=salt_of(salt, text))
    return DecisionLog(folder, settings=settings)
