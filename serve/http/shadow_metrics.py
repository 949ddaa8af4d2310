"""The shadow of a service: its challenger, what its decisions would cost, and its metrics."""

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from querytier.classifier.threshold import Tier
from querytier.errors import ArtifactError
from querytier.serve.decision import Decision, Query
from querytier.serve.http.metrics import families, percentiles_ms
from querytier.serve.http.reloading import load_proved
from querytier.serve.http.shadow import PAIRS, Agreement, Shadow
from querytier.serve.http.wire import Outcome
from querytier.serve.log.decision_log import DecisionLog
from querytier.serve.router import Router
from querytier.serve.settings import RouterSettings

__all__ = ["ShadowSettings", "Shadowing", "TierCosts"]

_log = logging.getLogger(__name__)
_REMEMBERED = 10_000
_COUNTERS = {
    "shadow_dropped": "Queries for which the challenger was too slow.",
    "shadow_failed": "Queries on which the challenger failed.",
}
_GAUGES = {
    "model_info": "The artifact of the challenger.",
    "milliseconds": "Milliseconds per decision of the challenger.",
    "cost": "Cost per compared query with the artifact in service and with the challenger.",
}


class TierCosts:
    """Mean cost of a query by tier; threads may share it.

    Parameters
    ----------
    given : mapping of tier to float
        Known costs; a tier without one has the mean cost of its posted outcomes.
    remembered : int
        Number of recent decisions whose tier is remembered until their cost arrives.

    Raises
    ------
    ValueError
        If a cost is below 0.

    Examples
    --------
    >>> costs = TierCosts({"frontier": 0.03})
    >>> costs.add("a", "cheap"); costs.record("a", 0.002)
    >>> costs.mean("cheap"), costs.mean("frontier")
    (0.002, 0.03)
    """

    def __init__(
        self, given: Mapping[Tier, float | None] | None = None, remembered: int = _REMEMBERED
    ) -> None:
        self._given = {tier: cost for tier, cost in (given or {}).items() if cost is not None}
        for tier, cost in self._given.items():
            if not 0 <= cost < float("inf"):
                raise ValueError(f"the cost of {tier} is {cost}; give a cost per query, 0 or more")
        self._remembered = remembered
        self._lock = Lock()
        self._tiers: OrderedDict[str, Tier] = OrderedDict()
        self._sums: dict[Tier, tuple[float, int]] = {}

    def add(self, id: str, tier: Tier) -> None:  # noqa: A002 the log's own word
        """Remember the tier of a decision."""
        with self._lock:
            self._tiers[id] = tier
            if len(self._tiers) > self._remembered:
                self._tiers.popitem(last=False)

    def record(self, id: str, cost: float) -> None:  # noqa: A002 the log's own word
        """Record the cost of an answer; only the first cost of a decision counts."""
        with self._lock:
            tier = self._tiers.pop(id, None)
            if tier is not None:
                total, count = self._sums.get(tier, (0.0, 0))
                self._sums[tier] = (total + cost, count + 1)

    def mean(self, tier: Tier) -> float | None:
        """Return the cost of a query on a tier; None if unknown."""
        with self._lock:
            total, count = self._sums.get(tier, (0.0, 0))
            return self._given.get(tier, total / count if count else None)


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """The challenger, and its costs.

    Attributes
    ----------
    artifact : Path
    costs : TierCosts
    log : DecisionLog or None
        Log of the challenger's decisions; it is not closed here.
    most_pending : int
        Number of queries that may wait; further ones are dropped and counted.
    """

    artifact: Path
    costs: TierCosts = field(default_factory=TierCosts)
    log: DecisionLog | None = None
    most_pending: int = 1000


class Shadowing(Collector):
    """Lets a challenger decide the queries of a service, and reports the differences.

    Parameters
    ----------
    settings : ShadowSettings
    router : RouterSettings
        The settings of the service: a challenger is as strict on untypical queries. It neither
        explores nor remembers conversations, because the artifacts are compared.

    Raises
    ------
    ArtifactError
        If the artifact is missing or damaged, or does not reproduce its golden vectors here.
    """

    def __init__(self, settings: ShadowSettings, router: RouterSettings) -> None:
        self._settings = settings
        self._plain = RouterSettings(least_typicality=router.least_typicality)
        self._router = self._load()
        log = settings.log
        self._shadow = Shadow(
            self._router.decide, settings.most_pending, None if log is None else log.append_shadow
        )

    def show(self, query: Query, decision: Decision, id: str) -> None:  # noqa: A002
        """Queue a query for the challenger; never raises, and never waits."""
        self._settings.costs.add(id, decision.tier)
        self._shadow.show(query, decision, id)

    def record_costs(self, outcomes: Iterable[Outcome]) -> None:
        """Record the costs of answers."""
        for one in outcomes:
            if one.cost is not None:
                self._settings.costs.record(one.id, one.cost)

    def reload(self) -> None:
        """Load the artifact again and reset the counts; keep the previous one if it is refused."""
        try:
            self._router = self._load()
        except ArtifactError:
            _log.exception("the challenger's artifact was refused; the previous one stays")
        self._shadow.restart(self._router.decide)

    def close(self) -> None:
        """Compare pending queries, within a few seconds, and end."""
        self._shadow.close()

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON; None for shares and costs that are unknown."""
        found = self._shadow.agreement
        p50, p99 = percentiles_ms(self._shadow.recent_ms)
        threshold = self._router.classifier.manifest.threshold
        return {
            "model_version": self._router.classifier.manifest.model_version,
            "threshold": threshold if np.isfinite(threshold) else None,  # JSON has no infinity
            "compared": found.compared,
            "agreement": _share(found.agreed, found),
            "pairs": {name: getattr(found, name) for name in PAIRS.values()},
            "frontier_rate": _share(found.frontier, found),
            "shadow_frontier_rate": _share(found.challenger_frontier, found),
            "cost": self._cost(found.frontier, found),
            "shadow_cost": self._cost(found.challenger_frontier, found),
            "p50_ms": p50,
            "p99_ms": p99,
            "dropped": found.dropped,
            "failed": found.failed,
        }

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the shadow."""
        found, status = self._shadow.agreement, self.to_dict()
        pairs = CounterMetricFamily(
            "querytier_shadow_decisions",
            "Queries by the tiers that the artifact in service and the challenger chose.",
            labels=["tier", "shadow_tier"],
        )
        for tiers, name in PAIRS.items():
            pairs.add_metric(tiers, getattr(found, name))
        yield pairs
        counts = {"shadow_dropped": found.dropped, "shadow_failed": found.failed}
        yield from families(CounterMetricFamily, counts, _COUNTERS)
        gauges = {
            ("model_info", "model_version"): {status["model_version"]: 1},
            ("milliseconds", "quantile"): {"0.5": status["p50_ms"], "0.99": status["p99_ms"]},
            ("cost", "by"): {"served": status["cost"], "shadow": status["shadow_cost"]},
        }
        for (name, label), values in gauges.items():
            gauge = GaugeMetricFamily(f"querytier_shadow_{name}", _GAUGES[name], labels=[label])
            for series, value in values.items():
                if value is not None:
                    gauge.add_metric([series], value)
            yield gauge

    def _load(self) -> Router:
        return load_proved(self._settings.artifact, self._plain).router

    def _cost(self, frontier: int, found: Agreement) -> float | None:
        """Return the cost per query if `frontier` of the compared queries use the frontier tier."""
        cheap_cost = self._settings.costs.mean("cheap")
        frontier_cost = self._settings.costs.mean("frontier")
        share = _share(frontier, found)
        if cheap_cost is None or frontier_cost is None or share is None:
            return None
        return share * frontier_cost + (1 - share) * cheap_cost


def _share(count: int, found: Agreement) -> float | None:
    return count / found.compared if found.compared else None
