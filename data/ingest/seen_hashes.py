"""Which of many hashes came before, at eight bytes each; a set of them would take a hundred."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["SeenHashes"]

Hashes = NDArray[np.uint64]


class SeenHashes:
    """Hashes seen so far.

    Examples
    --------
    >>> seen = SeenHashes()
    >>> seen.first_of(np.array([5, 3, 5], np.uint64)).tolist()
    [True, True, False]
    >>> seen.first_of(np.array([3, 4], np.uint64)).tolist()
    [False, True]
    """

    def __init__(self) -> None:
        self._seen = np.empty(0, np.uint64)

    def first_of(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Tell for each hash, shape (n,), whether none before it was the same; remember all."""
        distinct, first = np.unique(hashes, return_index=True)
        places = np.searchsorted(self._seen, distinct)
        known = np.zeros(len(distinct), dtype=bool)
        inside = places < len(self._seen)
        known[inside] = self._seen[places[inside]] == distinct[inside]
        self._seen = np.insert(self._seen, places[~known], distinct[~known])
        new = np.zeros(len(hashes), dtype=bool)
        new[first[~known]] = True
        return new
