"""A challenger that decides the same queries as the router in service, silently."""

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Full, Queue
from threading import Lock, Thread
from typing import NamedTuple

from querytier.classifier.threshold import Tier
from querytier.serve.decision import Decision, Query

__all__ = ["PAIRS", "Agreement", "Shadow"]

_log = logging.getLogger(__name__)

_RECENT = 2048
# Longest time for which a challenger that hangs delays the end of the process.
_CLOSE_S = 5.0

Decide = Callable[[Query], Decision]


class _Shown(NamedTuple):
    query: Query
    tier: Tier
    id: str
    pair: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often a challenger agreed with the router in service.

    Attributes
    ----------
    both_cheap, both_frontier : int
        Number of queries that got the same tier from both.
    only_frontier : int
        Number of queries sent to the frontier tier, which the challenger would send to the cheap
        one.
    only_challenger_frontier : int
        Number of queries sent to the cheap tier, which the challenger would send to the frontier
        one.
    dropped : int
        Number of queries for which the challenger was too slow.
    failed : int
        Number of queries on which it raised an error.
    """

    both_cheap: int = 0
    both_frontier: int = 0
    only_frontier: int = 0
    only_challenger_frontier: int = 0
    dropped: int = 0
    failed: int = 0

    @property
    def agreed(self) -> int:
        """Number of queries that got the same tier from both."""
        return self.both_cheap + self.both_frontier

    @property
    def compared(self) -> int:
        """Number of queries that both decided."""
        return self.agreed + self.only_frontier + self.only_challenger_frontier

    @property
    def frontier(self) -> int:
        """Number of queries that the artifact in service sent to the frontier tier."""
        return self.both_frontier + self.only_frontier

    @property
    def challenger_frontier(self) -> int:
        """Number of queries that the challenger would send there."""
        return self.both_frontier + self.only_challenger_frontier


PAIRS: dict[tuple[Tier, Tier], str] = {
    ("cheap", "cheap"): "both_cheap",
    ("frontier", "frontier"): "both_frontier",
    ("frontier", "cheap"): "only_frontier",
    ("cheap", "frontier"): "only_challenger_frontier",
}


class Shadow:
    """Lets a challenger decide a router's queries, and compares; no decision waits for it.

    Artifacts are compared, not routers: exploration is undone, and decisions that no artifact could
    have changed (`override`, `conversation`, `cap`) are left out.

    `close` compares pending queries, within a few seconds. A challenger that hangs is abandoned;
    one that raises is counted.

    Parameters
    ----------
    decide : callable
        Returns the challenger's decision on a query: `Router.decide`.
    most_pending : int
        Number of queries that may wait; further ones are dropped and counted.
    compared : callable, optional
        Receives the id of each compared decision, and the challenger's decision.
    """

    def __init__(
        self,
        decide: Decide,
        most_pending: int = 1000,
        compared: Callable[[str, Decision], object] | None = None,
    ) -> None:
        self._challenger = decide
        self._compared = compared
        self._pending: Queue[_Shown | None] = Queue(most_pending)
        self._lock = Lock()
        # Queries that were shown before a restart are of another pair, and count for neither.
        self._pair = 0
        self._reset()
        self._thread = Thread(target=self._compare_all, name="querytier-shadow", daemon=True)
        self._thread.start()

    def show(self, query: Query, decision: Decision, id: str = "") -> None:  # noqa: A002
        """Queue a query for the challenger; never raises, and never waits."""
        tier = _tier_of_artifact(decision)
        if tier is None:
            return
        try:
            self._pending.put_nowait(_Shown(query, tier, id, self._pair))
        except Full:
            self._count("dropped", self._pair)

    def restart(self, decide: Decide) -> None:
        """Reset all counts, for another pair of artifacts."""
        with self._lock:
            self._challenger = decide
            self._pair += 1
            self._reset()

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Compare pending queries, and end; a challenger that takes longer is abandoned."""
        end = time.monotonic() + timeout_s
        with suppress(Full):
            self._pending.put(None, timeout=timeout_s)
        self._thread.join(max(0.0, end - time.monotonic()))
        if self._thread.is_alive():
            _log.warning("the shadow challenger did not end in time and is abandoned")

    @property
    def agreement(self) -> Agreement:
        """The counts so far."""
        with self._lock:
            return Agreement(**self._counts)

    @property
    def recent_ms(self) -> list[float]:
        """Times of the challenger's recent decisions, in milliseconds."""
        with self._lock:
            return list(self._recent)

    def _reset(self) -> None:
        self._counts = dict.fromkeys(Agreement.__slots__, 0)
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def _compare_all(self) -> None:
        while (shown := self._pending.get()) is not None:
            try:
                self._compare(shown)
            except Exception:  # noqa: BLE001 the next query may work
                self._count("failed", shown.pair)
                _log.exception("the shadow challenger failed")

    def _compare(self, shown: _Shown) -> None:
        other = self._challenger(shown.query)
        self._count(PAIRS[shown.tier, other.tier], shown.pair, other.latency_ms)
        if self._compared is not None:
            self._compared(shown.id, other)

    def _count(self, name: str, pair: int, latency_ms: float | None = None) -> None:
        with self._lock:
            if pair != self._pair:
                return
            self._counts[name] += 1
            if latency_ms is not None:
                self._recent.append(latency_ms)


def _tier_of_artifact(decision: Decision) -> Tier | None:
    """Return the tier that the artifact chose; None if something else decided."""
    if decision.reason == "explore":
        return "cheap" if decision.tier == "frontier" else "frontier"
    from_artifact = decision.reason == "classifier" or decision.reason.startswith("fallback:")
    return decision.tier if from_artifact else None
