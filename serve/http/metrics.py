"""What the service tells Prometheus; the counters of `/v1/status` are read from the same place."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from querytier.classifier.certificate import expiry
from querytier.classifier.manifest import Manifest
from querytier.serve.decision import Decision
from querytier.serve.http.score_drift import ScoreDrift

__all__ = ["LogCounts", "Metrics", "log_record"]

_DECISION_SECONDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
# Finer where scores of routers lie; a gain may be negative.
_SCORES = (-1.0, -0.5, -0.25, -0.1, -0.05, *(round(0.05 * step, 2) for step in range(21)))
_RECENT = 2048


class LogCounts(Protocol):
    """What became of the lines of a decision log."""

    @property
    def written(self) -> int:
        """Lines in the files."""

    @property
    def dropped(self) -> int:
        """Lines that were given up."""

    @property
    def failed(self) -> int:
        """Attempts to write that failed."""


def log_record(log: LogCounts | None) -> dict[str, int] | None:
    """Return what became of the lines of a decision log, for JSON."""
    if log is None:
        return None
    return {"written": log.written, "dropped": log.dropped, "failed": log.failed}


class Metrics:
    """All metrics of one service; threads may share it.

    Parameters
    ----------
    manifest : callable
        Returns the manifest of the artifact that decides now.
    log : callable
        Returns the decision log, or None.
    """

    def __init__(
        self, manifest: Callable[[], Manifest], log: Callable[[], LogCounts | None]
    ) -> None:
        self.registry = CollectorRegistry()
        self.drift = ScoreDrift()
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._count_decisions()
        self._count_requests()
        self.registry.register(_State(manifest, log, lambda: self.drift))

    def _count_decisions(self) -> None:
        self.decisions = Counter(
            "querytier_decisions", "Decisions.", ["tier", "reason"], registry=self.registry
        )
        self.seconds = Histogram(
            "querytier_decision_seconds",
            "From the query to the decision, without HTTP.",
            buckets=_DECISION_SECONDS,
            registry=self.registry,
        )
        self.scores = Histogram(
            "querytier_decision_score",
            "What is compared with the threshold.",
            buckets=_SCORES,
            registry=self.registry,
        )
        self.log_refusals = Counter(
            "querytier_log_refused",
            "Decisions and outcomes that the decision log did not take.",
            registry=self.registry,
        )

    def _count_requests(self) -> None:
        self.requests = Counter(
            "querytier_requests", "Requests answered.", ["path", "status"], registry=self.registry
        )
        self.in_flight = Gauge(
            "querytier_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        self.reloads = Counter(
            "querytier_reloads", "Artifacts taken, and not.", ["result"], registry=self.registry
        )
        for result in ("success", "failure"):
            self.reloads.labels(result)
        self.failed_look_ups = Counter(
            "querytier_failed_look_ups",
            "Times that the registry did not say which version the artifact's name means.",
            registry=self.registry,
        )

    def observe(self, decision: Decision) -> None:
        """Count a decision."""
        seconds = decision.latency_ms / 1000
        self.decisions.labels(decision.tier, decision.reason).inc()
        self.seconds.observe(seconds)
        self._recent.append(seconds)
        if decision.decision_score is not None:
            self.scores.observe(decision.decision_score)
            self.drift.add(decision.decision_score)

    def begin_drift(self) -> None:
        """Compare scores with those of a new first window: another model scores otherwise."""
        self.drift = ScoreDrift()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics, and their media type, as a scraper accepts them."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def decided(self) -> dict[tuple[str, str], int]:
        """Return how many decisions there were by tier and reason."""
        return {
            (sample.labels["tier"], sample.labels["reason"]): int(sample.value)
            for metric in self.decisions.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }

    def traffic(self) -> dict[str, Any]:
        """Return the decisions in figures, for JSON."""
        decided = self.decided()
        p50, p99 = self.recent_ms(50, 99)
        reasons: dict[str, int] = {}
        for (_, reason), count in decided.items():
            reasons[reason] = reasons.get(reason, 0) + count
        return {
            "decisions": sum(decided.values()),
            "frontier": sum(n for (tier, _), n in decided.items() if tier == "frontier"),
            "reasons": reasons,
            "p50_ms": p50,
            "p99_ms": p99,
            "score_mean": self.drift.mean,
            "score_psi": self.drift.index,
        }

    def reloaded(self) -> dict[str, int]:
        """Return how many artifacts were taken, and not."""
        return {
            sample.labels["result"]: int(sample.value)
            for metric in self.reloads.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        }

    def recent_ms(self, *percentiles: float) -> list[float | None]:
        """Return percentiles of the time of the latest decisions, in milliseconds."""
        recent = list(self._recent)
        if not recent:
            return [None for _ in percentiles]
        return [round(float(one) * 1000, 4) for one in np.percentile(recent, percentiles)]


class _State(Collector):
    """What is read only when somebody asks for it."""

    def __init__(
        self,
        manifest: Callable[[], Manifest],
        log: Callable[[], LogCounts | None],
        drift: Callable[[], ScoreDrift],
    ) -> None:
        self._manifest = manifest
        self._log = log
        self._drift = drift

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of model, certificate, drift and log."""
        manifest, drift, log = self._manifest(), self._drift(), self._log()
        yield from _model(manifest)
        yield from _certificate(manifest)
        if drift.mean is not None:
            text = "Mean decision score of the latest full window of 1,000."
            yield GaugeMetricFamily("querytier_decision_score_mean", text, drift.mean)
        if drift.index is not None:
            text = "Population stability index of the latest full window against the first."
            yield GaugeMetricFamily("querytier_decision_score_psi", text, drift.index)
        if log is not None:
            yield from _log(log)


def _model(manifest: Manifest) -> Iterator[Metric]:
    labels = {
        "model_version": manifest.model_version,
        "input": manifest.input,
        "precision": manifest.precision,
        "decision_score": manifest.decision_score,
    }
    info = GaugeMetricFamily("querytier_model_info", "The model that decides.", labels=[*labels])
    info.add_metric([*labels.values()], 1)
    yield info
    text = "Frontier from this decision score on."
    yield GaugeMetricFamily("querytier_threshold", text, manifest.threshold)


def _log(log: LogCounts) -> Iterator[Metric]:
    counts = {
        "written": (log.written, "Lines in the files of the decision log."),
        "dropped": (log.dropped, "Lines of the decision log that are lost."),
        "failed": (log.failed, "Attempts to write the decision log that failed."),
    }
    for name, (count, text) in counts.items():
        yield CounterMetricFamily(f"querytier_log_{name}", text, count)


def _certificate(manifest: Manifest) -> Iterator[Metric]:
    text = "What is promised about the threshold: granted or refused."
    info = GaugeMetricFamily("querytier_certificate_info", text, labels=["status"])
    info.add_metric([manifest.certificate.status], 1)
    yield info
    lapses = expiry(manifest.certificate)
    text = "When the certificate lapses, in seconds since 1970; +Inf: never."
    yield GaugeMetricFamily("querytier_certificate_expires_seconds", text, lapses)
