"""What reads many log files: this process, or many."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Engine", "LocalEngine"]

Item = TypeVar("Item")


class Engine(Protocol):
    """Runs work."""

    def batches(
        self, work: Callable[[Item], Iterator["pa.RecordBatch"]], items: Sequence[Item]
    ) -> Iterator["pa.RecordBatch"]:
        """Yield what `work` yields for each item, in order."""


@dataclass(frozen=True)
class LocalEngine:
    """Runs work in this process."""

    def batches(
        self, work: Callable[[Item], Iterator["pa.RecordBatch"]], items: Sequence[Item]
    ) -> Iterator["pa.RecordBatch"]:
        """Yield what `work` yields for each item, in order."""
        for item in items:
            yield from work(item)


def engine_named(name: str, address: str | None) -> Engine:
    """Return the engine of a name."""
    return LocalEngine()
