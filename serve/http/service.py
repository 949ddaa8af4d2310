"""What the service does, apart from HTTP: decide, log, count, reload."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

from querytier.classifier.manifest import Manifest
from querytier.data.parallel import processors
from querytier.errors import ArtifactError
from querytier.serve.decision import Decision, DecisionRequest
from querytier.serve.http.access import Activity
from querytier.serve.http.metrics import Metrics, log_counts
from querytier.serve.http.reloading import Loaded, load_proved, state_of
from querytier.serve.http.settings import ServiceSettings
from querytier.serve.http.shadow_metrics import Shadowing
from querytier.serve.http.telemetry import record_span, tracer
from querytier.serve.http.watch_metrics import WatchMetrics, retrain_due
from querytier.serve.http.wire import Outcome, Refusal, ReloadAnswer
from querytier.serve.watch.certificate_watch import CertificateWatch
from querytier.tracking.store import StoreError

__all__ = ["DecisionService"]

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
# A hop to a thread adds 0.12 ms to a request (measured): graphs that are about as fast decide on
# the event loop. Slower ones would hold up every other request there.
_WORTH_A_THREAD = 0.0002


class DecisionService:
    """Decides for many callers at once, with one artifact after another.

    Parameters
    ----------
    settings : ServiceSettings

    Raises
    ------
    ArtifactError
        If the artifact is missing or damaged, or does not reproduce its golden vectors here.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.activity = Activity()
        self.started = time.monotonic()
        self._loaded = self._load()
        self._log = settings.log
        self._shadow = (
            None if settings.shadow is None else Shadowing(settings.shadow, settings.router)
        )
        self._tracer = tracer()
        self._threads = ThreadPoolExecutor(processors(), thread_name_prefix="querytier-decide")
        self._reloading = asyncio.Lock()
        self.metrics = Metrics(lambda: self.manifest, settings.log)
        self.metrics.registry.register(WatchMetrics(lambda: self._loaded))
        self.metrics.in_flight.set_function(lambda: self.activity.in_flight)
        if self._shadow is not None:
            self.metrics.registry.register(self._shadow)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the current artifact."""
        return self._loaded.manifest

    def close(self) -> None:
        """End threads, shadow and log, in this order, so that every decision is logged."""
        self._threads.shutdown()
        if self._shadow is not None:
            self._shadow.close()
        if self._log is not None:
            self._log.close()

    async def decide(
        self, request: DecisionRequest, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return a decision for JSON, with its id; a failure is a fallback.

        Parameters
        ----------
        request : DecisionRequest
        headers : mapping of str to str, optional
            Headers of the HTTP request, for tracing.
        """
        loaded = self._loaded
        # A deadline is kept by waiting for another thread, which the event loop must not do.
        has_deadline = self.settings.router.deadline_ms is not None
        if not has_deadline and loaded.decision_seconds < _WORTH_A_THREAD:
            return self._decide(loaded, request, headers)
        return await self._in_thread(lambda: self._decide(loaded, request, headers))

    async def decide_many(
        self,
        requests: Sequence[DecisionRequest],
        headers: Mapping[str, str] | None = None,
        *,
        audits: bool = True,
    ) -> list[dict[str, Any]]:
        """Return decisions for JSON, in order, all by the same artifact.

        Parameters
        ----------
        requests : sequence of DecisionRequest
        headers : mapping of str to str, optional
            Headers of the HTTP request, for tracing.
        audits : bool
            Whether the caller can report the scores of audited decisions.
        """
        loaded = self._loaded
        return await self._in_thread(
            lambda: [self._decide(loaded, one, headers, audits=audits) for one in requests]
        )

    def record_outcomes(self, outcomes: Sequence[Outcome]) -> int:
        """Pass outcomes to the decision log; return their number.

        Raises
        ------
        Refusal
            If there is no log, or it fails.
        """
        if self._shadow is not None:
            self._shadow.record_costs(outcomes)
        if self._log is None:
            raise Refusal(
                409, "no_log", "this service keeps no decision log; start it with --log DIR"
            )
        try:
            for one in outcomes:
                self._log.append_outcome(one.id, **one.judgement)
                if self._watch is not None:
                    self._watch.record(one.id, **one.judgement)
        except Exception as error:
            self.metrics.log_refusals.inc()
            _log.exception("the decision log refused an outcome")
            raise Refusal(
                503, "log_failed", "the decision log could not record it; try again later"
            ) from error
        return len(outcomes)

    async def reload(self) -> ReloadAnswer:
        """Load the artifact again; decisions in progress keep the artifact they began with.

        Raises
        ------
        ArtifactError
            If it is refused. The previous artifact stays in service.
        """
        async with self._reloading:
            previous = self.manifest.model_version
            self._loaded = loaded = await self._load_or_keep()
            self.metrics.begin_drift()
            self.metrics.reloads.labels("success").inc()
            if self._shadow is not None:
                await asyncio.to_thread(self._shadow.reload)
            current = loaded.manifest.model_version
            _log.info("reloaded", extra={"model_version": current, "previous": previous})
            return ReloadAnswer(current, previous, loaded.vectors)

    async def follow_artifact(self) -> None:
        """Check for a changed artifact every `watch_s` seconds, and reload after each change.

        A registered name may come to mean another version. While the registry cannot be reached,
        the current artifact stays in service.
        """
        if self.settings.watch_s is None:
            return
        # A refused artifact is not tried again until it changes: loading costs a core for seconds.
        refused = None
        while True:
            await asyncio.sleep(self.settings.watch_s)
            try:
                state = await asyncio.to_thread(state_of, self.settings.artifact)
            except Exception as error:  # noqa: BLE001 the loop must outlive any registry error
                self.metrics.failed_look_ups.inc()
                _log.warning(
                    "%s cannot be looked up, so nothing is reloaded: %s",
                    self.settings.artifact,
                    error,
                )
                continue
            if state not in {self._loaded.state, refused}:
                refused = state if await self._is_refused() else None

    async def _is_refused(self) -> bool:
        try:
            await self.reload()
        except ArtifactError as error:  # already logged and counted
            # A registry that did not answer says nothing about the artifact: try again.
            return not isinstance(error.__cause__, StoreError)
        return False

    async def _load_or_keep(self) -> Loaded:
        try:
            return await asyncio.to_thread(self._load)
        except Exception as error:
            self.metrics.reloads.labels("failure").inc()
            current = self.manifest.model_version
            _log.exception("the artifact was refused", extra={"model_version": current})
            raise ArtifactError(f"{error}; model {current} stays in service") from error

    def _load(self) -> Loaded:
        loaded = load_proved(self.settings.artifact, self.settings.router)
        certificate = loaded.manifest.certificate
        if self.settings.router.audit_rate and certificate.status != "granted":
            _log.warning(
                "nothing is audited: the certificate of this artifact is %s (%s); certify it "
                "(querytier certify), or set --audit-rate to 0",
                certificate.status,
                certificate.reason,
            )
        if self.settings.audits is None:
            return loaded
        watch = CertificateWatch(self.settings.audits, loaded.manifest, self.settings.certificate)
        router = loaded.router.withdrawn_when(watch.is_withdrawn)
        return replace(loaded, router=router, watch=watch)

    @property
    def _watch(self) -> CertificateWatch | None:
        return self._loaded.watch

    def status(self) -> dict[str, Any]:
        """Return model, certificate, traffic and log for the page, as JSON."""
        return {
            "uptime_s": round(time.monotonic() - self.started, 1),
            "model": _model(self.manifest),
            "certificate": self._certificate(),
            "traffic": {**self.metrics.traffic(), "in_flight": self.activity.in_flight},
            "log": log_counts(self._log),
            "shadow": self._shadow and self._shadow.to_dict(),
            "reloads": self.metrics.reload_counts(),
        }

    def _certificate(self) -> dict[str, Any]:
        certificate = self.manifest.certificate
        return {
            "status": certificate.status,
            "reason": certificate.reason,
            "expires": certificate.details.get("expires"),
            "audit_rate": self.settings.router.audit_rate,
            "watch": self._watch.look().to_dict() if self._watch is not None else None,
            "retrain_due": retrain_due(self._loaded.router),
        }

    async def _in_thread(self, work: Callable[[], _Answer]) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _decide(
        self,
        loaded: Loaded,
        request: DecisionRequest,
        headers: Mapping[str, str] | None,
        *,
        audits: bool = True,
    ) -> dict[str, Any]:
        decision = loaded.router.decide_request(request)
        if not audits:
            decision = replace(decision, audit=False, audit_propensity=0.0)
        decision_id = request.id or uuid4().hex
        self.metrics.record(decision)
        self._record(loaded, decision, replace(request, id=decision_id), headers or {})
        answer = {**decision.to_dict(), "id": decision_id}
        if not math.isfinite(decision.threshold):
            answer["threshold"] = None  # JSON has no infinity
        _log.debug("decided", extra=answer)
        return answer

    def _record(
        self,
        loaded: Loaded,
        decision: Decision,
        request: DecisionRequest,
        headers: Mapping[str, str],
    ) -> None:
        """Log, audit and trace a decision; a failure is counted, and the decision is returned."""
        assert request.id is not None
        place = {"conversation": request.conversation, "domain": request.domain}
        if self._shadow is not None:
            self._shadow.show(request.query, decision, request.id)
        try:
            if self._log is not None:
                self._log.append(
                    decision, request.query, id=request.id, tenant=request.tenant, **place
                )
            if decision.audit and loaded.watch is not None:
                loaded.watch.add(request.id, decision.tier, **place)
            if self._tracer is not None:
                record_span(self._tracer, decision, headers, request.conversation)
        except Exception:  # noqa: BLE001 a full disk must not cost a decision
            self.metrics.log_refusals.inc()
            _log.exception(
                "a decision was not logged, audited or traced completely", extra={"id": request.id}
            )


def _model(manifest: Manifest) -> dict[str, Any]:
    names = ("model_version", "created", "input", "precision", "decision_score", "threshold")
    return {name: getattr(manifest, name) for name in (*names, "fallback_tier")}
