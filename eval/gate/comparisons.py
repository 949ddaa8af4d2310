"""Champion and challenger on the same rows: how far apart they are, with paired intervals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.threshold import goes_to_frontier
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

__all__ = ["Comparison", "Contender", "Pair"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
_Found = TypeVar("_Found")


@dataclass(frozen=True, eq=False)
class Contender:
    """What a router makes of the rows of a gate.

    Attributes
    ----------
    ranking : Ranking
        With probabilities; of n rows.
    threshold : float
    latencies : ndarray of float64, shape (k,)
        Milliseconds of single decisions; of the same queries, in the same order, for both.
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
    found : Estimate
        The difference challenger - champion, or the ratio of the two, between the ends of its two
        one-sided 95% intervals.
    words : str
        Both values, and what they are of.
    equal : float
        Where neither is better: 0 of a difference, 1 of a ratio.
    """

    found: Estimate
    words: str
    equal: float = 0.0


@dataclass(frozen=True, eq=False)
class Pair:
    """Champion and challenger, drawn again together in every replicate.

    Parameters
    ----------
    examples : Examples, length n
    champion, challenger : Contender
    resampling : Resampling
        Over the groups of the examples.
    fewest_slice_rows : int
        Smaller slices cannot be the worst.
    """

    examples: Examples
    champion: Contender
    challenger: Contender
    resampling: Resampling
    fewest_slice_rows: int

    def quality(self) -> Comparison:
        """Compare what is gained at the cost to which the champion's own threshold leads.

        Gained is the mean score as routed, without scores the share of needs_frontier that is
        caught; the cost is the mean over rows where the log has costs, else the frontier rate.
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
        """Compare what the worst slice of each sends cheap that needs the frontier tier.

        Both at the champion's frontier rate, in the largest of the slices' means. That maximum is
        biased upwards, for both alike.
        """
        champion, challenger = self._of_both(self._worst_slice)
        theirs, ours = self._of_both(self._worst_name)
        where = f" (worst in {ours!r} and {theirs!r}){self._worse_slices()}"
        return _difference(champion, challenger, "needs_frontier sent cheap", where)

    def latency(self) -> Comparison:
        """Compare the medians of single decisions, queries drawn again together."""
        champion, challenger = self.champion.latencies, self.challenger.latencies
        if not len(champion):
            return Comparison(undefined("no query was timed"), "no query was timed", equal=1.0)
        shape = (self.resampling.replicates, len(champion))
        draws = np.random.default_rng(self.resampling.seed).integers(len(champion), size=shape)
        ratios = np.median(challenger[draws], axis=1) / np.median(champion[draws], axis=1)
        theirs, ours = float(np.median(champion)), float(np.median(challenger))
        words = f"median {ours:.2f} ms against {theirs:.2f} ms over {len(champion)} queries"
        found = one_sided(Estimate(ours / theirs, None, None, replicates=ratios))
        return Comparison(found, words, equal=1.0)

    def as_served(self) -> str:
        """Say what both do at their own thresholds, which the comparisons leave aside."""
        ours, theirs = self._served(self.challenger), self._served(self.champion)
        return f"at its own threshold the challenger sends {ours}; the champion {theirs}"

    def _served(self, one: Contender) -> str:
        frontier, examples = one.frontier, self.examples
        rate = f"{frontier.mean():.1%} to the frontier tier"
        if not examples.scored:
            return rate
        routed = np.where(frontier > 0, examples.frontier_score, examples.cheap_score)
        return f"{rate}, for a mean score of {routed.mean():.4f}"

    def _of_both(self, statistic: Callable[[Ranking], _Found]) -> tuple[_Found, _Found]:
        return statistic(self.champion.ranking), statistic(self.challenger.ranking)

    def _quality(self, ranking: Ranking) -> Estimate:
        examples, scores = self.examples, ranking.scores

        def mean_score(weights: Floats) -> Floats:
            gains = examples.frontier_score - examples.cheap_score
            curve = gain_curve(scores, gains, weights)
            return weighted_mean(examples.cheap_score, weights) + curve.at(
                self._rates(scores, weights)
            )

        def caught(weights: Floats) -> Floats:
            curve = gain_curve(scores, examples.needs_frontier, weights)
            return curve.recovered(self._rates(scores, weights))

        statistic = mean_score if examples.scored else caught
        return self.resampling.estimate(statistic, "no row needs the frontier model")

    def _brier(self, ranking: Ranking) -> Estimate:
        probabilities, labels = ranking.probabilities, self.examples.needs_frontier
        if probabilities is None:
            raise ValueError(f"{ranking.name} claims no probabilities, and a contender has to")
        return self.resampling.estimate(lambda weights: brier(probabilities, labels, weights), "")

    def _auroc(self, ranking: Ranking) -> Estimate:
        labels = self.examples.needs_frontier
        return self.resampling.estimate(
            lambda weights: auroc(ranking.scores, labels, weights), "the rows hold one class only"
        )

    def _worst_slice(self, ranking: Ranking) -> Estimate:
        return self.resampling.estimate(
            lambda weights: np.asarray(self._slice_losses(ranking, weights).max(axis=1)), ""
        )

    def _worst_name(self, ranking: Ranking) -> str:
        losses = self._slice_losses(ranking, self._undrawn)
        return list(self._masks)[int(losses.argmax())]

    def _worse_slices(self) -> str:
        """Name the slices in which the challenger is worse beyond chance, all tests counted."""
        champion, challenger = self._of_both(lambda one: self._losses(one, self._undrawn)[0])
        search = search_slices(self._masks, challenger, champion, self.examples.group)
        worse = [f"{one.name!r} (by {one.difference:.3f})" for one in search.worse()]
        return f"; worse beyond chance in {', '.join(worse)}" if worse else ""

    def _slice_losses(self, ranking: Ranking, weights: Floats) -> Floats:
        """Return the mean loss of each slice, -inf where none of it was drawn; shape (b, k)."""
        inside = np.array(list(self._masks.values()), dtype=np.float64).T
        rows = weights @ inside
        losses = (weights * self._losses(ranking, weights)) @ inside
        return np.where(rows > 0, losses / np.where(rows > 0, rows, 1.0), -np.inf)

    def _losses(self, ranking: Ranking, weights: Floats) -> Floats:
        """Return needs_frontier where it goes cheap at the champion's frontier rate; (b, n)."""
        rates = weighted_mean(self.champion.frontier, weights)
        return self.examples.needs_frontier * (1 - frontier_shares(ranking.scores, rates, weights))

    def _rates(self, scores: Floats, weights: Floats) -> Floats:
        """Return the frontier rates at which a ranking costs what the champion does."""
        if self._extra_costs is None:
            return weighted_mean(self.champion.frontier, weights)
        spent = weighted_mean(self.champion.frontier * self._extra_costs, weights)
        return rates_at_cost(scores, self._extra_costs, spent, weights)

    @cached_property
    def _extra_costs(self) -> Floats | None:
        """What frontier answers cost more; None where that is not known, or nothing on average."""
        extra = self.examples.frontier_cost - self.examples.cheap_cost
        return extra if self.examples.priced and extra.mean() > 0 else None

    @cached_property
    def _masks(self) -> Mapping[str, Mask]:
        masks = slice_masks(self.examples, self.fewest_slice_rows)
        return masks or {"all rows": np.ones(len(self.examples), dtype=np.bool_)}

    @property
    def _undrawn(self) -> Floats:
        """The weights of the rows themselves; shape (1, n)."""
        return np.ones((1, len(self.examples)))


def _difference(champion: Estimate, challenger: Estimate, what: str, more: str = "") -> Comparison:
    found = one_sided(difference(challenger, champion))
    if found.value is None:
        return Comparison(found, f"{what} is not defined: {found.reason}")
    return Comparison(found, f"{what} {challenger.value:.4f} against {champion.value:.4f}{more}")
