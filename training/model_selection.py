"""Model selection: choose the simplest candidate within one standard error of the best."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from querytier.errors import UsageError
from querytier.training.baselines import LEARNED_BASELINES, LabelledFeatures, Learner
from querytier.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from querytier.training.cross_validation import Candidate, CrossValidation
from querytier.training.folds import within_one_standard_error
from querytier.training.hyperparameters import Search
from querytier.training.learners import MemberLearner
from querytier.training.recipes import Recipe

__all__ = ["choose", "cross_validate"]


def cross_validate(
    labelled: LabelledFeatures,
    recipes: Sequence[Recipe],
    *,
    folds: int,
    seed: int,
    baselines: Mapping[str, Learner] = LEARNED_BASELINES,
    search: Search | None = None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> list[Candidate]:
    """Cross-validate recipes, stacks of the best of them, and baselines.

    Parameters
    ----------
    labelled : LabelledFeatures
        The training split.
    recipes : sequence of Recipe
        Recipes of one learner each; those of one encoder are next to each other.
    folds, seed : int
        Every candidate sees the same folds.
    baselines : mapping of str to callable
    search : Search, optional
        Tunes the best learner of each family.
    checkpoints : Checkpoints

    Returns
    -------
    list of Candidate
        For each encoder its recipes in their order, tuned learners, and stacks; then the baselines.
    """
    from tqdm import tqdm

    validation = CrossValidation(labelled, folds, seed, checkpoints)
    candidates: list[Candidate] = []
    with tqdm(total=len(recipes) + len(baselines), desc="cross-validate", disable=None) as bar:
        for _, of_encoder in groupby(recipes, key=lambda recipe: recipe.encoder):
            singles = []
            for recipe in of_encoder:
                singles.append(validation.candidate(recipe))
                bar.update()
            if search is not None:
                singles += _tune(singles, validation, search)
            candidates += singles
            candidates += [validation.candidate(stack) for stack in _stacks(singles)]
        for name, learner in baselines.items():
            candidates.append(validation.baseline(name, learner))
            bar.update()
    return candidates


def choose(candidates: Sequence[Candidate], name: str | None = None) -> Candidate:
    """Return the first candidate within one standard error of the best (Breiman et al. 1984).

    Parameters
    ----------
    candidates : sequence of Candidate
        In order of preference, the simplest and fastest first. Baselines are ignored.
    name : str, optional
        The candidate to return, whatever its performance.

    Raises
    ------
    UsageError
        If no candidate has that name.
    """
    classifiers = [candidate for candidate in candidates if candidate.recipe is not None]
    if name is None:
        # Among candidates that the folds cannot tell apart, the simplest decides fastest; the best
        # of many is mostly the luckiest.
        best = max(classifiers, key=lambda candidate: candidate.mean)
        return next(
            candidate
            for candidate in classifiers
            if within_one_standard_error(best.fold_values - candidate.fold_values)
        )
    known = {candidate.name: candidate for candidate in classifiers}
    if name not in known:
        raise UsageError(
            f"train.candidate is {name!r}, which is not one of the candidates of this budget: "
            f"{', '.join(known)}"
        )
    return known[name]


def _best_of_families(singles: Sequence[Candidate]) -> list[Recipe]:
    """Return the recipe of the best candidate of each family."""
    best: dict[str, tuple[float, Recipe]] = {}
    for candidate in singles:
        assert candidate.recipe is not None
        family = candidate.recipe.learners[0].family
        if family not in best or candidate.mean > best[family][0]:
            best[family] = candidate.mean, candidate.recipe
    return [recipe for _, recipe in best.values()]


def _tune(
    singles: Sequence[Candidate], validation: CrossValidation, search: Search
) -> list[Candidate]:
    """Return the tuned learner of each family, unless tuning has found no other settings."""
    known = [one.recipe.learners[0] for one in singles if one.recipe]
    tuned = []
    for recipe in _best_of_families(singles):

        def value(learner: MemberLearner, recipe: Recipe = recipe) -> float:
            return validation.candidate(replace(recipe, learners=(learner,))).mean

        learner = search.tune(recipe.learners[0], value, validation.rows)
        if learner not in known:
            tuned.append(validation.candidate(replace(recipe, learners=(learner,))))
    return tuned


def _stacks(singles: Sequence[Candidate]) -> list[Recipe]:
    """Return stacks of the best learners of two, three, ... families."""
    recipes = _best_of_families(singles)
    learners = [recipe.learners[0] for recipe in recipes]
    sizes = range(2, len(learners) + 1)
    return [Recipe(tuple(learners[:size]), recipes[0].ranks_by) for size in sizes]
