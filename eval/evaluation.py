"""Rankings of the same labelled queries, compared with intervals: arrays in, records out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.threshold import goes_to_frontier
from querytier.data.examples import Examples
from querytier.eval.curves import GainCurve, gain_curve
from querytier.eval.intervals import Estimate, Resampling, Statistic, difference, undefined
from querytier.eval.metrics import auroc, average_precision, brier, ece, ece_when_calibrated
from querytier.eval.rankings import Ranking

__all__ = [
    "Evaluation",
    "Row",
    "evaluate_rankings",
]

Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats, Floats], Floats]

_ESTIMATES = ("auroc", "average_precision", "apgr", "cpt50", "cpt80")
_NUMBERS = ("brier", "ece", "frontier_rate", "recall", "quality_retained", "cost_saved")
_NO_SCORES = "the log has no scores of both tiers, so the quality as routed is not known"
_NO_COSTS = "the log has no costs of both tiers"
_NO_GAP = "the 95% interval of the mean frontier score minus cheap score does not lie above 0"
_ONE_CLASS = "the rows hold one class only"
_NO_NEED = "no row needs the frontier model"
_NO_PROBABILITY = "its score is no probability"


@dataclass(frozen=True, eq=False)
class Row:
    """One line of the table; the operating point is the classifier's frontier rate in every line.

    Attributes
    ----------
    name, fitted_on : str
    auroc, average_precision, apgr, cpt50, cpt80, brier, ece, frontier_rate, recall, \
quality_retained, cost_saved : Estimate
        `recall` is the share of needs_frontier that goes to the frontier tier.
    behind_classifier : dict of str to Estimate
        The classifier's AUROC and APGR minus this row's, paired.
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
    """All rows, and what belongs to the classifier alone.

    Attributes
    ----------
    rows : list of Row
        The classifier comes first.
    ece_when_calibrated : float
        95th percentile of the ECE that a perfectly calibrated model with the same probabilities
        shows at this number of rows.
    mean_scores : dict of str to Estimate
        Mean score of always-cheap, of always-frontier, and as the classifier routes; empty without
        scores.
    mean_costs : dict of str to Estimate
        The same of costs, for a query, with what deciding costs where the classifier routes.
    """

    rows: list[Row]
    ece_when_calibrated: float
    mean_scores: dict[str, Estimate]
    mean_costs: dict[str, Estimate]

    def row(self, name: str) -> Row:
        """Return the row of that name."""
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
        As it serves.
    baselines : sequence of Ranking
    threshold : float
        The classifier's; every row is taken at the frontier rate that it gives.
    replicates, seed : int
        Of the bootstrap over groups.
    routing_cost : float
        What deciding costs for each query, in the currency of the costs.
    """
    rows = _Rows(
        examples,
        Resampling(examples.group.tolist(), replicates, seed),
        classifier,
        threshold,
        routing_cost,
    )
    first = rows.row(classifier, None)
    return Evaluation(
        rows=[first, *(rows.row(baseline, first) for baseline in baselines)],
        ece_when_calibrated=ece_when_calibrated(_probabilities_of(classifier), seed),
        mean_scores=rows.mean_scores(),
        mean_costs=rows.mean_costs(),
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
        area = self._estimate(lambda weights: auroc(scores, labels, weights), _ONE_CLASS)
        apgr = self._of_quality(ranking, lambda curve: curve.apgr())
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
            cpt50=self._of_quality(ranking, lambda curve: curve.cpt(0.5)),
            cpt80=self._of_quality(ranking, lambda curve: curve.cpt(0.8)),
            brier=self._calibration(ranking, brier),
            ece=self._calibration(ranking, ece),
            frontier_rate=self._estimate(self._frontier_rates, ""),
            recall=self._recall(ranking),
            quality_retained=self._quality_retained(ranking),
            cost_saved=self._cost_saved(ranking),
            behind_classifier=behind,
        )

    def mean_scores(self) -> dict[str, Estimate]:
        examples = self.examples
        if not examples.scored:
            return {}
        return self._means(examples.cheap_score, examples.frontier_score, 0.0)

    def mean_costs(self) -> dict[str, Estimate]:
        examples = self.examples
        if not examples.priced:
            return {}
        return self._means(examples.cheap_cost, examples.frontier_cost, self.routing_cost)

    def _means(self, cheap: Floats, frontier: Floats, routing: float) -> dict[str, Estimate]:
        goes = goes_to_frontier(self.classifier.scores, self.threshold)
        columns = {
            "always_cheap": cheap,
            "as_routed": np.where(goes, frontier, cheap) + routing,
            "always_frontier": frontier,
        }
        return {name: self._estimate(_mean_of(column), "") for name, column in columns.items()}

    def _estimate(self, statistic: Statistic, reason: str) -> Estimate:
        return self.resampling.estimate(statistic, reason)

    def _frontier_rates(self, weights: Floats) -> Floats:
        chosen = goes_to_frontier(self.classifier.scores, self.threshold)
        return _mean_of(chosen.astype(np.float64))(weights)

    def _of_quality(self, ranking: Ranking, statistic: Callable[[GainCurve], Floats]) -> Estimate:
        """Estimate a statistic of the cost-quality curve, where there is one to recover."""
        examples = self.examples
        if not examples.scored:
            return undefined(_NO_SCORES)
        gain = examples.frontier_score - examples.cheap_score
        gap = self._estimate(_mean_of(gain), "")
        if gap.low is None or gap.low <= 0:
            return undefined(_NO_GAP)
        return self._estimate(
            lambda weights: statistic(gain_curve(ranking.scores, gain, weights)), _NO_GAP
        )

    def _calibration(self, ranking: Ranking, metric: Metric) -> Estimate:
        probabilities, labels = ranking.probabilities, self.examples.needs_frontier
        if probabilities is None:
            return undefined(_NO_PROBABILITY)
        return self._estimate(lambda weights: metric(probabilities, labels, weights), "")

    def _gained(self, ranking: Ranking, gains: Floats, weights: Floats) -> tuple[Floats, GainCurve]:
        """Return what is gained at the classifier's frontier rate, and the curve it lies on."""
        curve = gain_curve(ranking.scores, gains, weights)
        return curve.at(self._frontier_rates(weights)), curve

    def _recall(self, ranking: Ranking) -> Estimate:
        def statistic(weights: Floats) -> Floats:
            caught, curve = self._gained(ranking, self.examples.needs_frontier, weights)
            return caught / np.where(curve.gap > 0, curve.gap, np.nan)

        return self._estimate(statistic, _NO_NEED)

    def _quality_retained(self, ranking: Ranking) -> Estimate:
        examples = self.examples
        if not examples.scored:
            return undefined(_NO_SCORES)
        gain = examples.frontier_score - examples.cheap_score

        def statistic(weights: Floats) -> Floats:
            gained, _ = self._gained(ranking, gain, weights)
            frontier = _mean_of(examples.frontier_score)(weights)
            routed = _mean_of(examples.cheap_score)(weights) + gained
            return routed / np.where(frontier != 0, frontier, np.nan)

        return self._estimate(statistic, "the mean frontier score is 0")

    def _cost_saved(self, ranking: Ranking) -> Estimate:
        examples = self.examples
        if not examples.priced:
            return undefined(_NO_COSTS)
        extra = examples.frontier_cost - examples.cheap_cost

        def statistic(weights: Floats) -> Floats:
            spent, _ = self._gained(ranking, extra, weights)
            frontier = _mean_of(examples.frontier_cost)(weights)
            routed = _mean_of(examples.cheap_cost)(weights) + spent + self.routing_cost
            return 1 - routed / np.where(frontier > 0, frontier, np.nan)

        return self._estimate(statistic, "always-frontier costs nothing")


def _probabilities_of(ranking: Ranking) -> Floats:
    if ranking.probabilities is None:
        raise ValueError(f"{ranking.name} claims no probabilities, and the classifier has to")
    return ranking.probabilities


def _mean_of(values: Floats) -> Statistic:
    return lambda weights: np.asarray(weights @ values / weights.sum(axis=1))
