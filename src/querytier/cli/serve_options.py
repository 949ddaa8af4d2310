"""The options of `querytier serve`, and the settings built from them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from typer import Option

from querytier.errors import UsageError
from querytier.tracking.model_uri import is_model_uri

if TYPE_CHECKING:
    from querytier.serve.http.settings import ServiceSettings
    from querytier.serve.http.shadow_metrics import ShadowSettings
    from querytier.serve.log.decision_log import DecisionLog
    from querytier.serve.log.settings import KeptText
    from querytier.serve.settings import RouterSettings, TenantCap
    from querytier.serve.watch.state import Missing

__all__ = ["ServeOptions"]

_LOOK_UP_SECONDS = 30.0
_AT_LEAST = 20


@dataclass(frozen=True)
class ServeOptions:
    """The command line of `querytier serve`."""

    artifact: Annotated[
        str,
        Option(
            metavar="DIR",
            help="Artifact folder, or models:/querytier@champion (looked up every 30 s).",
        ),
    ]
    host: Annotated[
        str, Option(help="Address to listen on; any but localhost needs a token, and TLS.")
    ] = "127.0.0.1"
    port: Annotated[int, Option(min=0, max=65535, help="Port; 0 picks any free port.")] = 8321
    log: Annotated[
        Path | None, Option(metavar="DIR", help="Folder to log decisions and outcomes in.")
    ] = None
    log_text: Annotated[str, Option(help="How to log queries: full, redacted, or hash.")] = "full"
    log_salt_file: Annotated[
        Path | None,
        Option(metavar="FILE", help="Salt file for --log-text hash; or set QUERYTIER_LOG_SALT."),
    ] = None
    token_file: Annotated[
        Path | None,
        Option(metavar="FILE", help="File with the callers' token; or set QUERYTIER_TOKEN."),
    ] = None
    watch: Annotated[
        float | None, Option(metavar="SECONDS", help="Check for a changed artifact every SECONDS.")
    ] = None
    max_body: Annotated[int, Option(metavar="BYTES", help="Largest body of a request.")] = 1 << 20
    max_batch: Annotated[int, Option(help="Largest number of queries in a request.")] = 256
    max_concurrency: Annotated[
        int, Option(help="Number of requests in flight; more are refused.")
    ] = 512
    arrival_timeout: Annotated[
        float, Option(metavar="SECONDS", help="Longest time for a request to arrive.")
    ] = 10.0
    deadline_ms: Annotated[
        float | None, Option(help="Milliseconds after which the decision is the fallback tier.")
    ] = None
    explore: Annotated[
        float | None, Option(metavar="EPSILON", help="Probability of choosing the other tier.")
    ] = None
    explore_band: Annotated[
        float | None, Option(help="Explore only within this distance of the threshold.")
    ] = None
    least_typicality: Annotated[
        float, Option(help="Send queries less typical than this to the fallback tier.")
    ] = 0.0
    conversations: Annotated[
        int,
        Option(
            metavar="N", help="Keep up to N conversations on the frontier tier once they used it."
        ),
    ] = 0
    shadow: Annotated[
        Path | None, Option(metavar="DIR", help="Folder of a challenger to run silently as well.")
    ] = None
    log_shadow: Annotated[bool, Option("--log-shadow", help="Log the challenger's decisions.")] = (
        False
    )
    cost_cheap: Annotated[
        float | None,
        Option(help="Cost per query on the cheap tier; estimated from posted outcomes if omitted."),
    ] = None
    cost_frontier: Annotated[
        float | None, Option(help="Cost per query on the frontier tier; estimated if omitted.")
    ] = None
    tenant_cap: Annotated[
        float | None,
        Option(metavar="SHARE", help="Largest frontier share of a tenant's queries (0 to 1)."),
    ] = None
    tenant_window: Annotated[
        int, Option(help="Number of recent decisions per tenant that the cap counts.")
    ] = 200
    tenant_cap_untypical: Annotated[
        bool, Option("--tenant-cap-untypical", help="Cap the fallback of untypical queries too.")
    ] = False
    audit_rate: Annotated[
        float,
        Option(
            metavar="SHARE",
            help="Share of certified decisions to audit (0 to 1): queries that a certified "
            "threshold sends cheap. The caller asks both tiers and reports both scores.",
        ),
    ] = 0.0
    audit_level: Annotated[
        float, Option(help="Largest probability of withdrawing a certificate that holds.")
    ] = 0.05
    audit_timeout: Annotated[
        float, Option(metavar="SECONDS", help="Longest time that an audit waits for its scores.")
    ] = 259_200.0
    audit_missing: Annotated[
        str, Option(help="How to count audits without scores: left_out or loss.")
    ] = "left_out"
    log_level: Annotated[
        str,
        Option(help="Level on standard error: debug (a line per decision), info, warning, error."),
    ] = "info"

    def service(self) -> "ServiceSettings":
        """Return the settings of the service, and open the decision log."""
        from querytier.serve.http.settings import Limits, ServiceSettings
        from querytier.serve.watch.state import WatchSettings

        if self.audit_rate and self.log is None:
            raise UsageError(
                f"--audit-rate {self.audit_rate:g} needs a log to keep its findings; add --log DIR"
            )
        watch_s = self.watch
        if watch_s is None and is_model_uri(self.artifact):
            watch_s = _LOOK_UP_SECONDS
        # Everything that may fail comes before the log, which creates a folder.
        router = self._router()
        token = _secret(self.token_file, "--token-file", "QUERYTIER_TOKEN", "token")
        limits = Limits(self.max_body, self.max_batch, self.max_concurrency, self.arrival_timeout)
        missing = cast("Missing", self.audit_missing)
        certificate = WatchSettings(self.audit_level, self.audit_timeout, missing)
        log = self._decision_log()
        return ServiceSettings(
            self.artifact,
            router,
            token,
            limits,
            watch_s,
            log,
            self._shadow(log),
            audits=self.log,
            certificate=certificate,
        )

    def _router(self) -> "RouterSettings":
        from querytier.serve.settings import Exploration, RouterSettings

        if self.explore_band is not None and self.explore is None:
            raise UsageError(
                f"--explore-band {self.explore_band:g} limits exploration; add --explore EPSILON"
            )
        exploration = None if self.explore is None else Exploration(self.explore, self.explore_band)
        return RouterSettings(
            self.deadline_ms,
            self.least_typicality,
            exploration,
            self.conversations,
            self._tenant_cap(),
            self.audit_rate,
        )

    def _tenant_cap(self) -> "TenantCap | None":
        from querytier.serve.settings import TenantCap

        share, window = self.tenant_cap, self.tenant_window
        if share is None and self.tenant_cap_untypical:
            raise UsageError("--tenant-cap-untypical extends a cap; add --tenant-cap SHARE")
        if share is None:
            return None
        at_least = min(_AT_LEAST, window)
        return TenantCap(share, window, at_least, out_of_distribution=self.tenant_cap_untypical)

    def _decision_log(self) -> "DecisionLog | None":
        from querytier.serve.log.decision_log import DecisionLog, LogSettings

        if self.log_salt_file is not None and self.log_text != "hash":
            raise UsageError(
                f"--log-salt-file {self.log_salt_file} is only for hashes, but queries are "
                f"logged as {self.log_text}; add --log-text hash"
            )
        if self.log is None:
            return None
        salt = None
        if self.log_text == "hash":
            salt = _secret(self.log_salt_file, "--log-salt-file", "QUERYTIER_LOG_SALT", "salt")
        settings = LogSettings(text=cast("KeptText", self.log_text), salt=salt or "")
        return DecisionLog(self.log, settings=settings)

    def _shadow(self, log: "DecisionLog | None") -> "ShadowSettings | None":
        from querytier.serve.http.shadow_metrics import ShadowSettings, TierCosts

        has_costs = self.cost_cheap is not None or self.cost_frontier is not None
        if self.shadow is None and (self.log_shadow or has_costs):
            raise UsageError(
                "--log-shadow, --cost-cheap and --cost-frontier need a challenger; add --shadow DIR"
            )
        if self.log_shadow and log is None:
            raise UsageError("--log-shadow writes to the decision log; add --log DIR")
        if self.shadow is None:
            return None
        costs = TierCosts({"cheap": self.cost_cheap, "frontier": self.cost_frontier})
        return ShadowSettings(self.shadow, costs, log if self.log_shadow else None)


def _secret(file: Path | None, option: str, variable: str, kind: str) -> str | None:
    """Return the secret from a file or the environment; None if there is neither.

    Raises
    ------
    UsageError
        If the file cannot be read, or its content is not one word of ASCII.
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
            f"{source} does not contain a {kind}: it has to be one word of ASCII, as "
            "`openssl rand -hex 32` prints it"
        )
    return word
