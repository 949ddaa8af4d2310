"""A promise put to the test: so much traffic on the cheap model, so much quality kept.

Every number has its interval of the bootstrap over groups. The classifier itself costs something,
and what it costs is taken off what it saves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.eval.curves import RoutedMean, routed_mean
from querytier.eval.intervals import Estimate, Resampling, Statistic, undefined

__all__ = ["BudgetRow", "Verdict", "budget_row", "budget_table", "verdict"]

Floats = NDArray[np.float64]
Verdict = Literal["kept", "broken", "open"]

_NO_SCORES = "the rows have no scores of both tiers"
_NO_COSTS = "the rows have no costs of both tiers"
_NO_QUALITY = "the mean frontier score is not above 0: there is no quality to keep a share of"
_FREE = "always-frontier costs nothing"
_NO_RANGE = "always-frontier costs no more than always-cheap: there is no range of budgets"


@dataclass(frozen=True, eq=False)
class BudgetRow:
    """What one ranking keeps and saves.

    Attributes
    ----------
    name : str
    cheap_share : float
        Share of the traffic on the cheap model that the next three are measured at.
    quality_retained : Estimate
        Mean score as routed divided by that of always-frontier.
    cost : Estimate
        Mean cost of a query as routed, the decision included, in the currency of the costs.
    cost_saved : Estimate
        1 - cost as routed, decisions included, divided by that of always-frontier.
    cheap_share_at_95, cheap_share_at_99 : Estimate
        Largest share of the traffic on the cheap model that retains so many per cent of the
        frontier's quality; 0 where none does. Found on these very rows.
    aiq : Estimate
        As in `querytier.eval.report.budget`, from always-cheap's cost to
        always-frontier's.
    """

    name: str
    cheap_share: float
    quality_retained: Estimate
    cost: Estimate
    cost_saved: Estimate
    cheap_share_at_95: Estimate
    cheap_share_at_99: Estimate
    aiq: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        numbers = (
            "quality_retained",
            "cost",
            "cost_saved",
            "cheap_share_at_95",
            "cheap_share_at_99",
            "aiq",
        )
        return {
            "name": self.name,
            "cheap_share": self.cheap_share,
            **{name: getattr(self, name).to_dict() for name in numbers},
        }


def budget_table(
    rankings: Sequence[tuple[str, Floats]],
    examples: Examples,
    resampling: Resampling,
    *,
    cheap_share: float = 0.78,
    decision_cost: float = 0.0,
) -> list[BudgetRow]:
    """Return a row for each named array of scores; parameters as `budget_row`."""
    return [
        budget_row(
            name,
            scores,
            examples,
            resampling,
            cheap_share=cheap_share,
            decision_cost=decision_cost,
        )
        for name, scores in rankings
    ]


def budget_row(
    name: str,
    scores: Floats,
    examples: Examples,
    resampling: Resampling,
    *,
    cheap_share: float = 0.78,
    decision_cost: float = 0.0,
) -> BudgetRow:
    """Measure what a ranking keeps and saves.

    Parameters
    ----------
    name : str
    scores : ndarray of float64, shape (n,)
        Higher goes to the frontier tier first.
    examples : Examples, length n
    resampling : Resampling
        Over the groups of these rows; the same one for rows to be compared by `difference`.
    cheap_share : float
        In [0, 1].
    decision_cost : float
        What the classifier costs for each query, in the currency of the costs; 0 or more.

    Raises
    ------
    ValueError
        If the share or the cost is out of range.
    """
    if not 0 <= cheap_share <= 1:
        raise ValueError(f"the cheap share is {cheap_share}; it has to be in [0, 1]")
    if not decision_cost >= 0:
        raise ValueError(f"a decision costs {decision_cost}; it has to be 0 or more")
    routed = _Routed(scores, examples, resampling, decision_cost)
    return BudgetRow(
        name,
        cheap_share,
        quality_retained=routed.quality_retained(cheap_share),
        cost=routed.cost(cheap_share),
        cost_saved=routed.cost_saved(cheap_share),
        cheap_share_at_95=routed.cheap_share_at(0.95),
        cheap_share_at_99=routed.cheap_share_at(0.99),
        aiq=routed.aiq(),
    )


def verdict(estimate: Estimate, promised: float) -> Verdict:
    """Judge a promise of at least `promised`: open where the interval holds both answers.

    Examples
    --------
    >>> verdict(Estimate(0.97, 0.96, 0.98), 0.95), verdict(Estimate(0.9, 0.88, 0.96), 0.95)
    ('kept', 'open')
    """
    if estimate.low is None or estimate.high is None:
        return "open"
    if estimate.low >= promised:
        return "kept"
    return "broken" if estimate.high < promised else "open"


@dataclass(frozen=True, eq=False)
class _Routed:
    """One ranking of the examples."""

    scores: Floats
    examples: Examples
    resampling: Resampling
    decision_cost: float

    def quality_retained(self, cheap_share: float) -> Estimate:
        def statistic(weights: Floats) -> Floats:
            return self._quality(weights).share(_rates(weights, cheap_share))

        return self._of_scores(statistic, _NO_QUALITY)

    def cost_saved(self, cheap_share: float) -> Estimate:
        def statistic(weights: Floats) -> Floats:
            return 1 - self._cost(weights).share(_rates(weights, cheap_share), self.decision_cost)

        return self._of_costs(statistic, _FREE)

    def cheap_share_at(self, retained: float) -> Estimate:
        def statistic(weights: Floats) -> Floats:
            quality = self._quality(weights)
            wanted = retained * quality.frontier - quality.cheap
            return 1 - quality.curve.first_rate(np.where(quality.frontier > 0, wanted, np.nan))

        return self._of_scores(statistic, _NO_QUALITY)

    def cost(self, cheap_share: float) -> Estimate:
        def statistic(weights: Floats) -> Floats:
            return self._cost(weights).at(_rates(weights, cheap_share)) + self.decision_cost

        return self._of_costs(statistic, _NO_COSTS)

    def aiq(self) -> Estimate:
        """Estimate the AIQ of all thresholds, and of either tier alone, which needs no decision."""

        def statistic(weights: Floats) -> Floats:
            quality, cost = self._quality(weights), self._cost(weights)
            points = [
                np.column_stack([one.cheap, one.frontier, one.cheap[:, np.newaxis] + extra])
                for one, extra in (
                    (cost, cost.curve.gains + self.decision_cost),
                    (quality, quality.curve.gains),
                )
            ]
            rows = zip(*points, cost.cheap, cost.frontier, strict=True)
            return np.array([aiq(*row) for row in rows])

        if not self.examples.scored:
            return undefined(_NO_SCORES)
        return self._of_costs(statistic, _NO_RANGE)

    def _quality(self, weights: Floats) -> RoutedMean:
        rows = self.examples
        return routed_mean(self.scores, rows.cheap_score, rows.frontier_score, weights)

    def _cost(self, weights: Floats) -> RoutedMean:
        rows = self.examples
        return routed_mean(self.scores, rows.cheap_cost, rows.frontier_cost, weights)

    def _of_scores(self, statistic: Statistic, reason: str) -> Estimate:
        if not self.examples.scored:
            return undefined(_NO_SCORES)
        return self.resampling.estimate(statistic, reason)

    def _of_costs(self, statistic: Statistic, reason: str) -> Estimate:
        if not self.examples.priced:
            return undefined(_NO_COSTS)
        return self.resampling.estimate(statistic, reason)


def _rates(weights: Floats, cheap_share: float) -> Floats:
    return np.full(len(weights), 1 - cheap_share)


def aiq(costs: Floats, qualities: Floats, lowest: float, highest: float) -> float:
    """Return the area under the non-decreasing convex hull, divided by the range of costs.

    Average improvement in quality (Hu et al. 2024, RouterBench), in units of quality: what a router
    keeps on average over all budgets between the lowest and the highest, where budgets between two
    operating points are met by mixing them.

    Parameters
    ----------
    costs, qualities : ndarray of float64, shape (k,)
        Of the operating points. Those dearer than `highest` are out of reach; those cheaper than
        `lowest` count there.
    lowest, highest : float
        The range of costs.

    Returns
    -------
    float
        NaN where the range is empty, or no point is within reach at `lowest`.

    Examples
    --------
    >>> aiq(np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.0, 0.7]), 1.0, 3.0)
    0.875
    """
    if not highest > lowest:
        return float("nan")
    reachable = costs <= highest
    xs, ys = non_decreasing_hull(np.maximum(costs[reachable], lowest), qualities[reachable])
    if not len(xs) or xs[0] > lowest:
        return float("nan")
    xs, ys = np.append(xs, highest), np.append(ys, ys[-1])
    return float(np.trapezoid(ys, xs) / (highest - lowest))


def non_decreasing_hull(costs: Floats, qualities: Floats) -> tuple[Floats, Floats]:
    """Return the corners of the upper hull up to the highest quality, by ascending cost.

    Parameters
    ----------
    costs, qualities : ndarray of float64, shape (k,)

    Examples
    --------
    >>> xs, ys = non_decreasing_hull(np.array([0.0, 1, 2, 3]), np.array([0.0, 0.25, 2, 1]))
    >>> xs.tolist(), ys.tolist()
    ([0.0, 2.0], [0.0, 2.0])
    """
    order = np.lexsort((-qualities, costs))
    xs, ys = costs[order], qualities[order]
    best = np.maximum.accumulate(ys)
    rising = np.concatenate([np.ones(min(1, len(ys)), dtype=bool), ys[1:] > best[:-1]])
    xs, ys = xs[rising], ys[rising]
    while len(xs) > 2:
        # What lies below the chord of its neighbours is no corner, whichever others go as well.
        left = (ys[1:-1] - ys[:-2]) * (xs[2:] - xs[1:-1])
        right = (ys[2:] - ys[1:-1]) * (xs[1:-1] - xs[:-2])
        corner = np.concatenate([[True], left > right, [True]])
        if corner.all():
            break
        xs, ys = xs[corner], ys[corner]
    return xs, ys
