"""Candidates on the same folds; the simplest within one standard error of the best is chosen."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.errors import UsageError
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
from querytier.training.learners import MemberLearner
from querytier.training.recipes import Recipe, ranking_of
from querytier.training.refining import Search
from querytier.training.unfinished import NOTHING_KEPT, Kept

__all__ = ["FRONTIER_RATES", "Candidate", "Metric", "choose", "cross_validate", "metric_for"]

Floats = NDArray[np.float64]
Metric = Literal["apgr", "auroc"]

FRONTIER_RATES = np.linspace(0, 1, 21)
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

    def record(self) -> dict[str, Any]:
        """Return the candidate for JSON."""
        return {
            "name": self.name,
            "recipe": self.recipe and self.recipe.record(),
            "auroc": self.auroc.record(),
            "apgr": self.apgr.record(),
            "fold_mean": self.mean,
            "fold_standard_error": self.standard_error,
            "seconds": round(self.seconds, 3),
            "curve": self.curve,
        }


def metric_for(examples: Examples) -> Metric:
    """Return what chooses among candidates: APGR where there is a gap to recover, else AUROC."""
    return "apgr" if ranking_of(examples) == "gain" else "auroc"


def cross_validate(
    labelled: Labelled,
    recipes: Sequence[Recipe],
    metric: Metric,
    *,
    folds: int,
    seed: int,
    baselines: Mapping[str, Learner] = LEARNED_BASELINES,
    search: Search | None = None,
    kept: Kept = NOTHING_KEPT,
) -> list[Candidate]:
    """Cross-validate the recipes, stacks of the best of them, and baselines beside them.

    Parameters
    ----------
    labelled : Labelled
        The training role.
    recipes : sequence of Recipe
        Of one learner each; those of an encoder stand together.
    metric : {"apgr", "auroc"}
        What chooses.
    folds, seed : int
        Every candidate sees the same folds.
    baselines : mapping of str to callable
    search : Search, optional
        How the best learner of each family is refined.
    kept : Kept
        Where what is computed outlives an interruption.

    Returns
    -------
    list of Candidate
        The recipes in their order, after those of each encoder what was refined, then its stacks;
        then the baselines.
    """
    from tqdm import tqdm

    judge = _Judge(labelled, metric, folds, seed, kept)
    found: list[Candidate] = []
    with tqdm(total=len(recipes) + len(baselines), desc="cross-validate", disable=None) as bar:
        for _, of_encoder in groupby(recipes, key=lambda recipe: recipe.encoder):
            singles = []
            for recipe in of_encoder:
                singles.append(judge.candidate(recipe))
                bar.update()
            if search is not None:
                singles += judge.refined(singles, search)
            found += singles
            found += [judge.candidate(stack) for stack in _stacks(singles)]
        for name, learner in baselines.items():
            found.append(judge.baseline(name, learner))
            bar.update()
    return found


def choose(candidates: Sequence[Candidate], named: str | None = None) -> Candidate:
    """Return the first candidate within one standard error of the best one.

    Candidates come in the order in which one would rather have them, the simplest and fastest
    first. The rule is from Breiman et al. 1984 (CART); the standard error is that of the
    difference to the best one, fold by fold, as all see the same folds. Baselines take no part:
    they are not exported.

    Parameters
    ----------
    candidates : sequence of Candidate
    named : str, optional
        The name of the candidate that is wanted whatever the rule says.

    Raises
    ------
    UsageError
        If no candidate has that name.
    """
    classifiers = [candidate for candidate in candidates if candidate.recipe is not None]
    if named is not None:
        return _named(classifiers, named)
    best = max(classifiers, key=lambda candidate: candidate.mean)
    return next(candidate for candidate in classifiers if _is_near(candidate, best))


def _named(classifiers: Sequence[Candidate], named: str) -> Candidate:
    known = {candidate.name: candidate for candidate in classifiers}
    if named not in known:
        raise UsageError(
            f"train.candidate is {named!r}, which is none of the candidates of this budget: "
            f"{', '.join(known)}"
        )
    return known[named]


def _is_near(candidate: Candidate, best: Candidate) -> bool:
    behind = best.fold_values - candidate.fold_values
    behind = behind[np.isfinite(behind)]
    if len(behind) < 2:
        return candidate.mean >= best.mean
    error = float(behind.std(ddof=1) / np.sqrt(len(behind)))
    return float(behind.mean()) <= error


def _best_of_families(singles: Sequence[Candidate]) -> list[Candidate]:
    best: dict[str, Candidate] = {}
    for one in singles:
        assert one.recipe is not None
        family = one.recipe.learners[0].family
        if family not in best or one.mean > best[family].mean:
            best[family] = one
    return list(best.values())


def _stacks(singles: Sequence[Candidate]) -> list[Recipe]:
    """Return stacks of the best learner of each family, as far as there are several families."""
    recipes = [one.recipe for one in _best_of_families(singles) if one.recipe]
    learners = [recipe.learners[0] for recipe in recipes]
    sizes = range(2, len(learners) + 1)
    return [Recipe(tuple(learners[:size]), recipes[0].ranks_by) for size in sizes]


class _Judge:
    def __init__(
        self, labelled: Labelled, metric: Metric, folds: int, seed: int, kept: Kept
    ) -> None:
        self._labelled = labelled
        self._metric = metric
        self._seed = seed
        self._masks = group_folds(labelled.examples, folds, seed)
        groups = labelled.examples.group.tolist()
        self._resampling = Resampling(groups, _REPLICATES, seed)
        self._kept = kept
        self._members: dict[MemberLearner, tuple[Floats, float]] = {}

    def candidate(self, recipe: Recipe) -> Candidate:
        members = [self._member(learner) for learner in recipe.learners]
        log_odds, gains = np.mean([scores for scores, _ in members], axis=0)
        scores = gains if recipe.ranks_by == "gain" else log_odds
        seconds = sum(seconds for _, seconds in members)
        return self._judged(recipe.name, scores, seconds, recipe, log_odds)

    def refined(self, singles: Sequence[Candidate], search: Search) -> list[Candidate]:
        """Return the best candidate of each family, refined, where that brought another one."""
        found = []
        for one in _best_of_families(singles):
            assert one.recipe is not None
            recipe, examples = one.recipe, self._labelled.examples

            def value(learner: MemberLearner, recipe: Recipe = recipe) -> float:
                return self.candidate(replace(recipe, learners=(learner,))).mean

            rows = f"{examples.fingerprint()} {self._seed} {len(self._masks)}"
            learner = search.refined(recipe.learners[0], value, rows)
            if learner not in [it.recipe.learners[0] for it in singles if it.recipe]:
                found.append(self.candidate(replace(recipe, learners=(learner,))))
        return found

    def baseline(self, name: str, learner: Learner) -> Candidate:
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
            curve=self._curve(scores),
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
