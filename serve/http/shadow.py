"""A challenger that decides in the shadow of the router that serves."""

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Full, Queue
from threading import Lock, Thread
from typing import NamedTuple, Protocol, Self

from querytier.classifier.threshold import Tier
from querytier.serve.decision import Decision, Query

__all__ = ["PAIRS", "Agreement", "Decides", "Shadow"]

_log = logging.getLogger(__name__)

_RECENT = 2048
# What a challenger that hangs may hold up the end of the process.
_CLOSE_S = 5.0


class Decides(Protocol):
    """What a challenger has to be able to do; a `Router` can."""

    def decide(self, query: Query) -> Decision:
        """Decide a query."""


class _Shown(NamedTuple):
    query: Query
    tier: Tier
    id: str
    pair: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a challenger would have decided the same queries.

    Attributes
    ----------
    both_cheap, both_frontier : int
        Queries that got the same tier from both.
    only_frontier : int
        Those that went to the frontier tier, and to the cheap one by the challenger.
    only_challenger_frontier : int
        Those that went to the cheap tier, and to the frontier one by the challenger.
    dropped : int
        Queries that the challenger was too slow for.
    failed : int
        Queries that it raised an error on.
    """

    both_cheap: int = 0
    both_frontier: int = 0
    only_frontier: int = 0
    only_challenger_frontier: int = 0
    dropped: int = 0
    failed: int = 0

    @property
    def agreed(self) -> int:
        """Queries that got the same tier from both."""
        return self.both_cheap + self.both_frontier

    @property
    def compared(self) -> int:
        """Queries that both decided."""
        return self.agreed + self.only_frontier + self.only_challenger_frontier

    @property
    def frontier(self) -> int:
        """Those that the serving router's artifact sent to the frontier tier."""
        return self.both_frontier + self.only_frontier

    @property
    def challenger_frontier(self) -> int:
        """Those that the challenger would have sent there."""
        return self.both_frontier + self.only_challenger_frontier


PAIRS: dict[tuple[Tier, Tier], str] = {
    ("cheap", "cheap"): "both_cheap",
    ("frontier", "frontier"): "both_frontier",
    ("frontier", "cheap"): "only_frontier",
    ("cheap", "frontier"): "only_challenger_frontier",
}


class Shadow:
    """Shows a challenger the queries of a router, and compares; no decision waits for it.

    What the artifacts make of a query is compared: a draw of exploration is taken back, and
    decisions that no artifact could have changed (`override`, `conversation`, `cap`) are left out.

    A context manager: at its end what is pending is compared, within some seconds. A challenger
    that hangs is left behind; one that raises is counted.

    Parameters
    ----------
    challenger : Decides
    most_pending : int
        Queries beyond this are dropped, and counted.
    compared : callable, optional
        Gets the id of each decision that was compared, and the challenger's decision.
    """

    def __init__(
        self,
        challenger: Decides,
        most_pending: int = 1000,
        compared: Callable[[str, Decision], object] | None = None,
    ) -> None:
        self._challenger = challenger
        self._compared = compared
        self._pending: Queue[_Shown | None] = Queue(most_pending)
        self._lock = Lock()
        self._pair = 0
        self._begin()
        self._thread = Thread(target=self._compare_all, name="querytier-shadow", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, query: Query, decision: Decision, id: str = "") -> None:  # noqa: A002
        """Have the challenger decide a query too, later; never raises, and never waits."""
        tier = _of_the_artifact(decision)
        if tier is None:
            return
        try:
            self._pending.put_nowait(_Shown(query, tier, id, self._pair))
        except Full:
            self._count("dropped", self._pair)

    def begin_anew(self, challenger: Decides | None = None) -> None:
        """Forget what was compared, for another pair; the challenger may be a new one."""
        with self._lock:
            self._challenger = challenger or self._challenger
            self._pair += 1
            self._begin()

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Compare what is pending, and end; a challenger that takes longer is left behind."""
        end = time.monotonic() + timeout_s
        with suppress(Full):
            self._pending.put(None, timeout=timeout_s)
        self._thread.join(max(0.0, end - time.monotonic()))
        if self._thread.is_alive():
            _log.warning("the challenger in the shadow did not end, and is left behind")

    @property
    def agreement(self) -> Agreement:
        """What came of it so far."""
        with self._lock:
            return Agreement(**self._counts)

    @property
    def recent_ms(self) -> list[float]:
        """How long the challenger took for its latest decisions, in milliseconds."""
        with self._lock:
            return list(self._recent)

    def _begin(self) -> None:
        self._counts = dict.fromkeys(Agreement.__slots__, 0)
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def _compare_all(self) -> None:
        while (shown := self._pending.get()) is not None:
            try:
                self._compare(shown)
            except Exception:  # noqa: BLE001 the next query may fare better
                self._count("failed", shown.pair)
                _log.exception("the challenger in the shadow failed")

    def _compare(self, shown: _Shown) -> None:
        other = self._challenger.decide(shown.query)
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


def _of_the_artifact(decision: Decision) -> Tier | None:
    """Return the tier that the artifact itself chose; None where it had no say."""
    if decision.reason == "explore":
        return "cheap" if decision.tier == "frontier" else "frontier"
    had_its_say = decision.reason == "classifier" or decision.reason.startswith("fallback:")
    return decision.tier if had_its_say else None
