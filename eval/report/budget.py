"""A promise put to the test: so much traffic on the cheap model, so much quality kept.

Every number has its interval of the bootstrap over groups. The classifier itself costs something,
and what it costs is taken off what it saves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from querytier.eval.curves import GainCurve, gain_curve
from querytier.eval.intervals import Estimate, Resampling, Statistic, undefined
from querytier.eval.prices import Answers
from querytier.eval.report.cost_quality_hull import aiq

__all__ = ["BudgetRow", "Verdict", "budget_row", "budget_table", "verdict"]

Floats = NDArray[np.float64]
Verdict = Literal["kept", "broken", "open"]

_ALMOST = 1e-12
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
        As in `querytier.eval.report.cost_quality_hull`, from always-cheap's cost to
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
    answers: Answers,
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
            answers,
            resampling,
            cheap_share=cheap_share,
            decision_cost=decision_cost,
        )
        for name, scores in rankings
    ]


def budget_row(
    name: str,
    scores: Floats,
    answers: Answers,
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
    answers : Answers
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
    routed = _Routed(scores, answers, resampling, decision_cost)
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
    """One ranking of the answers."""

    scores: Floats
    answers: Answers
    resampling: Resampling
    decision_cost: float

    def quality_retained(self, cheap_share: float) -> Estimate:
        def statistic(weights: Floats) -> Floats:
            cheap, frontier, curve = self._quality(weights)
            return _over(cheap + curve.at(_rates(weights, cheap_share)), frontier)

        return self._of_scores(statistic, _NO_QUALITY)

    def cost_saved(self, cheap_share: float) -> Estimate:
        def statistic(weights: Floats) -> Floats:
            cheap, frontier, curve = self._cost(weights)
            spent = cheap + curve.at(_rates(weights, cheap_share)) + self.decision_cost
            return 1 - _over(spent, frontier)

        return self._of_costs(statistic, _FREE)

    def cheap_share_at(self, retained: float) -> Estimate:
        def statistic(weights: Floats) -> Floats:
            cheap, frontier, curve = self._quality(weights)
            wanted = np.where(frontier > 0, retained * frontier - cheap, np.nan)
            return 1 - _first_rate(curve, wanted)

        return self._of_scores(statistic, _NO_QUALITY)

    def cost(self, cheap_share: float) -> Estimate:
        def statistic(weights: Floats) -> Floats:
            cheap, _, curve = self._cost(weights)
            return cheap + curve.at(_rates(weights, cheap_share)) + self.decision_cost

        return self._of_costs(statistic, _NO_COSTS)

    def aiq(self) -> Estimate:
        """Estimate the AIQ of all thresholds, and of either tier alone, which needs no decision."""

        def statistic(weights: Floats) -> Floats:
            cheap, frontier, curve = self._quality(weights)
            qualities = np.column_stack([cheap, frontier, cheap[:, np.newaxis] + curve.gains])
            lowest, highest, extra = self._cost(weights)
            routed = lowest[:, np.newaxis] + extra.gains + self.decision_cost
            costs = np.column_stack([lowest, highest, routed])
            rows = zip(costs, qualities, lowest, highest, strict=True)
            return np.array([aiq(xs, ys, low, high) for xs, ys, low, high in rows])

        if not self.answers.scored:
            return undefined(_NO_SCORES)
        return self._of_costs(statistic, _NO_RANGE)

    def _quality(self, weights: Floats) -> tuple[Floats, Floats, GainCurve]:
        return self._ends(self.answers.cheap_score, self.answers.frontier_score, weights)

    def _cost(self, weights: Floats) -> tuple[Floats, Floats, GainCurve]:
        return self._ends(self.answers.cheap_cost, self.answers.frontier_cost, weights)

    def _ends(
        self, cheap: Floats, frontier: Floats, weights: Floats
    ) -> tuple[Floats, Floats, GainCurve]:
        """Return the means of either tier alone, and the curve from one to the other."""
        total = weights.sum(axis=1)
        curve = gain_curve(self.scores, frontier - cheap, weights)
        return weights @ cheap / total, weights @ frontier / total, curve

    def _of_scores(self, statistic: Statistic, reason: str) -> Estimate:
        return self._estimate(statistic, reason) if self.answers.scored else undefined(_NO_SCORES)

    def _of_costs(self, statistic: Statistic, reason: str) -> Estimate:
        return self._estimate(statistic, reason) if self.answers.priced else undefined(_NO_COSTS)

    def _estimate(self, statistic: Callable[[Floats], Floats], reason: str) -> Estimate:
        return self.resampling.estimate(statistic, reason)


def _rates(weights: Floats, cheap_share: float) -> Floats:
    return np.full(len(weights), 1 - cheap_share)


def _over(values: Floats, wholes: Floats) -> Floats:
    return np.asarray(values / np.where(wholes > 0, wholes, np.nan))


def _first_rate(curve: GainCurve, wanted: Floats) -> Floats:
    """Return the smallest frontier rate at which the mean gain reaches what is wanted; NaN never.

    Always-frontier retains all of its quality, so some rate does.
    """
    reached = curve.gains >= wanted[:, np.newaxis] - _ALMOST
    row, after = np.arange(len(wanted)), reached.argmax(axis=1)
    before = np.maximum(after - 1, 0)
    rise = curve.gains[row, after] - curve.gains[row, before]
    missing = wanted - curve.gains[row, before]
    part = np.clip(missing / np.where(rise > 0, rise, 1.0), 0, 1)
    rates = curve.rates[row, before] + part * (curve.rates[row, after] - curve.rates[row, before])
    return np.where(reached.any(axis=1), rates, np.nan)
