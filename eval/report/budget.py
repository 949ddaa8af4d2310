"""A test of the published claim about routers: 78% of the traffic cheap, without losing quality.

Articles say that about 78% of the traffic can go to the cheap model, and that this saves 70 to 85%
of the cost. One table tests both on held-out rows, for the classifier, the keyword heuristic, the
classifier's own decisions shuffled, and the oracle, which no router can beat. Every number has an
interval from the bootstrap over groups, and the cost of decisions is subtracted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.eval.curves import RankedExamples
from querytier.eval.intervals import Estimate, Resampling
from querytier.eval.rankings import Ranking

__all__ = [
    "BudgetRow",
    "Verdict",
    "aiq",
    "budget_row",
    "claim_record",
    "non_decreasing_hull",
    "verdict",
]

Verdict = Literal["kept", "broken", "open"]

_CLAIMED_CHEAP_SHARE = 0.78
_CLAIMED_SAVING = 0.7  # the low end of 70 to 85%
# A generous reading of "without losing quality": articles call this share the same quality.
_SAME_QUALITY = 0.95
_ROWS = ("classifier", "keyword_heuristic", "shuffled_decisions", "oracle")


def claim_record(
    examples: Examples,
    rankings: Sequence[Ranking],
    resampling: Resampling,
    decision_cost: float = 0.0,
) -> dict[str, Any] | None:
    """Test the published claim; None unless the rows have scores of both tiers.

    Parameters
    ----------
    examples : Examples, length n
    rankings : sequence of Ranking
        Rankings of these examples; those in the table are selected by name.
    resampling : Resampling
        Bootstrap over the groups of the examples.
    decision_cost : float
        Cost of deciding a query, in the currency of the costs.
    """
    if not examples.scored:
        return None
    by_name = {ranking.name: ranking.scores for ranking in rankings}
    table = [
        budget_row(name, by_name[name], examples, resampling, decision_cost=decision_cost)
        for name in _ROWS
        if name in by_name
    ]
    return {
        "cheap_share": _CLAIMED_CHEAP_SHARE,
        "rows": [
            {
                **row.to_dict(),
                "same_quality": verdict(row.quality_retained, _SAME_QUALITY),
                "saving": verdict(row.cost_saved, _CLAIMED_SAVING) if examples.priced else None,
            }
            for row in table
        ],
    }


@dataclass(frozen=True, eq=False)
class BudgetRow:
    """The quality that one ranking retains, and the cost that it saves.

    Attributes
    ----------
    name : str
    cheap_share : float
        Share of the traffic on the cheap model at which the next three are measured.
    quality_retained : Estimate
        Mean score as routed divided by that of always-frontier.
    cost : Estimate
        Mean cost of a query as routed, the decision included, in the currency of the costs.
    cost_saved : Estimate
        1 - cost as routed, decisions included, divided by that of always-frontier.
    cheap_share_at_95, cheap_share_at_99 : Estimate
        Largest share of the traffic on the cheap model that retains 95% or 99% of the frontier's
        quality; 0 if none does. Chosen on these same rows.
    aiq : Estimate
        As `aiq` returns it, from the cost of always-cheap to that of always-frontier.
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
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value.to_dict() if isinstance(value, Estimate) else value
            for name, value in values.items()
        }


def budget_row(
    name: str,
    scores: Floats,
    examples: Examples,
    resampling: Resampling,
    *,
    cheap_share: float = _CLAIMED_CHEAP_SHARE,
    decision_cost: float = 0.0,
) -> BudgetRow:
    """Measure the quality that a ranking retains, and the cost that it saves.

    Parameters
    ----------
    name : str
    scores : ndarray of float64, shape (n,)
        Higher goes to the frontier tier first.
    examples : Examples, length n
    resampling : Resampling
        Bootstrap over the groups of these rows; share it between rows that `difference` compares.
    cheap_share : float
        In [0, 1].
    decision_cost : float
        Cost of deciding a query, in the currency of the costs; 0 or more.

    Raises
    ------
    ValueError
        If the share or the cost is out of range.
    """
    if not 0 <= cheap_share <= 1:
        raise ValueError(f"the cheap share is {cheap_share}; it must be in [0, 1]")
    if not decision_cost >= 0:
        raise ValueError(f"a decision costs {decision_cost}; it must be 0 or more")
    ranked = RankedExamples(scores, examples, resampling, decision_cost)

    def rates(weights: Floats) -> Floats:
        return np.full(len(weights), 1 - cheap_share)

    return BudgetRow(
        name,
        cheap_share,
        quality_retained=ranked.quality_retained(rates),
        cost=ranked.of_costs(lambda w: ranked.cost(w).at(rates(w)) + decision_cost, ""),
        cost_saved=ranked.cost_saved(rates),
        cheap_share_at_95=_cheap_share_at(ranked, 0.95),
        cheap_share_at_99=_cheap_share_at(ranked, 0.99),
        aiq=_aiq(ranked),
    )


def verdict(estimate: Estimate, claimed: float) -> Verdict:
    """Return whether a claim of at least `claimed` is kept; open if the interval allows both.

    Examples
    --------
    >>> verdict(Estimate(0.97, 0.96, 0.98), 0.95), verdict(Estimate(0.9, 0.88, 0.96), 0.95)
    ('kept', 'open')
    """
    if estimate.low is None or estimate.high is None:
        return "open"
    if estimate.low >= claimed:
        return "kept"
    return "broken" if estimate.high < claimed else "open"


def _cheap_share_at(ranked: RankedExamples, retained: float) -> Estimate:
    def statistic(weights: Floats) -> Floats:
        quality = ranked.quality(weights)
        wanted = retained * quality.frontier - quality.cheap
        return 1 - quality.curve.first_rate(np.where(quality.frontier > 0, wanted, np.nan))

    return ranked.of_scores(statistic, "the mean frontier score is not above 0")


def _aiq(ranked: RankedExamples) -> Estimate:
    """Estimate the AIQ over all thresholds and the two tiers alone, which need no decision."""

    def statistic(weights: Floats) -> Floats:
        quality, cost = ranked.quality(weights), ranked.cost(weights)
        points = [
            np.column_stack([one.cheap, one.frontier, one.cheap[:, np.newaxis] + gains])
            for one, gains in (
                (cost, cost.curve.gains + ranked.decision_cost),
                (quality, quality.curve.gains),
            )
        ]
        rows = zip(*points, cost.cheap, cost.frontier, strict=True)
        return np.array([aiq(*row) for row in rows])

    if not ranked.examples.scored:
        return ranked.of_scores(statistic, "")
    return ranked.of_costs(
        statistic, "always-frontier costs no more than always-cheap: there is no range of budgets"
    )


def aiq(costs: Floats, qualities: Floats, lowest: float, highest: float) -> float:
    """Return the area under the non-decreasing convex hull, divided by the range of costs.

    Average improvement in quality (Hu et al. 2024, RouterBench), in units of quality: the average
    quality of a router over all budgets between the lowest and the highest, if a mix of two
    operating points meets the budgets between them.

    Parameters
    ----------
    costs, qualities : ndarray of float64, shape (k,)
        Costs and qualities of the operating points. Those that cost more than `highest` are left
        out; those that cost less than `lowest` count as costing `lowest`.
    lowest, highest : float
        The range of costs.

    Returns
    -------
    float
        NaN if the range is empty, or no point costs as little as `lowest`.

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
        # A point below the chord of its neighbours is not a corner of the hull, whichever other
        # points are removed, so all of them can be removed at once.
        left = (ys[1:-1] - ys[:-2]) * (xs[2:] - xs[1:-1])
        right = (ys[2:] - ys[1:-1]) * (xs[1:-1] - xs[:-2])
        corner = np.concatenate([[True], left > right, [True]])
        if corner.all():
            break
        xs, ys = xs[corner], ys[corner]
    return xs, ys
