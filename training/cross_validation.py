"""Judging: what cross-validation inside the training split says of one way to rank queries."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.eval.curves import gain_curve
from querytier.eval.intervals import Estimate, Resampling, undefined
from querytier.eval.metrics import auroc
from querytier.training.baselines import Labelled, Learner, cross_fitted, group_folds, ranks_within
from querytier.training.checkpoints import Kept
from querytier.training.learners import MemberLearner
from querytier.training.recipes import Recipe, ranking_of

__all__ = ["FRONTIER_RATES", "Candidate", "Judge", "Metric", "metric_for"]

Floats = NDArray[np.float64]
Metric = Literal["apgr", "auroc"]

FRONTIER_RATES = np.linspace(0, 1, 21)
_REPLICATES = 300
_ONE_CLASS = "the training split holds one class only"
_NO_SCORES = "not all rows of the training split have both scores, or there is no gap to recover"


@dataclass(frozen=True, eq=False)
class Candidate:
    """What cross-validation inside the training split says of one way to rank queries.

    Attributes
    ----------
    name : str
    recipe : Recipe or None
        None for baselines, which are not exported.
    auroc, apgr : Estimate
        Of the out-of-fold scores, as ranks within their folds, with intervals over groups.
    fold_values : ndarray of float64, shape (folds,)
        The metric that chooses, by fold; NaN where a fold has none.
    scores : ndarray of float64, shape (n,)
        What ranks queries, out of fold.
    seconds : float
        Wall time of all folds.
    curve : tuple of float
        The share of the gap recovered, or without a gap of needs_frontier caught, at frontier rates
        of 0, 0.05 and so on up to 1.
    log_odds : ndarray of float64, shape (n,), optional
        Of needs_frontier, out of fold; None for baselines.
    """

    name: str
    recipe: Recipe | None
    auroc: Estimate
    apgr: Estimate
    fold_values: Floats
    scores: Floats
    seconds: float
    curve: tuple[float, ...] = ()
    log_odds: Floats | None = None

    @property
    def mean(self) -> float:
        """Mean of the metric over the folds that have one."""
        return float(np.nanmean(self.fold_values))

    @property
    def standard_error(self) -> float:
        """Standard error of that mean."""
        defined = self.fold_values[np.isfinite(self.fold_values)]
        return float(defined.std(ddof=1) / np.sqrt(len(defined))) if len(defined) > 1 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the candidate for JSON."""
        return {
            "name": self.name,
            "recipe": self.recipe and self.recipe.to_dict(),
            "auroc": self.auroc.to_dict(),
            "apgr": self.apgr.to_dict(),
            "fold_mean": self.mean,
            "fold_standard_error": self.standard_error,
            "seconds": round(self.seconds, 3),
            "curve": self.curve,
        }


def metric_for(examples: Examples) -> Metric:
    """Return what chooses among candidates: APGR where there is a gap to recover, else AUROC."""
    return "apgr" if ranking_of(examples) == "gain" else "auroc"


class Judge:
    """Judges candidates of one training split on the same folds; learners are fitted once."""

    def __init__(
        self, labelled: Labelled, metric: Metric, folds: int, seed: int, kept: Kept
    ) -> None:
        self._labelled = labelled
        self._metric = metric
        self._masks = group_folds(labelled.examples, folds, seed)
        groups = labelled.examples.group.tolist()
        self._resampling = Resampling(groups, _REPLICATES, seed)
        self._kept = kept
        self._members: dict[MemberLearner, tuple[Floats, float]] = {}

    @property
    def rows(self) -> str:
        """What tells these rows and folds from others."""
        digest = hashlib.sha256(np.packbits(np.array(self._masks)).tobytes()).hexdigest()
        return f"{self._labelled.examples.fingerprint()} {digest}"

    def candidate(self, recipe: Recipe) -> Candidate:
        """Return the candidate of a recipe."""
        members = [self._member(learner) for learner in recipe.learners]
        log_odds, gains = np.mean([scores for scores, _ in members], axis=0)
        scores = gains if recipe.ranks_by == "gain" else log_odds
        seconds = sum(seconds for _, seconds in members)
        return self._judged(recipe.name, scores, seconds, recipe, log_odds)

    def baseline(self, name: str, learner: Learner) -> Candidate:
        """Return the candidate of a baseline, which cannot be chosen."""
        started = time.perf_counter()
        scores = self._kept.scores(name, lambda: cross_fitted(learner, self._labelled, self._masks))
        return self._judged(name, scores, time.perf_counter() - started)

    def _member(self, learner: MemberLearner) -> tuple[Floats, float]:
        """Return out-of-fold log-odds and gains, shape (2, n), and the seconds that they took."""
        if learner not in self._members:
            started = time.perf_counter()
            scores = self._kept.scores(learner.name, lambda: self._cross_fitted(learner))
            self._members[learner] = scores, time.perf_counter() - started
        return self._members[learner]

    def _cross_fitted(self, learner: MemberLearner) -> Floats:
        scores = np.full((2, len(self._labelled.examples)), np.nan)
        for held_out in self._masks:
            member = learner.member(self._labelled.where(~held_out))
            asked = self._labelled.where(held_out).blocks
            scores[0, held_out] = member.log_odds(asked)
            if member.gain is not None:
                scores[1, held_out] = member.gains(asked)
        return scores

    def _judged(
        self,
        name: str,
        scores: Floats,
        seconds: float,
        recipe: Recipe | None = None,
        log_odds: Floats | None = None,
    ) -> Candidate:
        ranks = ranks_within(self._masks, scores)
        statistics = {metric: self._statistic(metric, ranks) for metric in ("apgr", "auroc")}
        weights = np.array(self._masks, dtype=np.float64)
        return Candidate(
            name=name,
            recipe=recipe,
            auroc=self._resampling.estimate(statistics["auroc"], _ONE_CLASS),
            apgr=self._apgr(statistics["apgr"]),
            fold_values=statistics[self._metric](weights),
            scores=scores,
            seconds=seconds,
            curve=self._curve(ranks),
            log_odds=log_odds,
        )

    def _statistic(self, metric: str, scores: Floats) -> Callable[[Floats], Floats]:
        examples = self._labelled.examples
        if metric == "auroc":
            return lambda weights: auroc(scores, examples.needs_frontier, weights)
        gains = examples.frontier_score - examples.cheap_score
        return lambda weights: gain_curve(scores, gains, weights).apgr()

    def _curve(self, scores: Floats) -> tuple[float, ...]:
        examples = self._labelled.examples
        gains = examples.needs_frontier
        if metric_for(examples) == "apgr":
            gains = examples.frontier_score - examples.cheap_score
        curve = gain_curve(scores, gains, np.ones((1, len(examples))))
        recovered = curve.on(FRONTIER_RATES[np.newaxis]) / curve.gap
        return tuple(recovered[0].round(6).tolist())

    def _apgr(self, statistic: Callable[[Floats], Floats]) -> Estimate:
        if metric_for(self._labelled.examples) != "apgr":
            return undefined(_NO_SCORES)
        return self._resampling.estimate(statistic, _NO_SCORES)
