"""What the service needs of a decision log."""

from typing import Protocol

from querytier.serve.decision import Decision, Query
from querytier.serve.http.metrics import LogCounts

__all__ = ["DecisionSink"]


class DecisionSink(LogCounts, Protocol):
    """What the service needs of a decision log."""

    def append(
        self,
        decision: Decision,
        query: Query,
        *,
        id: str | None = None,  # noqa: A002 the log's own word
        conversation: str | None = None,
        tenant: str | None = None,
    ) -> str:
        """Log a decision; return its id."""

    def append_outcome(
        self,
        id: str,  # noqa: A002 the log's own word
        *,
        outcome: float | None = None,
        feedback: str | None = None,
        cost: float | None = None,
        cheap_score: float | None = None,
        frontier_score: float | None = None,
        cheap_cost: float | None = None,
        frontier_cost: float | None = None,
    ) -> None:
        """Log what came of a decision."""

    def close(self) -> None:
        """Write what waits."""
