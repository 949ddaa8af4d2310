"""Rankings of the same labelled queries, compared with intervals: arrays in, records out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.threshold import goes_to_frontier
from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.eval.curves import GainCurve, RankedExamples, gain_curve
from querytier.eval.intervals import (
    Estimate,
    Resampling,
    Statistic,
    difference,
    undefined,
    weighted_mean,
)
from querytier.eval.metrics import auroc, average_precision, brier, ece, ece_when_calibrated
from querytier.eval.rankings import Ranking

__all__ = ["Evaluation", "Row", "evaluate_rankings"]

Metric = Callable[[Floats, Floats, Floats], Floats]

_ESTIMATES = ("auroc", "average_precision", "apgr", "cpt50", "cpt80")
_NUMBERS = ("brier", "ece", "frontier_rate", "recall", "quality_retained", "cost_saved")
_NO_GAP = "the 95% interval of the mean frontier score minus cheap score is not above 0"
_ONE_CLASS = "all rows have the same class"
_NO_NEED = "no row needs the frontier model"
_NO_PROBABILITY = "its score is not a probability"


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the table; the operating point is the classifier's frontier rate in every row.

    Attributes
    ----------
    name, fitted_on : str
    auroc, average_precision, apgr, cpt50, cpt80, brier, ece, frontier_rate, recall, \
quality_retained, cost_saved : Estimate
        `recall` is the share of needs_frontier that goes to the frontier tier.
    behind_classifier : dict of str to Estimate
        AUROC and APGR of the classifier minus those of this row, paired.
    """

    name: str
    fitted_on: str
    auroc: Estimate
    average_precision: Estimate
    apgr: Estimate
    cpt50: Estimate
    cpt80: Estimate
    brier: Estimate
    ece: Estimate
    frontier_rate: Estimate
    recall: Estimate
    quality_retained: Estimate
    cost_saved: Estimate
    behind_classifier: dict[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Return the row for `metrics.json`."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return {
            "name": self.name,
            "fitted_on": self.fitted_on,
            **{name: getattr(self, name).to_dict() for name in _ESTIMATES},
            **{name: estimate.value for name, estimate in numbers.items()},
            "intervals": {
                name: {"low": estimate.low, "high": estimate.high}
                for name, estimate in numbers.items()
            },
            "reasons": {
                name: estimate.reason
                for name, estimate in numbers.items()
                if estimate.reason is not None
            },
            "behind_classifier": {
                name: estimate.to_dict() for name, estimate in self.behind_classifier.items()
            },
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All rows, and the numbers that belong to the classifier alone.

    Attributes
    ----------
    rows : list of Row
        The classifier comes first.
    ece_when_calibrated : float
        95th percentile of the ECE of a perfectly calibrated model with the same probabilities, at
        this number of rows.
    mean_scores : dict of str to Estimate
        Mean score of always-cheap, of always-frontier, and as the classifier routes; empty without
        scores.
    mean_costs : dict of str to Estimate
        The same for the cost of a query; as routed, it includes the cost of the decision.
    """

    rows: list[Row]
    ece_when_calibrated: float
    mean_scores: dict[str, Estimate]
    mean_costs: dict[str, Estimate]

    def row(self, name: str) -> Row:
        """Return the row with a name."""
        return next(row for row in self.rows if row.name == name)


def evaluate_rankings(
    examples: Examples,
    classifier: Ranking,
    baselines: Sequence[Ranking],
    *,
    threshold: float,
    replicates: int,
    seed: int,
    routing_cost: float = 0.0,
) -> Evaluation:
    """Compare rankings of the same examples.

    Parameters
    ----------
    examples : Examples, length n
    classifier : Ranking
        The ranking of the served classifier.
    baselines : sequence of Ranking
    threshold : float
        The classifier's threshold; every ranking is measured at the resulting frontier rate.
    replicates, seed : int
        For the bootstrap over groups.
    routing_cost : float
        Cost of each decision, in the currency of the costs.
    """
    resampling = Resampling(examples.group.tolist(), replicates, seed)
    rows = _Rows(examples, resampling, classifier, threshold, routing_cost)
    first = rows.row(classifier, None)
    return Evaluation(
        rows=[first, *(rows.row(baseline, first) for baseline in baselines)],
        ece_when_calibrated=ece_when_calibrated(_probabilities_of(classifier), seed),
        mean_scores=rows.means(examples.cheap_score, examples.frontier_score, 0.0),
        mean_costs=rows.means(examples.cheap_cost, examples.frontier_cost, routing_cost),
    )


@dataclass(frozen=True, eq=False)
class _Rows:
    examples: Examples
    resampling: Resampling
    classifier: Ranking
    threshold: float
    routing_cost: float

    def row(self, ranking: Ranking, classifier_row: Row | None) -> Row:
        labels, scores = self.examples.needs_frontier, ranking.scores
        ranked = RankedExamples(scores, self.examples, self.resampling, self.routing_cost)
        area = self._estimate(lambda weights: auroc(scores, labels, weights), _ONE_CLASS)
        apgr = self._of_curve(ranked, GainCurve.apgr)
        # Paired: all rankings share the draws of one resampling. Otherwise the interval of a lead
        # would be about as wide as both intervals together.
        behind = {}
        if classifier_row is not None:
            behind["auroc"] = difference(classifier_row.auroc, area)
            behind["apgr"] = difference(classifier_row.apgr, apgr)
        return Row(
            name=ranking.name,
            fitted_on=ranking.fitted_on,
            auroc=area,
            average_precision=self._estimate(
                lambda weights: average_precision(scores, labels, weights), _NO_NEED
            ),
            apgr=apgr,
            cpt50=self._of_curve(ranked, lambda curve: curve.cpt(0.5)),
            cpt80=self._of_curve(ranked, lambda curve: curve.cpt(0.8)),
            brier=self._calibration(ranking, brier),
            ece=self._calibration(ranking, ece),
            frontier_rate=self._estimate(self._rates, ""),
            recall=self._recall(ranking),
            quality_retained=ranked.quality_retained(self._rates),
            cost_saved=ranked.cost_saved(self._rates),
            behind_classifier=behind,
        )

    def means(self, cheap: Floats, frontier: Floats, routing: float) -> dict[str, Estimate]:
        """Estimate the means of either tier and as routed; none if a row has no value."""
        if not np.isfinite(cheap + frontier).all():
            return {}
        columns = {
            "always_cheap": cheap,
            "as_routed": np.where(self._chosen, frontier, cheap) + routing,
            "always_frontier": frontier,
        }
        return {
            name: self._estimate(partial(weighted_mean, column), "")
            for name, column in columns.items()
        }

    def _estimate(self, statistic: Statistic, reason: str) -> Estimate:
        return self.resampling.estimate(statistic, reason)

    @property
    def _chosen(self) -> NDArray[np.bool_]:
        return goes_to_frontier(self.classifier.scores, self.threshold)

    def _rates(self, weights: Floats) -> Floats:
        """Return the classifier's frontier rate in each replicate, instead of that of all rows.

        Every ranking is read off its curve at this rate. Otherwise a row would be compared with a
        classifier that spends more or less.
        """
        return weighted_mean(self._chosen.astype(np.float64), weights)

    def _of_curve(
        self, ranked: RankedExamples, statistic: Callable[[GainCurve], Floats]
    ) -> Estimate:
        """Estimate a statistic of the cost-quality curve, if there is a gap to recover."""
        gain = self.examples.frontier_score - self.examples.cheap_score
        gap = ranked.of_scores(partial(weighted_mean, gain), "")
        if gap.value is None:
            return gap
        # PGR divides by the gap. If its interval reaches 0, some replicates divide by almost 0, and
        # the interval of APGR shows these replicates rather than the ranking.
        if gap.low is None or gap.low <= 0:
            return undefined(_NO_GAP)
        return self._estimate(lambda weights: statistic(ranked.quality(weights).curve), _NO_GAP)

    def _calibration(self, ranking: Ranking, metric: Metric) -> Estimate:
        probabilities, labels = ranking.probabilities, self.examples.needs_frontier
        if probabilities is None:
            return undefined(_NO_PROBABILITY)
        return self._estimate(lambda weights: metric(probabilities, labels, weights), "")

    def _recall(self, ranking: Ranking) -> Estimate:
        def statistic(weights: Floats) -> Floats:
            curve = gain_curve(ranking.scores, self.examples.needs_frontier, weights)
            return curve.recovered(self._rates(weights))

        return self._estimate(statistic, _NO_NEED)


def _probabilities_of(ranking: Ranking) -> Floats:
    if ranking.probabilities is None:
        raise ValueError(f"{ranking.name} has no probabilities; the classifier needs them")
    return ranking.probabilities
