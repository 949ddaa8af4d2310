"""Candidates on the same folds; the simplest within one standard error of the best is chosen."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.eval.bootstrap import Estimate, Resampling, undefined
from querytier.eval.curves import gain_curve
from querytier.eval.metrics import auroc
from querytier.training.baselines import (
    LEARNED_BASELINES,
    Labelled,
    Learner,
    cross_fitted,
    group_folds,
)
from querytier.training.recipes import Recipe

__all__ = ["Candidate", "Metric", "choose", "cross_validate", "metric_for"]

Floats = NDArray[np.float64]
Metric = Literal["apgr", "auroc"]

_REPLICATES = 300
_ONE_CLASS = "the training role holds one class only"
_NO_SCORES = "not all rows of the training role have both scores, or there is no gap to recover"


@dataclass(frozen=True, eq=False)
class Candidate:
    """What cross-validation inside the training role says of one way to rank queries.

    Attributes
    ----------
    name : str
    recipe : Recipe or None
        None for baselines, which are not exported.
    auroc, apgr : Estimate
        Of the out-of-fold scores, with intervals over groups.
    fold_values : ndarray of float64, shape (folds,)
        The metric that chooses, by fold; NaN where a fold has none.
    scores : ndarray of float64, shape (n,)
        Out of fold.
    seconds : float
        Wall time of all folds.
    """

    name: str
    recipe: Recipe | None
    auroc: Estimate
    apgr: Estimate
    fold_values: Floats
    scores: Floats
    seconds: float

    @property
    def mean(self) -> float:
        """Mean of the metric over the folds that have one."""
        return float(np.nanmean(self.fold_values))

    @property
    def standard_error(self) -> float:
        """Standard error of that mean."""
        defined = self.fold_values[np.isfinite(self.fold_values)]
        return float(defined.std(ddof=1) / np.sqrt(len(defined))) if len(defined) > 1 else 0.0

    def record(self) -> dict[str, Any]:
        """Return the candidate for JSON."""
        return {
            "name": self.name,
            "regularisation": self.recipe and self.recipe.regularisation,
            "ranks_by": self.recipe and self.recipe.ranks_by,
            "features": self.recipe and list(self.recipe.blocks),
            "auroc": self.auroc.record(),
            "apgr": self.apgr.record(),
            "fold_mean": self.mean,
            "fold_standard_error": self.standard_error,
            "seconds": round(self.seconds, 3),
        }


def metric_for(examples: Examples) -> Metric:
    """Return what chooses among candidates: APGR where there is a gap to recover, else AUROC.

    What a router gains is the area under the cost-quality curve; without the scores of both
    answers, or without a gap between them, only the labels can be ranked.
    """
    if not examples.scored:
        return "auroc"
    gains = examples.frontier_score - examples.cheap_score
    error = gains.std() / np.sqrt(len(gains))
    return "apgr" if gains.mean() > 2 * error else "auroc"


def cross_validate(
    labelled: Labelled,
    recipes: Sequence[Recipe],
    metric: Metric,
    *,
    folds: int,
    seed: int,
    baselines: Mapping[str, Learner] = LEARNED_BASELINES,
) -> list[Candidate]:
    """Cross-validate the recipes, and baselines beside them.

    Parameters
    ----------
    labelled : Labelled
        The training role.
    recipes : sequence of Recipe
    metric : {"apgr", "auroc"}
        What chooses.
    folds, seed : int
        Every candidate sees the same folds.
    baselines : mapping of str to callable
    """
    from tqdm import tqdm

    ways: list[tuple[str, Recipe | None, Learner]] = [
        (recipe.name, recipe, recipe.decision_scores) for recipe in recipes
    ]
    ways += [(name, None, learner) for name, learner in baselines.items()]
    judge = _Judge(labelled, metric, folds, seed)
    return [judge.candidate(*way) for way in tqdm(ways, desc="cross-validate", disable=None)]


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """Return the first candidate within one standard error of the best one.

    Candidates come in the order in which one would rather have them, the simplest and fastest
    first, and with the strongest regularisation. The rule is from Breiman et al. 1984 (CART).
    Baselines take no part: they are not exported.
    """
    classifiers = [candidate for candidate in candidates if candidate.recipe is not None]
    best = max(classifiers, key=lambda candidate: candidate.mean)
    bar = best.mean - best.standard_error
    return next(candidate for candidate in classifiers if candidate.mean >= bar)


class _Judge:
    def __init__(self, labelled: Labelled, metric: Metric, folds: int, seed: int) -> None:
        self._labelled = labelled
        self._metric = metric
        self._masks = group_folds(labelled.examples, folds, seed)
        groups = labelled.examples.group.tolist()
        self._resampling = Resampling(groups, _REPLICATES, seed)

    def candidate(self, name: str, recipe: Recipe | None, learner: Learner) -> Candidate:
        started = time.perf_counter()
        scores = cross_fitted(learner, self._labelled, self._masks)
        seconds = time.perf_counter() - started
        statistics = {metric: self._statistic(metric, scores) for metric in ("apgr", "auroc")}
        weights = np.array(self._masks, dtype=np.float64)
        return Candidate(
            name=name,
            recipe=recipe,
            auroc=self._resampling.estimate(statistics["auroc"], _ONE_CLASS),
            apgr=self._apgr(statistics["apgr"]),
            fold_values=statistics[self._metric](weights),
            scores=scores,
            seconds=seconds,
        )

    def _statistic(self, metric: str, scores: Floats) -> Callable[[Floats], Floats]:
        examples = self._labelled.examples
        if metric == "auroc":
            return lambda weights: auroc(scores, examples.needs_frontier, weights)
        gains = examples.frontier_score - examples.cheap_score
        return lambda weights: gain_curve(scores, gains, weights).apgr()

    def _apgr(self, statistic: Callable[[Floats], Floats]) -> Estimate:
        if metric_for(self._labelled.examples) != "apgr":
            return undefined(_NO_SCORES)
        return self._resampling.estimate(statistic, _NO_SCORES)
