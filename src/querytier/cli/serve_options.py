"""Options of `querytier serve` for the shadow, tenants and secrets."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from querytier.errors import UsageError

if TYPE_CHECKING:
    from querytier.serve.http.shadow_metrics import ShadowSettings
    from querytier.serve.log.decision_log import DecisionLog
    from querytier.serve.settings import TenantCap

__all__ = [
    "CapStrange",
    "CostCheap",
    "CostFrontier",
    "LogSaltFile",
    "LogShadow",
    "ShadowOf",
    "TenantShare",
    "TenantWindow",
    "salt_of",
    "secret",
    "shadow_settings",
    "tenant_cap",
]

_AT_LEAST = 20

ShadowOf = Annotated[
    Path | None,
    typer.Option("--shadow", metavar="DIR", help="A challenger that decides silently, too."),
]
LogShadow = Annotated[
    bool, typer.Option("--log-shadow", help="Log what the challenger would have decided.")
]
CostCheap = Annotated[
    float | None,
    typer.Option("--cost-cheap", help="Of a query; learned from posted outcomes where not given."),
]
CostFrontier = Annotated[float | None, typer.Option("--cost-frontier", help="As --cost-cheap.")]
TenantShare = Annotated[
    float | None,
    typer.Option(
        "--tenant-cap", metavar="SHARE", help="Beyond it a tenant's queries get the cheap tier."
    ),
]
TenantWindow = Annotated[
    int, typer.Option("--tenant-window", help="Of so many latest decisions of a tenant.")
]
CapStrange = Annotated[
    bool,
    typer.Option("--tenant-cap-untypical", help="Cap the fallback of untypical queries, too."),
]
LogSaltFile = Annotated[
    Path | None,
    typer.Option(
        "--log-salt-file",
        metavar="FILE",
        help="Salt of --log-text hash; QUERYTIER_LOG_SALT says it too.",
    ),
]


def shadow_settings(
    artifact: Path | None,
    costs: tuple[float | None, float | None],
    log: "DecisionLog | None",
    *,
    logged: bool,
) -> "ShadowSettings | None":
    """Return the settings of a shadow; None where there is no challenger.

    Raises
    ------
    UsageError
        If something is said of a shadow that there is not, or of a log.
    ValueError
        If a cost is below 0.
    """
    from querytier.serve.http.shadow_metrics import ShadowSettings
    from querytier.serve.http.tier_costs import TierCosts

    cheap, frontier = costs
    if artifact is None and (logged or cheap is not None or frontier is not None):
        raise UsageError(
            "--log-shadow, --cost-cheap and --cost-frontier are about a challenger; add "
            "--shadow DIR"
        )
    if logged and log is None:
        raise UsageError("--log-shadow writes to the decision log; add --log DIR")
    if artifact is None:
        return None
    given = {"cheap": cheap, "frontier": frontier}
    known = TierCosts({tier: cost for tier, cost in given.items() if cost is not None})  # type: ignore[misc]
    return ShadowSettings(artifact, known, log if logged else None)


def tenant_cap(share: float | None, window: int, *, strange: bool) -> "TenantCap | None":
    """Return the cap of a tenant's share of the frontier tier; None where there is none.

    Raises
    ------
    UsageError
        If something is said of a cap that there is not.
    ValueError
        If a number is out of range.
    """
    from querytier.serve.settings import TenantCap

    if share is None and strange:
        raise UsageError("--tenant-cap-untypical widens a cap; add --tenant-cap SHARE")
    if share is None:
        return None
    return TenantCap(share, window, min(_AT_LEAST, window), out_of_distribution=strange)


def salt_of(file: Path | None, text: str) -> str:
    """Return the salt of the log's hashes; empty where there is none.

    Raises
    ------
    UsageError
        If there is none in the file, or nothing is hashed.
    """
    if file is not None and text != "hash":
        raise UsageError(
            f"--log-salt-file {file} salts hashes, and queries are logged {text}; "
            "add --log-text hash"
        )
    if text != "hash":
        return ""
    return secret(file, "--log-salt-file", "QUERYTIER_LOG_SALT", "salt") or ""


def secret(file: Path | None, option: str, variable: str, kind: str) -> str | None:
    """Return the secret of a file, or of the environment; None where neither says one.

    Raises
    ------
    UsageError
        If the file cannot be read, or what it holds is not one word of ASCII.
    """
    text, source = os.environ.get(variable), variable
    if file is not None:
        try:
            text, source = file.read_text("utf-8"), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{option} {file} cannot be read: {error}") from error
    if text is None:
        return None
    word = text.strip()
    if not word or not word.isascii() or not word.isprintable() or " " in word:
        raise UsageError(
            f"{source} holds no {kind}: it is one word of ASCII, as `openssl rand -hex 32` "
            "prints it"
        )
    return word
