"""What the service does, apart from HTTP: decide, log, count, reload."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from querytier.classifier.manifest import Manifest
from querytier.errors import ArtifactError
from querytier.parallel import processors
from querytier.serve.decision import Decision
from querytier.serve.http.metrics import Metrics, log_record
from querytier.serve.http.refusal import Refusal
from querytier.serve.http.reloading import ArtifactState, Loaded, load_proved
from querytier.serve.http.settings import Asked, ServiceSettings
from querytier.serve.http.shadow_metrics import Shadowing
from querytier.serve.http.telemetry import record_span, tracer
from querytier.serve.http.watch_metrics import WatchMetrics, retrain_due
from querytier.serve.http.wire import Outcome, ReloadAnswer
from querytier.serve.watch.certificate_watch import CertificateWatch

__all__ = ["DecisionService"]

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
# Going through a thread adds 0.12 ms to a request, measured: graphs that are about as
# fast decide on the event loop. Slower ones must not hold up everybody else.
_WORTH_A_THREAD = 0.0002


class DecisionService:
    """Decides for many callers at once, with one artifact after the other.

    Parameters
    ----------
    settings : ServiceSettings

    Raises
    ------
    ArtifactError
        If the artifact is none, is damaged, or does not reproduce its golden vectors here.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.draining = False
        self.started = time.monotonic()
        self.in_flight = 0
        self._loaded = self._load()
        self._log = settings.log
        self._shadow = Shadowing.of(settings.shadow, settings.router)
        self._tracer = tracer()
        self._threads = ThreadPoolExecutor(processors(), thread_name_prefix="querytier-decide")
        self._reloading = asyncio.Lock()
        self.metrics = Metrics(lambda: self.manifest, lambda: self._log)
        self.metrics.registry.register(WatchMetrics(lambda: self._loaded))
        self.metrics.in_flight.set_function(lambda: self.in_flight)
        if self._shadow is not None:
            self.metrics.registry.register(self._shadow)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the artifact that decides now."""
        return self._loaded.manifest

    @property
    def loaded_state(self) -> ArtifactState:
        """What the artifact that decides was like when it was loaded."""
        return self._loaded.state

    def count_failed_look_up(self) -> None:
        """Count that the registry did not say what the artifact's name means now."""
        self.metrics.failed_look_ups.inc()

    def close(self) -> None:
        """End threads, shadow and log, in this order: what was decided is logged."""
        self._threads.shutdown()
        if self._shadow is not None:
            self._shadow.close()
        if self._log is not None:
            self._log.close()

    async def decide(self, asked: Asked) -> dict[str, Any]:
        """Return the record of a decision, with its id; a failure is a fallback."""
        loaded = self._loaded
        if self._is_swift(loaded):
            return self._decide(loaded, asked)
        return await self._in_thread(partial(self._decide, loaded, asked))

    async def decide_many(self, many: Sequence[Asked]) -> list[dict[str, Any]]:
        """Return the records of decisions, in order, all by the same artifact."""
        loaded = self._loaded
        return await self._in_thread(lambda: [self._decide(loaded, asked) for asked in many])

    def record_outcomes(self, outcomes: Sequence[Outcome]) -> int:
        """Hand outcomes to the decision log; return how many there were.

        Raises
        ------
        Refusal
            If there is no log, or it does not take them.
        """
        if self._shadow is not None:
            self._shadow.learn_costs({one.id: one.cost for one in outcomes})
        if self._log is None:
            raise Refusal(
                409, "no_log", "this service keeps no decision log; start it with --log DIR"
            )
        try:
            for one in outcomes:
                self._log.append_outcome(one.id, **one.said)
                if self._watch is not None:
                    self._watch.heard(one.id, **one.said)
        except Exception as error:
            self.metrics.log_refusals.inc()
            _log.exception("the decision log did not take an outcome")
            raise Refusal(
                503, "log_failed", "the decision log did not take it; try again later"
            ) from error
        return len(outcomes)

    async def reload(self) -> ReloadAnswer:
        """Take the artifact as its folder has it now; what is being decided ends as it began.

        Raises
        ------
        ArtifactError
            If it cannot be taken. The one before goes on deciding.
        """
        async with self._reloading:
            before = self._loaded.manifest.model_version
            self._loaded = loaded = await self._proved()
            self.metrics.begin_drift()
            self.metrics.reloads.labels("success").inc()
            if self._shadow is not None:
                await asyncio.to_thread(self._shadow.reload)
            now = loaded.manifest.model_version
            _log.info("reloaded", extra={"model_version": now, "previous": before})
            return ReloadAnswer(now, before, loaded.vectors)

    async def _proved(self) -> Loaded:
        try:
            return await asyncio.to_thread(self._load)
        except Exception as error:
            self.metrics.reloads.labels("failure").inc()
            kept = self._loaded.manifest.model_version
            _log.exception("the artifact was not taken", extra={"model_version": kept})
            raise ArtifactError(f"{error}; model {kept} goes on deciding") from error

    def _load(self) -> Loaded:
        loaded = load_proved(self.settings.artifact, self.settings.router)
        if self.settings.audits is None:
            return loaded
        watch = CertificateWatch(self.settings.audits, loaded.manifest, self.settings.certificate)
        router = loaded.router.withdrawn_when(watch.is_withdrawn)
        return replace(loaded, router=router, watch=watch)

    @property
    def _watch(self) -> CertificateWatch | None:
        return self._loaded.watch

    def status(self) -> dict[str, Any]:
        """Return what the page shows: model, certificate, traffic, log."""
        return {
            "uptime_s": round(time.monotonic() - self.started, 1),
            "model": _model(self.manifest),
            "certificate": self._certificate(),
            "traffic": {**self.metrics.traffic(), "in_flight": self.in_flight},
            "log": log_record(self._log),
            "shadow": self._shadow and self._shadow.to_dict(),
            "reloads": self.metrics.reloaded(),
        }

    def _certificate(self) -> dict[str, Any]:
        certificate = self.manifest.certificate
        expires = certificate.details.get("expires")
        return {
            "status": certificate.status,
            "reason": certificate.reason,
            "expires": expires,
            "audit_rate": self.settings.router.audit_rate,
            "watch": self._watch.look().to_dict() if self._watch is not None else None,
            "retrain_due": retrain_due(self._loaded.router),
        }

    def _is_swift(self, loaded: Loaded) -> bool:
        # A deadline is kept by waiting for another thread, which the event loop must not do.
        no_deadline = self.settings.router.deadline_ms is None
        return no_deadline and loaded.decision_seconds < _WORTH_A_THREAD

    async def _in_thread(self, work: Callable[[], _Answer]) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _decide(self, loaded: Loaded, asked: Asked) -> dict[str, Any]:
        decision = loaded.router.decide(
            asked.query,
            allow=asked.allow,
            deny=asked.deny,
            conversation=asked.conversation,
            tenant=asked.tenant,
        )
        if not asked.is_told_audits:
            decision = replace(decision, audit=False, audit_propensity=0.0)
        name = asked.id or uuid4().hex
        self.metrics.observe(decision)
        self._note(loaded, decision, asked, name)
        record = {**decision.to_dict(), "id": name}
        if not math.isfinite(decision.threshold):
            record["threshold"] = None  # JSON has no infinity
        _log.debug("decided", extra=record)
        return record

    def _note(self, loaded: Loaded, decision: Decision, asked: Asked, name: str) -> None:
        """Log, audit and trace a decision; what fails is counted, and the decision stands."""
        if self._shadow is not None:
            self._shadow.show(asked.query, decision, name)
        try:
            if self._log is not None:
                place = {"conversation": asked.conversation, "tenant": asked.tenant}
                self._log.append(decision, asked.query, id=name, **place)
            watch = loaded.watch
            if decision.audit and watch is not None:
                watch.audited(name, decision.tier, conversation=asked.conversation)
            if self._tracer is not None:
                record_span(self._tracer, decision, asked.headers, asked.conversation)
        except Exception:  # noqa: BLE001 a full disk must not cost a decision
            self.metrics.log_refusals.inc()
            _log.exception("a decision was not logged", extra={"id": name})


def _model(manifest: Manifest) -> dict[str, Any]:
    names = ("model_version", "created", "input", "precision", "decision_score", "threshold")
    return {name: getattr(manifest, name) for name in (*names, "fallback_tier")}
