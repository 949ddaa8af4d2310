"""Metrics for Prometheus and for `/v1/status`, and the drift of decision scores."""

from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from querytier.classifier.certificate import expiry
from querytier.classifier.manifest import Manifest
from querytier.serve.decision import Decision
from querytier.serve.log.decision_log import DecisionLog

__all__ = ["Metrics", "ScoreDrift", "families", "log_counts", "percentiles_ms"]

_DECISION_SECONDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
# Buckets are finer from 0 to 1, where most scores are; a gain may be negative.
_SCORES = (-1.0, -0.5, -0.25, -0.1, -0.05, *(round(0.05 * step, 2) for step in range(21)))
_RECENT = 2048
_BINS = 10
_GAUGES = {
    "threshold": "Lowest decision score that sends a query to the frontier tier.",
    "certificate_expires_seconds": "Expiry of the certificate in seconds since 1970, or +Inf.",
    "decision_score_mean": "Mean decision score of the latest full window of 1,000.",
    "decision_score_psi": "Population stability index of that window against the first one.",
}
_COUNTERS = {
    "log_written": "Lines written to the decision log.",
    "log_dropped": "Lines that were lost before they reached the decision log.",
    "log_failed": "Failed attempts to write the decision log.",
}


def families(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    values: Mapping[str, float | None],
    texts: Mapping[str, str],
) -> Iterator[Metric]:
    """Yield a metric with one value for each help text whose value is known.

    Parameters
    ----------
    kind : type
        `GaugeMetricFamily` or `CounterMetricFamily`.
    values, texts : mapping
        By name, without the prefix `querytier_`.
    """
    for name, text in texts.items():
        value = values.get(name)
        if value is not None:
            yield kind(f"querytier_{name}", text, value)


def log_counts(log: DecisionLog | None) -> dict[str, int] | None:
    """Return the numbers of lines written, dropped and failed, for JSON; None without a log."""
    if log is None:
        return None
    return {"written": log.written, "dropped": log.dropped, "failed": log.failed}


def percentiles_ms(milliseconds: list[float]) -> tuple[float | None, float | None]:
    """Return the median and the 99th percentile; None for both if there are no values."""
    if not milliseconds:
        return None, None
    p50, p99 = (round(float(one), 4) for one in np.percentile(milliseconds, (50, 99)))
    return p50, p99


class ScoreDrift:
    """Compares windows of decision scores with the first one; threads may share it.

    The population stability index is the sum of (p - q) ln(p / q) over the first window's deciles,
    with half a score added to each so that an empty one does not make it infinite. Without drift it
    is about 18 / window; if it is 0.2 or more, look at the traffic.

    Parameters
    ----------
    window : int
        Number of scores in a window.

    Attributes
    ----------
    index : float or None
        Population stability index of the latest full window; None before the second is full.
    mean : float or None
        Mean score of the latest full window.

    Examples
    --------
    >>> drift = ScoreDrift(window=100)
    >>> for score in range(100): drift.add(score / 100)
    >>> drift.index is None
    True
    >>> for score in range(100): drift.add(0.5 + score / 200)
    >>> round(drift.index, 1)
    1.8
    """

    def __init__(self, window: int = 1000) -> None:
        self._window = window
        self._lock = Lock()
        self._scores: list[float] = []
        self._edges: NDArray[np.float64] | None = None
        self._first = np.empty(0)
        self.index: float | None = None
        self.mean: float | None = None

    def add(self, score: float) -> None:
        """Add a decision score."""
        with self._lock:
            self._scores.append(score)
            if len(self._scores) == self._window:
                self._close(np.array(self._scores))
                self._scores.clear()

    def _close(self, scores: NDArray[np.float64]) -> None:
        self.mean = float(scores.mean())
        if self._edges is None:
            inner = np.linspace(0, 1, _BINS + 1)[1:-1]
            # Scores of a small graph repeat: deciles that coincide are one edge.
            self._edges = np.unique(np.quantile(scores, inner))
            self._first = self._shares(scores, self._edges)
            return
        now = self._shares(scores, self._edges)
        self.index = float(np.sum((now - self._first) * np.log(now / self._first)))

    def _shares(
        self, scores: NDArray[np.float64], edges: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        places = np.searchsorted(edges, scores, side="right")
        counts = np.bincount(places, minlength=len(edges) + 1) + 0.5
        return np.asarray(counts / counts.sum())


class Metrics(Collector):
    """All metrics of one service; threads may share it.

    Parameters
    ----------
    manifest : callable
        Returns the manifest of the current artifact.
    log : DecisionLog or None
    """

    def __init__(self, manifest: Callable[[], Manifest], log: DecisionLog | None) -> None:
        # A registry of its own: the global one would mix the services of one process.
        self.registry = CollectorRegistry()
        self._manifest, self._log = manifest, log
        self._drift = ScoreDrift()
        self._recent_ms: deque[float] = deque(maxlen=_RECENT)
        self._decisions = self._counter("decisions", "Decisions.", "tier", "reason")
        self.requests = self._counter("requests", "Requests answered.", "path", "status")
        self.reloads = self._counter("reloads", "Reload attempts by result.", "result")
        self.failed_look_ups = self._counter("failed_look_ups", "Failed registry look-ups.")
        self.log_refusals = self._counter(
            "log_refused", "Decisions and outcomes that the decision log failed to record."
        )
        self.in_flight = Gauge(
            "querytier_requests_in_flight", "Requests in flight.", registry=self.registry
        )
        self._seconds = self._histogram(
            "decision_seconds", "Seconds per decision, without HTTP.", _DECISION_SECONDS
        )
        self._scores = self._histogram(
            "decision_score", "Decision score compared with the threshold.", _SCORES
        )
        # Prometheus sees a series from its first value on: without a zero, `rate` misses the first
        # failure.
        for result in ("success", "failure"):
            self.reloads.labels(result)
        self.registry.register(self)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"querytier_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"querytier_{name}", text, buckets=buckets, registry=self.registry)

    def record(self, decision: Decision) -> None:
        """Count a decision."""
        self._decisions.labels(decision.tier, decision.reason).inc()
        self._seconds.observe(decision.latency_ms / 1000)
        self._recent_ms.append(decision.latency_ms)
        if decision.decision_score is not None:
            self._scores.observe(decision.decision_score)
            self._drift.add(decision.decision_score)

    def begin_drift(self) -> None:
        """Begin a new first window of scores: another model's scores are not comparable."""
        self._drift = ScoreDrift()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their media type, in a format that the scraper accepts."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def traffic(self) -> dict[str, Any]:
        """Return the numbers of decisions, their times and their drift, for JSON."""
        tiers, reasons = Tally[str](), Tally[str]()
        for labels, count in _values(self._decisions):
            tiers[labels["tier"]] += count
            reasons[labels["reason"]] += count
        p50, p99 = percentiles_ms(list(self._recent_ms))
        return {
            "decisions": tiers.total(),
            "frontier": tiers["frontier"],
            "reasons": dict(reasons),
            "p50_ms": p50,
            "p99_ms": p99,
            "score_mean": self._drift.mean,
            "score_psi": self._drift.index,
        }

    def reload_counts(self) -> dict[str, int]:
        """Return the numbers of reloads that succeeded and failed."""
        return {labels["result"]: count for labels, count in _values(self.reloads)}

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics of model, certificate, drift and log."""
        manifest, drift = self._manifest(), self._drift
        yield _info(
            "querytier_model_info",
            "The model in service.",
            model_version=manifest.model_version,
            input=manifest.input,
            precision=manifest.precision,
            decision_score=manifest.decision_score,
        )
        status = manifest.certificate.status
        text = "Status of the certificate: granted or refused."
        yield _info("querytier_certificate_info", text, status=status)
        known = {
            "threshold": manifest.threshold,
            "certificate_expires_seconds": expiry(manifest.certificate),
            "decision_score_mean": drift.mean,
            "decision_score_psi": drift.index,
            **{f"log_{name}": count for name, count in (log_counts(self._log) or {}).items()},
        }
        yield from families(GaugeMetricFamily, known, _GAUGES)
        yield from families(CounterMetricFamily, known, _COUNTERS)


def _info(name: str, text: str, **labels: str) -> Metric:
    """Return a metric whose labels are its content; its value is 1."""
    info = GaugeMetricFamily(name, text, labels=[*labels])
    info.add_metric([*labels.values()], 1)
    return info


def _values(counter: Counter) -> Iterator[tuple[dict[str, str], int]]:
    """Yield the labels and the value of each series of a counter."""
    for metric in counter.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                yield sample.labels, int(sample.value)
