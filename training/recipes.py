"""Recipes: which learners make up a classifier, and which score ranks queries."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from querytier.classifier.model.head import Heads
from querytier.data.examples import Examples
from querytier.training.baselines import LabelledFeatures
from querytier.training.learners import MemberLearner, encoder_of

__all__ = ["RanksBy", "Recipe", "ranking_of", "recipe_from", "recipes_of"]

RanksBy = Literal["gain", "p_frontier"]
_SUFFIX = {"gain": "by_gain", "p_frontier": "by_need"}
_LEARNERS = {learner.__name__: learner for learner in get_args(MemberLearner)}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to make a classifier.

    Attributes
    ----------
    learners : tuple of MemberLearner
        A stack has several, and averages their scores. All read the same encoder.
    ranks_by : {"p_frontier", "gain"}
        The score that is compared with the threshold. The gain needs both scores of every row.
    """

    learners: tuple[MemberLearner, ...]
    ranks_by: RanksBy

    @property
    def name(self) -> str:
        """Name in tables, in MLflow and in `params.yaml`.

        Examples
        --------
        >>> from querytier.training.learners import BoostedTrees, LinearLearner
        >>> linear = LinearLearner(("minilm3",), 0.001)
        >>> Recipe((linear,), "gain").name
        'minilm3_C0.001_by_gain'
        >>> Recipe((linear, BoostedTrees(("minilm3",))), "gain").name
        'minilm3_stack_linear+trees_by_gain'
        """
        if len(self.learners) == 1:
            return f"{self.learners[0].name}_{_SUFFIX[self.ranks_by]}"
        families = "+".join(learner.family for learner in self.learners)
        return f"{self.encoder}_stack_{families}_{_SUFFIX[self.ranks_by]}"

    @property
    def encoder(self) -> str:
        """The name of the encoder that all learners read."""
        return encoder_of(self.learners[0])

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of features that the learners read."""
        return tuple(dict.fromkeys(name for one in self.learners for name in one.blocks))

    def fit(self, train: LabelledFeatures) -> Heads:
        """Return the fitted heads, whose P(needs_frontier) is not calibrated yet."""
        return Heads(tuple(learner.fit(train) for learner in self.learners), self.ranks_by)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe for JSON."""
        learners = [{"learner": type(one).__name__, **asdict(one)} for one in self.learners]
        return {"learners": learners, "ranks_by": self.ranks_by}


def recipe_from(record: Mapping[str, Any]) -> Recipe:
    """Return the recipe from the output of `Recipe.to_dict`."""
    learners = []
    for one in record["learners"]:
        settings = {**one, "blocks": tuple(one["blocks"])}
        learners.append(_LEARNERS[settings.pop("learner")](**settings))
    return Recipe(tuple(learners), record["ranks_by"])


def ranking_of(examples: Examples) -> RanksBy:
    """Return the score that should rank queries: the gain if there is a gap, else the need."""
    if not examples.scored:
        return "p_frontier"
    # The gain of a router is the area under the cost-quality curve, and ranking by the expected
    # gain maximises it. If the gap between the tiers may be chance, the curve has nothing to
    # recover.
    gains = examples.frontier_score - examples.cheap_score
    error = gains.std() / np.sqrt(len(gains))
    return "gain" if gains.mean() > 2 * error else "p_frontier"


def recipes_of(examples: Examples, learners: Sequence[MemberLearner]) -> list[Recipe]:
    """Return a recipe for each learner; the examples of the training split decide the ranking."""
    ranks_by = ranking_of(examples)
    return [Recipe((learner,), ranks_by) for learner in learners]
