"""The shadow of a service: which challenger, what its decisions would cost, and its metrics."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from querytier.errors import ArtifactError
from querytier.serve.decision import Decision, Query
from querytier.serve.http.reloading import load_proved
from querytier.serve.http.shadow import PAIRS, Agreement, Shadow
from querytier.serve.http.tier_costs import TierCosts
from querytier.serve.router import Router
from querytier.serve.settings import RouterSettings

__all__ = ["ShadowLog", "ShadowSettings", "Shadowing"]

_log = logging.getLogger(__name__)


class ShadowLog(Protocol):
    """Takes what a challenger decided."""

    def append_shadow(self, id: str, decision: Decision) -> None:  # noqa: A002 the log's own word
        """Log what a challenger would have decided."""


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """Which challenger decides silently.

    Attributes
    ----------
    artifact : Path
    costs : TierCosts
        What a query costs on each tier.
    log : ShadowLog or None
        Gets the challenger's decisions; it is not closed here.
    most_pending : int
        Queries beyond this are dropped, and counted.
    """

    artifact: Path
    costs: TierCosts = field(default_factory=TierCosts)
    log: ShadowLog | None = None
    most_pending: int = 1000


class Shadowing(Collector):
    """Has a challenger decide what a service decided, and tells what came of it.

    Parameters
    ----------
    settings : ShadowSettings
    router : RouterSettings
        The service's: a challenger is as strict on untypical queries. It neither explores nor
        remembers.

    Raises
    ------
    ArtifactError
        If the artifact is none, is damaged, or does not reproduce its golden vectors here.
    """

    def __init__(self, settings: ShadowSettings, router: RouterSettings) -> None:
        self._settings = settings
        self._plain = RouterSettings(least_typicality=router.least_typicality)
        self._router = self._proved()
        log = settings.log
        self._shadow = Shadow(
            self._router, settings.most_pending, None if log is None else log.append_shadow
        )

    @classmethod
    def of(cls, settings: ShadowSettings | None, router: RouterSettings) -> Self | None:
        """Return the shadow of a service; None where there is no challenger."""
        return None if settings is None else cls(settings, router)

    def show(self, query: Query, decision: Decision, id: str) -> None:  # noqa: A002
        """Have the challenger decide, later, what was decided; never raises, and never waits."""
        self._settings.costs.decided(id, decision.tier)
        self._shadow.show(query, decision, id)

    def learn_costs(self, costs: Mapping[str, float | None]) -> None:
        """Take what answers cost, by the ids of their decisions."""
        for own_id, cost in costs.items():
            if cost is not None:
                self._settings.costs.learn(own_id, cost)

    def reload(self) -> None:
        """Begin anew, with the artifact as its folder has it; with the one before if it is bad."""
        try:
            self._router = self._proved()
        except ArtifactError:
            _log.exception("the artifact in the shadow was not taken; the one before goes on")
        self._shadow.begin_anew(self._router)

    def close(self) -> None:
        """Compare what is pending, within some seconds, and end."""
        self._shadow.close()

    def to_dict(self) -> dict[str, Any]:
        """Return what came of it, for JSON; None where there is nothing to tell."""
        found = self._shadow.agreement
        p50, p99 = self._recent_ms()
        return {
            "model_version": self._router.classifier.manifest.model_version,
            "threshold": self._threshold(),
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
        yield from _counters(self._shadow.agreement)
        record = self.to_dict()
        info = GaugeMetricFamily(
            "querytier_shadow_model_info", "The challenger.", labels=["model_version"]
        )
        info.add_metric([record["model_version"]], 1)
        yield info
        yield from _known_values(
            "querytier_shadow_milliseconds",
            "What the challenger takes for a decision.",
            "quantile",
            {"0.5": record["p50_ms"], "0.99": record["p99_ms"]},
        )
        yield from _known_values(
            "querytier_shadow_cost",
            "What a compared query costs by the artifact that serves, and by the challenger.",
            "by",
            {"served": record["cost"], "shadow": record["shadow_cost"]},
        )

    def _proved(self) -> Router:
        return load_proved(self._settings.artifact, self._plain).router

    def _threshold(self) -> float | None:
        threshold = self._router.classifier.manifest.threshold
        return threshold if np.isfinite(threshold) else None  # JSON has no infinity

    def _recent_ms(self) -> list[float | None]:
        recent = self._shadow.recent_ms
        if not recent:
            return [None, None]
        return [round(float(one), 4) for one in np.percentile(recent, (50, 99))]

    def _cost(self, frontier: int, found: Agreement) -> float | None:
        """Return what a query costs where so many of the compared ones go to the frontier."""
        cheap_cost = self._settings.costs.mean("cheap")
        frontier_cost = self._settings.costs.mean("frontier")
        if cheap_cost is None or frontier_cost is None or not found.compared:
            return None
        share = frontier / found.compared
        return share * frontier_cost + (1 - share) * cheap_cost


def _share(count: int, found: Agreement) -> float | None:
    return count / found.compared if found.compared else None


def _counters(found: Agreement) -> Iterator[Metric]:
    pairs = CounterMetricFamily(
        "querytier_shadow_decisions",
        "Queries by the tier that the artifact and the challenger chose.",
        labels=["tier", "shadow_tier"],
    )
    for tiers, name in PAIRS.items():
        pairs.add_metric(tiers, getattr(found, name))
    yield pairs
    yield CounterMetricFamily(
        "querytier_shadow_dropped", "Queries that the challenger was too slow for.", found.dropped
    )
    yield CounterMetricFamily(
        "querytier_shadow_failed", "Queries that the challenger failed on.", found.failed
    )


def _known_values(
    name: str, text: str, label: str, values: Mapping[str, float | None]
) -> Iterator[Metric]:
    metric = GaugeMetricFamily(name, text, labels=[label])
    for which, value in values.items():
        if value is not None:
            metric.add_metric([which], value)
    yield metric
