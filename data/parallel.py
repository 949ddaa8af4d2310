"""Threads: how many this process may use, and one loop that uses them all."""

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["map_threads", "processors"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def processors() -> int:
    """Return the number of processors that this process may run on.

    In a container that is pinned to 2 of 64 cores this is 2, although `os.cpu_count()` returns 64:
    64 threads would only take turns, each with its own memory.
    """
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_threads(
    function: Callable[[Item], Answer], items: Sequence[Item], label: str | None = None
) -> list[Answer]:
    """Apply a function to items on all processors; return the answers in order.

    Threads are enough: ONNX Runtime and the tokenizers release Python's lock while they compute.

    Parameters
    ----------
    function : callable
        Safe to call from several threads at once.
    items : sequence
    label : str, optional
        Name of a progress bar; by default none is shown.

    Examples
    --------
    >>> map_threads(len, ["a", "bc"])
    [1, 2]
    """
    from tqdm import tqdm

    with ThreadPoolExecutor(processors()) as threads:
        answers = threads.map(function, items)
        total, hidden = len(items), label is None
        return list(tqdm(answers, total=total, desc=label, unit="query", disable=hidden))
