"""Conversations that went to the frontier tier, and stay there."""

from collections import OrderedDict
from threading import Lock

__all__ = ["Conversations"]


class Conversations:
    """Remembers names; threads may share it.

    Parameters
    ----------
    most : int
        The longest unseen are forgotten beyond this.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()
        self._names: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        with self._lock:
            known = name in self._names
            if known:
                self._names.move_to_end(name)
            return known

    def add(self, name: str) -> None:
        """Remember a name."""
        with self._lock:
            self._names[name] = None
            self._names.move_to_end(name)
            while len(self._names) > self._most:
                self._names.popitem(last=False)
