"""Recipes: which learners make a classifier together, and what ranks queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from querytier.classifier.model.head import Heads
from querytier.data.examples import Examples
from querytier.training.baselines import Labelled
from querytier.training.learners import (
    BoostedTrees,
    LinearLearner,
    MemberLearner,
    MlpLearner,
    encoder_of,
)

__all__ = ["RanksBy", "Recipe", "ranking_of", "recipe_from", "recipes_of"]

RanksBy = Literal["gain", "p_frontier"]
_SUFFIX = {"gain": "by_gain", "p_frontier": "by_need"}
_LEARNERS = {learner.__name__: learner for learner in (LinearLearner, BoostedTrees, MlpLearner)}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to make a classifier.

    Attributes
    ----------
    learners : tuple of MemberLearner
        Several are a stack, which takes their mean. They share an encoder.
    ranks_by : {"p_frontier", "gain"}
        What is compared with the threshold. The gain needs both scores of every row.
    """

    learners: tuple[MemberLearner, ...]
    ranks_by: RanksBy

    @property
    def name(self) -> str:
        """What the recipe is called in tables, in MLflow and in `params.yaml`.

        Examples
        --------
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
        """The blocks of features that any learner reads."""
        return tuple(dict.fromkeys(name for one in self.learners for name in one.blocks))

    def fitted(self, train: Labelled) -> Heads:
        """Fit the heads; P(needs_frontier) is yet to be calibrated."""
        members = tuple(learner.member(train) for learner in self.learners)
        return Heads(members, self.ranks_by)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe for JSON."""
        learners = [{"learner": type(one).__name__, **one.settings()} for one in self.learners]
        return {"learners": learners, "ranks_by": self.ranks_by}


def recipe_from(record: Mapping[str, Any]) -> Recipe:
    """Return the recipe whose `record` this is."""
    learners = []
    for one in record["learners"]:
        settings = {**one, "blocks": tuple(one["blocks"])}
        learners.append(_LEARNERS[settings.pop("learner")](**settings))
    return Recipe(tuple(learners), record["ranks_by"])


def ranking_of(examples: Examples) -> RanksBy:
    """Return what should rank queries: the gain where there is a gap to recover, else the need.

    What a router gains is the area under the cost-quality curve; without the scores of both
    answers, or without a gap between them, only the labels can be ranked.
    """
    if not examples.scored:
        return "p_frontier"
    gains = examples.frontier_score - examples.cheap_score
    error = gains.std() / np.sqrt(len(gains))
    return "gain" if gains.mean() > 2 * error else "p_frontier"


def recipes_of(examples: Examples, learners: Sequence[MemberLearner]) -> list[Recipe]:
    """Return a recipe for each learner, ranking as the examples, of the training split, allow."""
    ranks_by = ranking_of(examples)
    return [Recipe((learner,), ranks_by) for learner in learners]
