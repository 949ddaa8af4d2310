"""Cross-validation of candidates inside the training split, all on the same folds."""

import hashlib
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.eval.curves import gain_curve
from querytier.eval.intervals import Estimate, Resampling, undefined
from querytier.eval.metrics import auroc
from querytier.training.baselines import LabelledFeatures, Learner
from querytier.training.checkpoints import Checkpoints
from querytier.training.folds import group_folds, out_of_fold_scores, rank_within_folds
from querytier.training.learners import MemberLearner
from querytier.training.recipes import Recipe, ranking_of

__all__ = ["FRONTIER_RATES", "Candidate", "CrossValidation", "Metric", "metric_for"]

Metric = Literal["apgr", "auroc"]

FRONTIER_RATES = np.linspace(0, 1, 21)
_REPLICATES = 300
_ONE_CLASS = "the training split has only one class"
_NO_SCORES = "not all rows of the training split have both scores, or there is no gap to recover"


@dataclass(frozen=True, eq=False)
class Candidate:
    """The cross-validated performance of one way to rank queries.

    Attributes
    ----------
    name : str
    recipe : Recipe or None
        None for baselines, which are not exported.
    auroc, apgr : Estimate
        Estimates from out-of-fold scores, ranked within their folds, with intervals over groups.
    fold_values : ndarray of float64, shape (folds,)
        The metric that decides, by fold; NaN if a fold has none.
    scores : ndarray of float64, shape (n,)
        The scores that rank queries, out of fold.
    seconds : float
        Wall time of all folds.
    curve : tuple of float
        The share of the gap recovered (of needs_frontier caught, if there is no gap) at frontier
        rates of 0, 0.05 and so on up to 1.
    log_odds : ndarray of float64, shape (n,), optional
        Log-odds of needs_frontier, out of fold; None for baselines.
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
    """Return the metric that chooses a candidate: APGR if there is a gap to recover, else AUROC."""
    return "apgr" if ranking_of(examples) == "gain" else "auroc"


class CrossValidation:
    """Evaluates candidates on the same folds of a training split; fits each learner once."""

    def __init__(
        self, labelled: LabelledFeatures, folds: int, seed: int, checkpoints: Checkpoints
    ) -> None:
        examples = labelled.examples
        self._labelled = labelled
        self._metric = metric_for(examples)
        self._gains = examples.frontier_score - examples.cheap_score
        self._masks = group_folds(examples, folds, seed)
        self._resampling = Resampling(examples.group.tolist(), _REPLICATES, seed)
        self._checkpoints = checkpoints
        # Stacks share the learners of single candidates, so each is fitted only once.
        self._members: dict[MemberLearner, tuple[Floats, float]] = {}

    @property
    def rows(self) -> str:
        """Identifies the rows and their folds."""
        digest = hashlib.sha256(np.packbits(np.array(self._masks)).tobytes()).hexdigest()
        return f"{self._labelled.examples.fingerprint()} {digest}"

    def candidate(self, recipe: Recipe) -> Candidate:
        """Return the candidate of a recipe."""
        members = [self._member(learner) for learner in recipe.learners]
        log_odds, gains = np.mean([scores for scores, _ in members], axis=0)
        scores = gains if recipe.ranks_by == "gain" else log_odds
        seconds = sum(seconds for _, seconds in members)
        return self._evaluate(recipe.name, scores, seconds, recipe, log_odds)

    def baseline(self, name: str, learner: Learner) -> Candidate:
        """Return the candidate of a baseline, which cannot be chosen."""
        started = time.perf_counter()
        scores = self._checkpoints.load_or_compute(
            name, lambda: out_of_fold_scores(learner, self._labelled, self._masks)
        )
        return self._evaluate(name, scores, time.perf_counter() - started)

    def _member(self, learner: MemberLearner) -> tuple[Floats, float]:
        """Return out-of-fold log-odds and gains, shape (2, n), and the seconds spent."""
        if learner not in self._members:
            started = time.perf_counter()
            # Not by name: boosted trees with one name differ in settings that a search draws.
            scores = self._checkpoints.load_or_compute(repr(learner), lambda: self._fit(learner))
            self._members[learner] = scores, time.perf_counter() - started
        return self._members[learner]

    def _fit(self, learner: MemberLearner) -> Floats:
        scores = np.full((2, len(self._labelled.examples)), np.nan)
        for held_out in self._masks:
            member = learner.fit(self._labelled.where(~held_out))
            blocks = self._labelled.where(held_out).blocks
            scores[0, held_out] = member.log_odds(blocks)
            if member.gain is not None:
                scores[1, held_out] = member.gains(blocks)
        return scores

    def _evaluate(
        self,
        name: str,
        scores: Floats,
        seconds: float,
        recipe: Recipe | None = None,
        log_odds: Floats | None = None,
    ) -> Candidate:
        labels, ranks = (
            self._labelled.examples.needs_frontier,
            rank_within_folds(self._masks, scores),
        )

        def auroc_of(weights: Floats) -> Floats:
            return auroc(ranks, labels, weights)

        def apgr_of(weights: Floats) -> Floats:
            return gain_curve(ranks, self._gains, weights).apgr()

        has_gap = self._metric == "apgr"
        by_fold = apgr_of if has_gap else auroc_of
        curve = gain_curve(ranks, self._gains if has_gap else labels, np.ones((1, len(ranks))))
        recovered = curve.on(FRONTIER_RATES[np.newaxis]) / curve.gap
        return Candidate(
            name=name,
            recipe=recipe,
            auroc=self._resampling.estimate(auroc_of, _ONE_CLASS),
            apgr=self._resampling.estimate(apgr_of, _NO_SCORES)
            if has_gap
            else undefined(_NO_SCORES),
            fold_values=by_fold(np.array(self._masks, dtype=np.float64)),
            scores=scores,
            seconds=seconds,
            curve=tuple(recovered[0].round(6).tolist()),
            log_odds=log_odds,
        )
