"""Hyperparameter search: the settings of a learner, tuned inside the training split."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from querytier.training.learners import LinearLearner, MemberLearner, MlpLearner
from querytier.training.optuna_search import search

if TYPE_CHECKING:
    import optuna

__all__ = ["Search"]


@dataclass(frozen=True, slots=True)
class Search:
    """Storage, length and seed of a search.

    Attributes
    ----------
    storage : str or Path
        The file of an Optuna journal, or the URL of a database.
    trials : int
        Number of trials for each learner.
    seed : int
    """

    storage: str | Path
    trials: int
    seed: int

    def tune(
        self, learner: MemberLearner, value: Callable[[MemberLearner], float], rows: str
    ) -> MemberLearner:
        """Return the learner of this kind, on these blocks, with the highest value.

        The settings of the given learner are tried first, so the result is no worse.

        Parameters
        ----------
        learner : MemberLearner
        value : callable
            The metric of a learner, measured on training rows only.
        rows : str
            Identifies the rows and their folds. A study of other rows is not resumed.
        """
        settings = asdict(learner)
        blocks = settings.pop("blocks")
        identity = json.dumps([type(learner).__name__, blocks, rows])
        return search(
            lambda trial: _suggest(learner, trial),
            value,
            study=f"{learner.name} {hashlib.sha256(identity.encode()).hexdigest()[:16]}",
            storage=self.storage,
            trials=self.trials,
            seed=self.seed,
            first=[settings],
        )


def _suggest(learner: MemberLearner, trial: "optuna.Trial") -> MemberLearner:
    if isinstance(learner, LinearLearner):
        return replace(
            learner, regularisation=trial.suggest_float("regularisation", 1e-5, 10, log=True)
        )
    if isinstance(learner, MlpLearner):
        return replace(
            learner,
            hidden=trial.suggest_int("hidden", 4, 128, log=True),
            decay=trial.suggest_float("decay", 1e-2, 100, log=True),
        )
    return replace(
        learner,
        iterations=trial.suggest_int("iterations", 50, 800, log=True),
        learning_rate=trial.suggest_float("learning_rate", 0.005, 0.1, log=True),
        leaves=trial.suggest_int("leaves", 3, 24, log=True),
        rows_per_leaf=trial.suggest_int("rows_per_leaf", 10, 160, log=True),
        l2=trial.suggest_float("l2", 0.1, 100, log=True),
        feature_share=trial.suggest_float("feature_share", 0.1, 1.0),
    )
