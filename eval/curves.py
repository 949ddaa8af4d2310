"""What is gained while more and more traffic, best candidates first, goes to the frontier tier."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.eval.metrics import tie_starts

__all__ = ["GainCurve", "gain_curve"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GainCurve:
    """Mean gain over all rows against frontier rate, for b row weights at once.

    With gains frontier score - cheap score this is the cost-quality curve above its cheap end; with
    labels as gains it tells what share of them is caught.

    Attributes
    ----------
    rates : ndarray of float64, shape (b, k)
        Frontier rates from 0 to 1, not decreasing.
    gains : ndarray of float64, shape (b, k)
        Mean gain at these rates; from 0 to the gain of always-frontier.
    """

    rates: Floats
    gains: Floats

    @property
    def gap(self) -> Floats:
        """Mean gain of always-frontier, shape (b,)."""
        return self.gains[:, -1]

    def at(self, rates: Floats) -> Floats:
        """Return the mean gain at one frontier rate for each of the b curves; shape (b,)."""
        return self.on(rates[:, np.newaxis])[:, 0]

    def on(self, rates: Floats) -> Floats:
        """Return the mean gains at k frontier rates for each of the b curves; both (b, k)."""
        rows = zip(rates, self.rates, self.gains, strict=True)
        return np.array([np.interp(grid, xs, ys) for grid, xs, ys in rows])

    def apgr(self) -> Floats:
        """Return the area under PGR over the whole curve, shape (b,); 0.5 for random routing.

        PGR is the performance gap recovered (Ong et al. 2024, RouteLLM). NaN where the gap is not
        above 0.

        Examples
        --------
        >>> curve = gain_curve(np.array([0.9, 0.1]), np.array([1.0, 0.0]), np.ones((1, 2)))
        >>> curve.apgr()
        array([0.75])
        """
        return np.asarray(np.trapezoid(self._pgr(), self.rates, axis=1))

    def cpt(self, share: float) -> Floats:
        """Return the smallest frontier rate whose PGR reaches `share`, in (0, 1]; shape (b,).

        NaN where the gap is not above 0.

        Examples
        --------
        >>> curve = gain_curve(np.array([0.9, 0.1]), np.array([1.0, 0.0]), np.ones((1, 2)))
        >>> curve.cpt(0.5)
        array([0.25])
        """
        pgr = self._pgr()
        reached = pgr >= share - 1e-12
        after = np.maximum(reached.argmax(axis=1), 1)
        row = np.arange(len(pgr))
        rise = pgr[row, after] - pgr[row, after - 1]
        part = (share - pgr[row, after - 1]) / np.where(rise > 0, rise, 1.0)
        width = self.rates[row, after] - self.rates[row, after - 1]
        rates = self.rates[row, after - 1] + np.clip(part, 0, 1) * width
        return np.where(reached.any(axis=1), rates, np.nan)

    def _pgr(self) -> Floats:
        gap = np.where(self.gap > 0, self.gap, np.nan)
        return self.gains / gap[:, np.newaxis]


def gain_curve(scores: Floats, gains: Floats, weights: Floats) -> GainCurve:
    """Return the curve of sending rows to the frontier tier by descending score.

    Rows of equal score move together; between their ends the curve is straight, which is what
    random order among them gives on average.

    Parameters
    ----------
    scores : ndarray, shape (n,)
    gains : ndarray, shape (n,)
        What a row gains when it goes to the frontier tier.
    weights : ndarray, shape (b, n)
    """
    order = np.argsort(-scores, kind="stable")
    starts = tie_starts(scores[order])
    in_order = weights[:, order]
    total = weights.sum(axis=1, keepdims=True)
    counts = np.cumsum(np.add.reduceat(in_order, starts, axis=1), axis=1)
    sums = np.cumsum(np.add.reduceat(in_order * gains[order], starts, axis=1), axis=1)
    start = np.zeros((len(weights), 1))
    return GainCurve(np.hstack([start, counts / total]), np.hstack([start, sums / total]))
