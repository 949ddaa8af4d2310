"""A challenger that decides in the shadow of the router that serves."""

from dataclasses import dataclass
from queue import Full, Queue
from threading import Lock, Thread
from typing import Any, Self

from querytier.serve.decision import Decision
from querytier.serve.router import Query, Router

__all__ = ["Agreement", "Shadow"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a challenger would have decided the same queries.

    Attributes
    ----------
    compared : int
        Queries that both decided.
    agreed : int
        Those that got the same tier from both.
    frontier, challenger_frontier : int
        Those that went, and would have gone, to the frontier tier; would-be cost follows from the
        prices of the tiers.
    dropped : int
        Queries that the challenger was too slow for.
    """

    compared: int = 0
    agreed: int = 0
    frontier: int = 0
    challenger_frontier: int = 0
    dropped: int = 0


class Shadow:
    """Shows a challenger the queries of a router, and compares; no decision waits for it.

    A context manager: at its end what is pending is compared.

    Parameters
    ----------
    challenger : Router
    most_pending : int
        Queries beyond this are dropped, and counted.
    """

    def __init__(self, challenger: Router, most_pending: int = 1000) -> None:
        self._challenger = challenger
        self._pending: Queue[tuple[Query, Decision] | None] = Queue(most_pending)
        self._lock = Lock()
        self._counts = dict.fromkeys(Agreement.__slots__, 0)
        self._thread = Thread(target=self._compare_all, name="querytier-shadow", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, query: Query, decision: Decision) -> None:
        """Have the challenger decide a query too, later."""
        try:
            self._pending.put_nowait((query, decision))
        except Full:
            self._count(dropped=1)

    def close(self) -> None:
        """Compare what is pending, and end."""
        self._pending.put(None)
        self._thread.join()

    @property
    def agreement(self) -> Agreement:
        """What came of it so far."""
        with self._lock:
            return Agreement(**self._counts)

    def _compare_all(self) -> None:
        while (shown := self._pending.get()) is not None:
            query, decision = shown
            other = self._challenger.decide(query)
            self._count(
                compared=1,
                agreed=other.tier == decision.tier,
                frontier=decision.tier == "frontier",
                challenger_frontier=other.tier == "frontier",
            )

    def _count(self, **more: Any) -> None:
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number
