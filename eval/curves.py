"""Cost-quality curves: the mean gain as more traffic, best candidates first, goes to frontier."""

from dataclasses import dataclass

import numpy as np

from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.eval.intervals import Estimate, Resampling, Statistic, undefined, weighted_mean
from querytier.eval.metrics import tie_starts

__all__ = ["GainCurve", "RankedExamples", "RoutedMean", "gain_curve", "routed_mean"]


# Rounding error of a sum if the rows are in another order.
_ROUNDING = 1e-12
_WORSE = "the mean frontier score is not above 0: so no share of it can be retained"


@dataclass(frozen=True, eq=False)
class GainCurve:
    """Mean gain over all rows against frontier rate, for b row weights at once.

    If a gain is frontier score - cheap score, this is the cost-quality curve above its cheap end.
    If gains are labels, it is the share of needs_frontier caught.

    Attributes
    ----------
    rates : ndarray of float64, shape (b, k)
        Frontier rates from 0 to 1, non-decreasing.
    gains : ndarray of float64, shape (b, k)
        Mean gain at these rates, from 0 to the gain of always-frontier.
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

    def recovered(self, rates: Floats) -> Floats:
        """Return the share of the gap recovered at one rate per curve; NaN without a gap."""
        return self.at(rates) / self._positive_gap

    def apgr(self) -> Floats:
        """Return the area under PGR over the whole curve, shape (b,); 0.5 for random routing.

        PGR is the performance gap recovered (Ong et al. 2024, RouteLLM). NaN if the gap is not
        above 0.

        Examples
        --------
        >>> curve = gain_curve(np.array([0.9, 0.1]), np.array([1.0, 0.0]), np.ones((1, 2)))
        >>> curve.apgr()
        array([0.75])
        """
        # The trapezoid over every corner, not the published mean of ten grid points: that mean
        # leaves out one end, so random routing does not get 0.5.
        pgr = self.gains / self._positive_gap[:, np.newaxis]
        return np.asarray(np.trapezoid(pgr, self.rates, axis=1))

    def cpt(self, share: float) -> Floats:
        """Return the smallest frontier rate whose PGR reaches `share`, in (0, 1]; shape (b,).

        NaN if the gap is not above 0.

        Examples
        --------
        >>> curve = gain_curve(np.array([0.9, 0.1]), np.array([1.0, 0.0]), np.ones((1, 2)))
        >>> curve.cpt(0.5)
        array([0.25])
        """
        return self.first_rate(share * self._positive_gap)

    def first_rate(self, gains: Floats) -> Floats:
        """Return the smallest frontier rate at which each curve reaches a mean gain; both (b,).

        NaN if it never does, or the gain is NaN.
        """
        reached = self.gains >= gains[:, np.newaxis] - _ROUNDING
        row, after = np.arange(len(gains)), reached.argmax(axis=1)
        before = np.maximum(after - 1, 0)
        rise = self.gains[row, after] - self.gains[row, before]
        missing = gains - self.gains[row, before]
        part = np.clip(missing / np.where(rise > 0, rise, 1.0), 0, 1)
        width = self.rates[row, after] - self.rates[row, before]
        return np.where(reached.any(axis=1), self.rates[row, before] + part * width, np.nan)

    @property
    def _positive_gap(self) -> Floats:
        return np.where(self.gap > 0, self.gap, np.nan)


@dataclass(frozen=True, eq=False)
class RoutedMean:
    """The mean score or cost as a ranking routes, between those of the two tiers alone.

    Attributes
    ----------
    cheap, frontier : ndarray of float64, shape (b,)
        Means of always-cheap and of always-frontier.
    curve : GainCurve
        The curve from `cheap` to `frontier`.
    """

    cheap: Floats
    frontier: Floats
    curve: GainCurve

    def at(self, rates: Floats) -> Floats:
        """Return the mean at one frontier rate for each of the b curves; shape (b,)."""
        return self.cheap + self.curve.at(rates)

    def share(self, rates: Floats, extra: float = 0.0) -> Floats:
        """Return the mean plus `extra`, divided by the mean of always-frontier.

        For scores this is the quality retained, for costs 1 - cost saved. NaN unless the mean of
        always-frontier is above 0.
        """
        return (self.at(rates) + extra) / np.where(self.frontier > 0, self.frontier, np.nan)


@dataclass(frozen=True, eq=False)
class RankedExamples:
    """Examples in the order of a ranking: quality retained and cost saved at a frontier rate.

    Parameters
    ----------
    scores : ndarray of float64, shape (n,)
        Higher goes to the frontier tier first.
    examples : Examples, length n
    resampling : Resampling
        Bootstrap over the groups of the examples; share it between estimates that `difference`
        compares.
    decision_cost : float
        Cost of deciding a query, in the currency of the costs.
    """

    scores: Floats
    examples: Examples
    resampling: Resampling
    decision_cost: float = 0.0

    def quality_retained(self, rates: Statistic) -> Estimate:
        """Estimate the mean score as routed divided by that of always-frontier.

        Parameters
        ----------
        rates : callable
            Returns the frontier rates, shape (b,), for row weights of shape (b, n).
        """
        return self.of_scores(lambda weights: self.quality(weights).share(rates(weights)), _WORSE)

    def cost_saved(self, rates: Statistic) -> Estimate:
        """Estimate 1 - cost as routed, decisions included, divided by that of always-frontier."""

        def statistic(weights: Floats) -> Floats:
            return 1 - self.cost(weights).share(rates(weights), self.decision_cost)

        return self.of_costs(statistic, "always-frontier costs nothing")

    def quality(self, weights: Floats) -> RoutedMean:
        """Return the mean scores as routed; without decisions, which have no score."""
        return self._mean(self.examples.cheap_score, self.examples.frontier_score, weights)

    def cost(self, weights: Floats) -> RoutedMean:
        """Return the mean costs as routed, without the cost of decisions."""
        return self._mean(self.examples.cheap_cost, self.examples.frontier_cost, weights)

    def of_scores(self, statistic: Statistic, reason: str) -> Estimate:
        """Estimate a statistic of the scores, if the log has them."""
        if not self.examples.scored:
            return undefined("the log has no scores of both tiers: the quality is not known")
        return self.resampling.estimate(statistic, reason)

    def of_costs(self, statistic: Statistic, reason: str) -> Estimate:
        """Estimate a statistic of the costs, if the log has them."""
        if not self.examples.priced:
            return undefined("the log has no costs of both tiers")
        return self.resampling.estimate(statistic, reason)

    def _mean(self, cheap: Floats, frontier: Floats, weights: Floats) -> RoutedMean:
        return routed_mean(self.scores, cheap, frontier, weights)


def routed_mean(scores: Floats, cheap: Floats, frontier: Floats, weights: Floats) -> RoutedMean:
    """Return the mean scores or costs of the two tiers as a ranking routes.

    Parameters
    ----------
    scores, cheap, frontier : ndarray of float64, shape (n,)
        The ranking's scores, and each tier's scores or costs.
    weights : ndarray of float64, shape (b, n)

    Examples
    --------
    >>> costs = np.array([1.0, 1.0]), np.array([9.0, 9.0])
    >>> routed_mean(np.array([0.9, 0.1]), *costs, np.ones((1, 2))).at(np.array([0.5]))
    array([5.])
    """
    curve = gain_curve(scores, frontier - cheap, weights)
    return RoutedMean(weighted_mean(cheap, weights), weighted_mean(frontier, weights), curve)


def gain_curve(scores: Floats, gains: Floats, weights: Floats) -> GainCurve:
    """Return the curve of sending rows to the frontier tier by descending score.

    Rows of equal score move together; between their ends the curve is straight, which is what
    random order among them gives on average.

    Parameters
    ----------
    scores : ndarray, shape (n,)
    gains : ndarray, shape (n,)
        What a row gains if it goes to the frontier tier.
    weights : ndarray, shape (b, n)
    """
    order = np.argsort(-scores, kind="stable")
    # Ties are common (a keyword heuristic has few values). If their rows moved one by one, the
    # order of the log would decide how good such a ranking looks.
    starts = tie_starts(scores[order])
    in_order = weights[:, order]
    total = weights.sum(axis=1, keepdims=True)
    counts = np.cumsum(np.add.reduceat(in_order, starts, axis=1), axis=1)
    sums = np.cumsum(np.add.reduceat(in_order * gains[order], starts, axis=1), axis=1)
    start = np.zeros((len(weights), 1))
    return GainCurve(np.hstack([start, counts / total]), np.hstack([start, sums / total]))
