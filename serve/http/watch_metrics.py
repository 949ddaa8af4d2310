"""What Prometheus is told of the watch over the certificate, and of what the audit costs."""

import time
from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from querytier.serve.http.reloading import Loaded
from querytier.serve.router import Router
from querytier.serve.watch.state import WatchState

__all__ = ["WatchMetrics", "retrain_due"]


class WatchMetrics(Collector):
    """Reads the watch when somebody asks for it.

    Parameters
    ----------
    loaded : callable
        Returns the artifact that decides now.
    """

    def __init__(self, loaded: Callable[[], Loaded]) -> None:
        self._loaded = loaded

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the router's watch, where it has one."""
        loaded = self._loaded()
        state = loaded.watch.look() if loaded.watch is not None else None
        text = "1 where the certificate is withdrawn, or has lapsed: train again, or certify again."
        yield GaugeMetricFamily("querytier_retrain_due", text, float(retrain_due(loaded.router)))
        if state is not None:
            yield from _evidence(state)
            yield from _audits(state)


def retrain_due(router: Router) -> bool:
    """Tell whether the certificate is worth the fallback tier by now, so that a new one is due."""
    return router.is_withdrawn() or time.time() >= router.certified_until


def _evidence(state: WatchState) -> Iterator[Metric]:
    gauges = {
        "certificate_withdrawn": (
            float(state.state == "withdrawn"),
            "1 where audited answers spoke against the certificate.",
        ),
        "certificate_wealth": (
            state.wealth,
            "Evidence against the certificate: capital of a test by betting, 1 at its start.",
        ),
        "certificate_wealth_needed": (state.needed, "The capital that withdraws the certificate."),
        "audits_waiting": (state.waiting, "Audits that wait for scores, theirs or earlier ones."),
    }
    for name, (value, text) in gauges.items():
        yield GaugeMetricFamily(f"querytier_{name}", text, value)


def _audits(state: WatchState) -> Iterator[Metric]:
    counts = {
        "audits_taken": (state.taken, "Audits whose loss was taken."),
        "audits_loss": (state.loss, "Sum of these losses."),
        "audits_missing": (state.missing, "Audits whose scores did not come in time."),
        "audits_repeated": (state.repeated, "Further audits of a conversation, not taken."),
        "audits_cost": (state.extra_cost, "Cost of the extra answers, as far as it was told."),
        "audits_failed": (state.failed, "Lines of the watch's file not written, or not read."),
    }
    for name, (value, text) in counts.items():
        yield CounterMetricFamily(f"querytier_{name}", text, value)
    text = "Answers that were asked for the audit alone."
    calls = CounterMetricFamily("querytier_audits_extra_calls", text, labels=["tier"])
    for tier, count in state.extra_calls.items():
        calls.add_metric([tier], count)
    yield calls
