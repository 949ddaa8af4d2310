"""How far decision scores have moved from those of the first window of traffic."""

from threading import Lock

import numpy as np
from numpy.typing import NDArray

__all__ = ["ScoreDrift"]

_BINS = 10


class ScoreDrift:
    """Compares windows of decision scores with the first one; threads may share it.

    The population stability index sums (p - q) ln(p / q) over the first window's deciles, half a
    score added to each. Without drift it is about 18 / window; from 0.2 on, look at the traffic.

    Parameters
    ----------
    window : int
        Scores of one window.

    Examples
    --------
    >>> drift = ScoreDrift(window=100)
    >>> for score in range(100): drift.add(score / 100)
    >>> drift.index is None
    True
    >>> for score in range(100): drift.add(0.5 + score / 200)
    >>> round(drift.index, 1)
    1.8
    """

    def __init__(self, window: int = 1000) -> None:
        self._window = window
        self._lock = Lock()
        self._scores: list[float] = []
        self._edges: NDArray[np.float64] | None = None
        self._first = np.empty(0)
        self.index: float | None = None
        self.mean: float | None = None

    def add(self, score: float) -> None:
        """Take note of one decision score."""
        with self._lock:
            self._scores.append(score)
            if len(self._scores) == self._window:
                self._close(np.array(self._scores))
                self._scores.clear()

    def _close(self, scores: NDArray[np.float64]) -> None:
        self.mean = float(scores.mean())
        if self._edges is None:
            inner = np.linspace(0, 1, _BINS + 1)[1:-1]
            self._edges = np.unique(np.quantile(scores, inner))
            self._first = self._shares(scores, self._edges)
            return
        now = self._shares(scores, self._edges)
        self.index = float(np.sum((now - self._first) * np.log(now / self._first)))

    def _shares(
        self, scores: NDArray[np.float64], edges: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        places = np.searchsorted(edges, scores, side="right")
        counts = np.bincount(places, minlength=len(edges) + 1) + 0.5
        return np.asarray(counts / counts.sum())
