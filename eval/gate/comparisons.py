"""Champion and challenger on the same rows: paired differences, and each router as served."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import numpy as np

from querytier.classifier.threshold import goes_to_frontier
from querytier.data.arrays import Floats, Mask
from querytier.data.examples import Examples
from querytier.eval.curves import gain_curve
from querytier.eval.gate.matched_cost import frontier_shares, rates_at_cost
from querytier.eval.intervals import (
    Estimate,
    Resampling,
    difference,
    one_sided,
    undefined,
    weighted_mean,
)
from querytier.eval.metrics import auroc, brier
from querytier.eval.rankings import Ranking
from querytier.eval.slice_masks import slice_masks
from querytier.eval.slices import search_slices

__all__ = ["Comparison", "Contender", "Pair", "as_served"]

_Value = TypeVar("_Value")

_NO_POSITIVE = "no row needs the frontier model"


@dataclass(frozen=True, eq=False)
class Contender:
    """A router on the rows of a gate.

    Attributes
    ----------
    ranking : Ranking
        Ranking of n rows, with probabilities.
    threshold : float
    latencies : ndarray of float64, shape (k,)
        Milliseconds of single decisions; both contenders decide the same queries in the same order.
    """

    ranking: Ranking
    threshold: float
    latencies: Floats

    @property
    def frontier(self) -> Floats:
        """1 for the rows that its own threshold sends to the frontier tier, else 0; shape (n,)."""
        return goes_to_frontier(self.ranking.scores, self.threshold).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Challenger against champion in one respect.

    Attributes
    ----------
    estimate : Estimate
        Challenger minus champion, or their ratio, with the ends of two one-sided 95% intervals.
    detail : str
        Both values in words.
    equal : float
        The estimate if neither is better: 0 for a difference, 1 for a ratio.
    """

    estimate: Estimate
    detail: str
    equal: float = 0.0


@dataclass(frozen=True, eq=False)
class Pair:
    """Champion and challenger, resampled together.

    Parameters
    ----------
    examples : Examples, length n
    champion, challenger : Contender
    resampling : Resampling
        Bootstrap over the groups of the examples.
    fewest_slice_rows : int
        Smaller slices cannot be the worst.
    """

    examples: Examples
    champion: Contender
    challenger: Contender
    resampling: Resampling
    fewest_slice_rows: int

    def quality(self) -> Comparison:
        """Compare quality at the cost of the champion's own threshold.

        At its own threshold a challenger could win by spending more. Quality is the mean score
        as routed, or without scores the share of needs_frontier that goes to the frontier tier.
        Cost is the mean over rows if the log has costs, else the frontier rate.
        """
        what = "mean score" if self.examples.scored else "share of needs_frontier caught"
        cost = "frontier rate" if self._extra_costs is None else "mean cost"
        return _difference(*self._of_both(self._quality), what, f" at the champion's {cost}")

    def calibration(self) -> Comparison:
        """Compare Brier scores."""
        return _difference(*self._of_both(self._brier), "Brier score")

    def auroc(self) -> Comparison:
        """Compare areas under the ROC curve."""
        return _difference(*self._of_both(self._auroc), "AUROC")

    def worst_slice(self) -> Comparison:
        """Compare the mean needs_frontier that each sends cheap in its worst slice.

        Both are compared at the champion's frontier rate. The largest of several means is biased
        upwards, but equally for both.
        """
        champion, challenger = self._of_both(self._worst_slice)
        theirs, ours = self._of_both(self._worst_name)
        where = f" (worst in {ours!r} and {theirs!r}){self._worse_slices()}"
        return _difference(champion, challenger, "needs_frontier sent cheap", where)

    def latency(self) -> Comparison:
        """Compare the medians of single decisions, resampling the queries for both together."""
        champion, challenger = self.champion.latencies, self.challenger.latencies
        if not len(champion):
            return Comparison(undefined("no query was timed"), "no query was timed", equal=1.0)
        # A ratio, so that one margin fits any machine; medians, because single decisions have
        # outliers whenever another process gets the processor.
        shape = (self.resampling.replicates, len(champion))
        draws = np.random.default_rng(self.resampling.seed).integers(len(champion), size=shape)
        ratios = np.median(challenger[draws], axis=1) / np.median(champion[draws], axis=1)
        theirs, ours = float(np.median(champion)), float(np.median(challenger))
        detail = f"median {ours:.2f} ms against {theirs:.2f} ms over {len(champion)} queries"
        estimate = one_sided(Estimate(ours / theirs, None, None, replicates=ratios))
        return Comparison(estimate, detail, equal=1.0)

    def as_served(self) -> str:
        """Return in words what both do at their own thresholds, which no check uses."""
        ours, theirs = self._served(self.challenger), self._served(self.champion)
        return f"at its own threshold the challenger sends {ours}; the champion {theirs}"

    def _served(self, one: Contender) -> str:
        rate = f"{one.frontier.mean():.1%} to the frontier tier"
        if not self.examples.scored:
            return rate
        return f"{rate}, for a mean score of {_routed(self.examples, one, 'score').mean():.4f}"

    def _of_both(self, statistic: Callable[[Ranking], _Value]) -> tuple[_Value, _Value]:
        return statistic(self.champion.ranking), statistic(self.challenger.ranking)

    def _quality(self, ranking: Ranking) -> Estimate:
        examples, scores = self.examples, ranking.scores

        def mean_score(weights: Floats) -> Floats:
            gains = examples.frontier_score - examples.cheap_score
            rates = self._rates(scores, weights)
            always_cheap = weighted_mean(examples.cheap_score, weights)
            return always_cheap + gain_curve(scores, gains, weights).at(rates)

        def caught(weights: Floats) -> Floats:
            curve = gain_curve(scores, examples.needs_frontier, weights)
            return curve.recovered(self._rates(scores, weights))

        return self.resampling.estimate(mean_score if examples.scored else caught, _NO_POSITIVE)

    def _brier(self, ranking: Ranking) -> Estimate:
        probabilities, labels = ranking.probabilities, self.examples.needs_frontier
        if probabilities is None:
            raise ValueError(f"{ranking.name} has no probabilities, which a contender needs")
        return self.resampling.estimate(partial(brier, probabilities, labels), "")

    def _auroc(self, ranking: Ranking) -> Estimate:
        statistic = partial(auroc, ranking.scores, self.examples.needs_frontier)
        return self.resampling.estimate(statistic, "the rows have only one class")

    def _worst_slice(self, ranking: Ranking) -> Estimate:
        return self.resampling.estimate(
            lambda weights: np.asarray(self._slice_losses(ranking, weights).max(axis=1)), ""
        )

    def _worst_name(self, ranking: Ranking) -> str:
        losses = self._slice_losses(ranking, self._unweighted)
        return list(self._masks)[int(losses.argmax())]

    def _worse_slices(self) -> str:
        """Name the slices with a worse challenger, beyond chance and adjusted for all tests."""
        champion, challenger = self._of_both(lambda one: self._losses(one, self._unweighted)[0])
        search = search_slices(self._masks, challenger, champion, self.examples.group)
        worse = [f"{one.name!r} (by {one.difference:.3f})" for one in search.worse()]
        return f"; worse beyond chance in {', '.join(worse)}" if worse else ""

    def _slice_losses(self, ranking: Ranking, weights: Floats) -> Floats:
        """Return the mean loss of each slice, -inf if none of its rows is drawn; shape (b, k)."""
        inside = np.array(list(self._masks.values()), dtype=np.float64).T
        rows = weights @ inside
        losses = (weights * self._losses(ranking, weights)) @ inside
        return np.where(rows > 0, losses / np.where(rows > 0, rows, 1.0), -np.inf)

    def _losses(self, ranking: Ranking, weights: Floats) -> Floats:
        """Return the needs_frontier sent cheap at the champion's frontier rate; shape (b, n)."""
        rates = weighted_mean(self.champion.frontier, weights)
        return self.examples.needs_frontier * (1 - frontier_shares(ranking.scores, rates, weights))

    def _rates(self, scores: Floats, weights: Floats) -> Floats:
        """Return the frontier rates at which a ranking costs as much as the champion; (b,)."""
        # Computed for every replicate, because the champion's cost varies with the rows, too.
        if self._extra_costs is None:
            return weighted_mean(self.champion.frontier, weights)
        spent = weighted_mean(self.champion.frontier * self._extra_costs, weights)
        return rates_at_cost(scores, self._extra_costs, spent, weights)

    @cached_property
    def _extra_costs(self) -> Floats | None:
        """Extra cost of frontier answers; None if unknown, or not above 0 on average."""
        extra = self.examples.frontier_cost - self.examples.cheap_cost
        return extra if self.examples.priced and extra.mean() > 0 else None

    @cached_property
    def _masks(self) -> Mapping[str, Mask]:
        masks = slice_masks(self.examples, self.fewest_slice_rows)
        return masks or {"all rows": np.ones(len(self.examples), dtype=np.bool_)}

    @property
    def _unweighted(self) -> Floats:
        """The weights of the rows themselves; shape (1, n)."""
        return np.ones((1, len(self.examples)))


def as_served(
    examples: Examples, contender: Contender, replicates: int, seed: int
) -> dict[str, Estimate]:
    """Estimate what a router does at its own threshold, with 95% intervals over groups.

    Parameters
    ----------
    examples : Examples, length n
    contender : Contender
    replicates, seed : int
        For the bootstrap.

    Returns
    -------
    dict of str to Estimate
        `frontier_rate`; `quality`, the mean score as routed (without scores, the share of
        needs_frontier that goes to the frontier tier); `cost`, the mean per query, if the log has
        costs; `brier`.
    """
    estimate = Resampling(examples.group.tolist(), replicates, seed).estimate
    frontier, labels = contender.frontier, examples.needs_frontier
    served = {"frontier_rate": estimate(partial(weighted_mean, frontier), "")}
    if examples.scored:
        routed = _routed(examples, contender, "score")
        served["quality"] = estimate(partial(weighted_mean, routed), "")
    else:
        served["quality"] = estimate(lambda w: weighted_mean(frontier, w * labels), _NO_POSITIVE)
    if examples.priced:
        spent = _routed(examples, contender, "cost")
        served["cost"] = estimate(partial(weighted_mean, spent), "")
    if contender.ranking.probabilities is not None:
        served["brier"] = estimate(partial(brier, contender.ranking.probabilities, labels), "")
    return served


def _routed(examples: Examples, contender: Contender, column: str) -> Floats:
    """Return the score, or the cost, of the tier that a router chooses for each row; shape (n,)."""
    cheap, frontier = (getattr(examples, f"{tier}_{column}") for tier in ("cheap", "frontier"))
    return np.asarray(np.where(contender.frontier > 0, frontier, cheap))


def _difference(champion: Estimate, challenger: Estimate, what: str, more: str = "") -> Comparison:
    estimate = one_sided(difference(challenger, champion))
    if estimate.value is None:
        return Comparison(estimate, f"{what} is undefined: {estimate.reason}")
    return Comparison(estimate, f"{what} {challenger.value:.4f} against {champion.value:.4f}{more}")
