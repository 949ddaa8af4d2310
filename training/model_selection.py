"""Candidates on the same folds; the simplest within one standard error of the best is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from querytier.errors import UsageError
from querytier.training.baselines import LEARNED_BASELINES, Labelled, Learner
from querytier.training.checkpoints import NOTHING_KEPT, Kept
from querytier.training.cross_validation import Candidate, Judge, Metric
from querytier.training.hyperparameters import Search
from querytier.training.learners import MemberLearner
from querytier.training.recipes import Recipe

__all__ = ["choose", "cross_validate"]


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
        The training split.
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

    judge = Judge(labelled, metric, folds, seed, kept)
    found: list[Candidate] = []
    with tqdm(total=len(recipes) + len(baselines), desc="cross-validate", disable=None) as bar:
        for _, of_encoder in groupby(recipes, key=lambda recipe: recipe.encoder):
            singles = []
            for recipe in of_encoder:
                singles.append(judge.candidate(recipe))
                bar.update()
            if search is not None:
                singles += _refined(singles, judge, search)
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


def _refined(singles: Sequence[Candidate], judge: Judge, search: Search) -> list[Candidate]:
    """Return the best candidate of each family, refined, where that brought another one."""
    known = [one.recipe.learners[0] for one in singles if one.recipe]
    found = []
    for one in _best_of_families(singles):
        assert one.recipe is not None
        recipe = one.recipe

        def value(learner: MemberLearner, recipe: Recipe = recipe) -> float:
            return judge.candidate(replace(recipe, learners=(learner,))).mean

        learner = search.refined(recipe.learners[0], value, judge.rows)
        if learner not in known:
            found.append(judge.candidate(replace(recipe, learners=(learner,))))
    return found


def _stacks(singles: Sequence[Candidate]) -> list[Recipe]:
    """Return stacks of the best learner of each family, as far as there are several families."""
    recipes = [one.recipe for one in _best_of_families(singles) if one.recipe]
    learners = [recipe.learners[0] for recipe in recipes]
    sizes = range(2, len(learners) + 1)
    return [Recipe(tuple(learners[:size]), recipes[0].ranks_by) for size in sizes]
