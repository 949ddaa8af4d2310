"""Learners: how one member of a classifier is fitted."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias

import numpy as np

from querytier.classifier.model.head import Member, side_by_side
from querytier.classifier.model.nets import Linear, Net
from querytier.training.baselines import LabelledFeatures
from querytier.training.boosted_trees import fit_trees
from querytier.training.linear_models import HardRows, fit_linear, fit_mlp, gain_rows, soft_rows

__all__ = ["BoostedTrees", "LinearLearner", "MemberLearner", "MlpLearner", "encoder_of"]


@dataclass(frozen=True, slots=True)
class LinearLearner:
    """Logistic regression, multinomial on the gain.

    Attributes
    ----------
    blocks : tuple of str
        The blocks of features that it reads.
    regularisation : float
        scikit-learn's `C`, on blocks of standardised features, each of norm 1 (terms are not
        scaled): the smaller, the stronger.
    """

    blocks: tuple[str, ...]
    regularisation: float

    @property
    def name(self) -> str:
        """Name in tables and in MLflow.

        Examples
        --------
        >>> LinearLearner(("minilm3", "minilm3-surface"), 0.001).name
        'minilm3+surface_C0.001'
        """
        return f"{_short(self.blocks)}_C{self.regularisation:g}"

    @property
    def family(self) -> str:
        """A stack takes one learner of each family."""
        # Terms are a separate family: they capture words, embeddings capture meaning.
        return "terms" if self.blocks[0].endswith("-terms") else "linear"

    def fit(self, train: LabelledFeatures) -> Member:
        """Return the fitted member; it predicts gains if all rows have both scores."""
        widths = [train.blocks[name].shape[1] for name in self.blocks]

        def fit(features: Any, labels: HardRows, outcomes: int) -> Linear:
            return fit_linear(features, labels, outcomes, self.regularisation, widths)

        return _fit_member(self.blocks, train, fit)


@dataclass(frozen=True, slots=True)
class MlpLearner:
    """A small net with one hidden layer.

    Attributes
    ----------
    blocks : tuple of str
    hidden : int
        Number of units of the hidden layer.
    decay : float
        Strength of the L2 penalty.
    """

    family: ClassVar[str] = "mlp"

    blocks: tuple[str, ...]
    hidden: int = 32
    decay: float = 3.0

    @property
    def name(self) -> str:
        """Name in tables and in MLflow."""
        return f"{_short(self.blocks)}_mlp{self.hidden}_decay{self.decay:g}"

    def fit(self, train: LabelledFeatures) -> Member:
        """Return the fitted member; the seed is fixed."""
        fit = partial(fit_mlp, hidden=self.hidden, decay=self.decay, seed=0)
        return _fit_member(self.blocks, train, fit)


@dataclass(frozen=True, slots=True)
class BoostedTrees:
    """Gradient-boosted trees (Friedman 2001); the gain is fitted by squared error.

    Attributes
    ----------
    blocks : tuple of str
    iterations, leaves, rows_per_leaf : int
    learning_rate, l2 : float
    feature_share : float
        Share of the features that each split may use, in (0, 1].
    """

    family: ClassVar[str] = "trees"

    blocks: tuple[str, ...]
    iterations: int = 250
    learning_rate: float = 0.02
    leaves: int = 8
    rows_per_leaf: int = 40
    l2: float = 10.0
    feature_share: float = 0.3

    @property
    def name(self) -> str:
        """Name in tables and in MLflow."""
        return f"{_short(self.blocks)}_trees{self.iterations}"

    def fit(self, train: LabelledFeatures) -> Member:
        """Return the fitted member; the seed is fixed."""
        features, need, gain = _rows(self.blocks, train)
        examples = train.examples
        settings: dict[str, Any] = {
            "max_iter": self.iterations,
            "learning_rate": self.learning_rate,
            "max_leaf_nodes": self.leaves,
            "min_samples_leaf": self.rows_per_leaf,
            "l2_regularization": self.l2,
            "max_features": self.feature_share,
            "random_state": 0,
        }
        fitted = fit_trees(features, need, examples.weight, **settings)
        if gain is None:
            return Member(self.blocks, fitted)
        gains = examples.frontier_score - examples.cheap_score
        gains = gains / np.abs(gains).max()
        return Member(self.blocks, fitted, fit_trees(features, gains, examples.weight, **settings))


MemberLearner: TypeAlias = LinearLearner | MlpLearner | BoostedTrees


def encoder_of(learner: MemberLearner) -> str:
    """Return the name of the encoder whose blocks a learner reads."""
    return _encoder(learner.blocks)


def _fit_member(
    blocks: tuple[str, ...], train: LabelledFeatures, fit: Callable[[Any, HardRows, int], Net]
) -> Member:
    """Fit the need on two outcomes and, if there are scores, the gain on three."""
    features, need, gain = _rows(blocks, train)
    return Member(blocks, fit(features, need, 2), None if gain is None else fit(features, gain, 3))


def _rows(blocks: tuple[str, ...], train: LabelledFeatures) -> tuple[Any, Any, Any]:
    """Return features, needs and gains as hard rows; the gains are None without both scores."""
    examples = train.examples
    features = side_by_side(train.blocks, blocks)
    need = soft_rows(examples.needs_frontier, examples.weight)
    if not examples.scored:
        return features, need, None
    gains = examples.frontier_score - examples.cheap_score
    return features, need, gain_rows(gains, examples.weight)


def _encoder(blocks: tuple[str, ...]) -> str:
    return blocks[0].split("-")[0]


def _short(blocks: tuple[str, ...]) -> str:
    """Return the names of the blocks, with the name of their encoder once."""
    prefix = f"{_encoder(blocks)}-"
    return "+".join([blocks[0], *(name.removeprefix(prefix) for name in blocks[1:])])
