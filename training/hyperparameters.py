"""Refining: a learner's settings, searched inside the training split."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from querytier.training.learners import BoostedTrees, LinearLearner, MemberLearner, MlpLearner
from querytier.training.optuna_search import search

if TYPE_CHECKING:
    import optuna

__all__ = ["Search"]


@dataclass(frozen=True, slots=True)
class Search:
    """Where and how long settings are searched.

    Attributes
    ----------
    storage : str or Path
        The file of an Optuna journal, or the URL of a database.
    trials : int
        For each learner.
    seed : int
    """

    storage: str | Path
    trials: int
    seed: int

    def refined(
        self, learner: MemberLearner, value: Callable[[MemberLearner], float], rows: str
    ) -> MemberLearner:
        """Return the learner of this kind, on these blocks, of the largest value.

        The settings that it has are tried first, so the search ends no worse than it began.

        Parameters
        ----------
        learner : MemberLearner
        value : callable
            What a learner is worth, measured on training rows only.
        rows : str
            What tells these rows, and their folds, from others.
        """
        kind = type(learner)
        told = json.dumps([kind.__name__, learner.blocks, rows])
        return search(
            lambda trial: _SUGGESTED[kind](learner, trial),
            value,
            study=f"{learner.name} {hashlib.sha256(told.encode()).hexdigest()[:16]}",
            storage=self.storage,
            trials=self.trials,
            seed=self.seed,
            first=[_known(learner)],
        )


def _linear(learner: LinearLearner, trial: "optuna.Trial") -> LinearLearner:
    return replace(
        learner, regularisation=trial.suggest_float("regularisation", 1e-5, 10, log=True)
    )


def _mlp(learner: MlpLearner, trial: "optuna.Trial") -> MlpLearner:
    return replace(
        learner,
        hidden=trial.suggest_int("hidden", 4, 128, log=True),
        decay=trial.suggest_float("decay", 1e-2, 100, log=True),
    )


def _trees(learner: BoostedTrees, trial: "optuna.Trial") -> BoostedTrees:
    return replace(
        learner,
        iterations=trial.suggest_int("iterations", 50, 800, log=True),
        learning_rate=trial.suggest_float("learning_rate", 0.005, 0.1, log=True),
        leaves=trial.suggest_int("leaves", 3, 24, log=True),
        rows_per_leaf=trial.suggest_int("rows_per_leaf", 10, 160, log=True),
        l2=trial.suggest_float("l2", 0.1, 100, log=True),
        feature_share=trial.suggest_float("feature_share", 0.1, 1.0),
    )


_SUGGESTED: dict[type, Callable[..., MemberLearner]] = {
    LinearLearner: _linear,
    MlpLearner: _mlp,
    BoostedTrees: _trees,
}


def _known(learner: MemberLearner) -> dict[str, float]:
    return {name: value for name, value in learner.settings().items() if name != "blocks"}
