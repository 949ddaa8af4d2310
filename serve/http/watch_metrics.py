"""Metrics of the watch over the certificate, and of the cost of its audit."""

import time
from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from querytier.serve.http.metrics import families
from querytier.serve.http.reloading import Loaded
from querytier.serve.router import Router
from querytier.serve.watch.state import WatchState

__all__ = ["WatchMetrics", "retrain_due"]

_GAUGES = {
    "certificate_withdrawn": "1 if audited answers refuted the certificate.",
    "certificate_wealth": "Evidence against the certificate: capital of a test by betting, 1 at "
    "the start.",
    "certificate_wealth_needed": "Evidence at which the certificate is withdrawn.",
    "audits_waiting": "Audits that wait for their scores or for earlier audits.",
}
_STATE_COUNTS = ("waiting", "taken", "loss", "missing", "repeated", "failed")
_COUNTERS = {
    "audits_taken": "Audits whose loss was tested.",
    "audits_loss": "Sum of the tested losses.",
    "audits_missing": "Audits whose scores did not arrive in time.",
    "audits_repeated": "Repeated audits of a conversation, which are not tested.",
    "audits_cost": "Reported cost of answers that were requested only for the audit.",
    "audits_failed": "Lines of the watch's file that could not be written or read.",
}


class WatchMetrics(Collector):
    """Reads the watch for each scrape.

    Parameters
    ----------
    loaded : callable
        Returns the current artifact.
    """

    def __init__(self, loaded: Callable[[], Loaded]) -> None:
        self._loaded = loaded

    def collect(self) -> Iterator[Metric]:
        """Yield whether retraining is due, and the metrics of the watch if there is one."""
        loaded = self._loaded()
        state = loaded.watch.look() if loaded.watch is not None else None
        text = "1 if the certificate is withdrawn or has expired: train again, or certify again."
        yield GaugeMetricFamily("querytier_retrain_due", text, float(retrain_due(loaded.router)))
        if state is not None:
            yield from _state_metrics(state)


def retrain_due(router: Router) -> bool:
    """Return whether a new certificate is due because only the fallback tier answers."""
    return router.is_withdrawn() or time.time() >= router.certified_until


def _state_metrics(state: WatchState) -> Iterator[Metric]:
    values = {
        "certificate_withdrawn": float(state.state == "withdrawn"),
        "certificate_wealth": state.wealth,
        "certificate_wealth_needed": state.needed,
        "audits_cost": state.extra_cost,
        **{f"audits_{name}": getattr(state, name) for name in _STATE_COUNTS},
    }
    yield from families(GaugeMetricFamily, values, _GAUGES)
    yield from families(CounterMetricFamily, values, _COUNTERS)
    text = "Answers that were requested only for the audit."
    calls = CounterMetricFamily("querytier_audits_extra_calls", text, labels=["tier"])
    for tier, count in state.extra_calls.items():
        calls.add_metric([tier], count)
    yield calls
