"""Learners: how one member of a classifier is fitted."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from querytier.classifier.model.head import Member, side_by_side
from querytier.classifier.model.nets import Linear, Net
from querytier.training.baselines import Labelled
from querytier.training.boosted_trees import fit_trees
from querytier.training.linear_models import HardRows, fit_linear, fit_mlp, gain_rows, soft_rows

__all__ = ["BoostedTrees", "LinearLearner", "MemberLearner", "MlpLearner", "encoder_of"]


class MemberLearner(Protocol):
    """A learner; what is equal fits the same member on the same rows."""

    @property
    def name(self) -> str:
        """What the learner is called in tables and in MLflow."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks of features that it reads."""

    @property
    def family(self) -> str:
        """What it has in common with learners of other settings; a stack takes one of each."""

    def settings(self) -> dict[str, Any]:
        """Return what makes it, for JSON."""

    def member(self, train: Labelled) -> Member:
        """Fit it; a member that knows gains comes of rows that have all scores."""


@dataclass(frozen=True, slots=True)
class LinearLearner:
    """Logistic regression; multinomial on the gain.

    Attributes
    ----------
    blocks : tuple of str
    regularisation : float
        scikit-learn's `C`, on blocks of standardised features, each of norm 1 (terms stay as they
        are): the smaller, the stronger.
    """

    blocks: tuple[str, ...]
    regularisation: float

    @property
    def name(self) -> str:
        """What the learner is called.

        Examples
        --------
        >>> LinearLearner(("minilm3", "minilm3-surface"), 0.001).name
        'minilm3+surface_C0.001'
        """
        return f"{_short(self.blocks)}_C{self.regularisation:g}"

    @property
    def family(self) -> str:
        """Terms are a family of their own: they see words, embeddings see meaning."""
        return "terms" if self.blocks[0].endswith("-terms") else "linear"

    def settings(self) -> dict[str, Any]:
        """Return its attributes."""
        return asdict(self)

    def member(self, train: Labelled) -> Member:
        """Fit the member."""
        widths = [train.blocks[name].shape[1] for name in self.blocks]

        def fit(features: Any, labels: HardRows, outcomes: int) -> Linear:
            return fit_linear(features, labels, outcomes, self.regularisation, widths)

        return _member(self.blocks, train, fit)


@dataclass(frozen=True, slots=True)
class MlpLearner:
    """A small net of one hidden layer.

    Attributes
    ----------
    blocks : tuple of str
    hidden : int
        Units of the hidden layer.
    decay : float
        Strength of the L2 penalty.
    """

    blocks: tuple[str, ...]
    hidden: int = 32
    decay: float = 3.0

    @property
    def name(self) -> str:
        """What the learner is called."""
        return f"{_short(self.blocks)}_mlp{self.hidden}_decay{self.decay:g}"

    @property
    def family(self) -> str:
        """Its family."""
        return "mlp"

    def settings(self) -> dict[str, Any]:
        """Return its attributes."""
        return asdict(self)

    def member(self, train: Labelled) -> Member:
        """Fit the member; the seed is fixed."""
        fit = partial(fit_mlp, hidden=self.hidden, decay=self.decay, seed=0)
        return _member(self.blocks, train, fit)


@dataclass(frozen=True, slots=True)
class BoostedTrees:
    """Gradient-boosted trees (Friedman 2001); on the gain itself, by squared error.

    Attributes
    ----------
    blocks : tuple of str
    iterations, leaves, rows_per_leaf : int
    learning_rate, l2 : float
    feature_share : float
        In (0, 1]: how many features each split may look at.
    """

    blocks: tuple[str, ...]
    iterations: int = 250
    learning_rate: float = 0.02
    leaves: int = 8
    rows_per_leaf: int = 40
    l2: float = 10.0
    feature_share: float = 0.3

    @property
    def name(self) -> str:
        """What the learner is called."""
        return f"{_short(self.blocks)}_trees{self.iterations}"

    @property
    def family(self) -> str:
        """Its family."""
        return "trees"

    def settings(self) -> dict[str, Any]:
        """Return its attributes."""
        return asdict(self)

    def member(self, train: Labelled) -> Member:
        """Fit the member; the seed is fixed."""
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


def encoder_of(learner: MemberLearner) -> str:
    """Return the name of the encoder whose blocks a learner reads."""
    return learner.blocks[0].split("-")[0]


def _member(
    blocks: tuple[str, ...], train: Labelled, fit: Callable[[Any, HardRows, int], Net]
) -> Member:
    """Fit the need on two outcomes and, where there are scores, the gain on three."""
    features, need, gain = _rows(blocks, train)
    return Member(blocks, fit(features, need, 2), None if gain is None else fit(features, gain, 3))


def _rows(blocks: tuple[str, ...], train: Labelled) -> tuple[Any, Any, Any]:
    """Return the features, and the labels as hard rows; no gains without both scores."""
    examples = train.examples
    features = side_by_side(train.blocks, blocks)
    need = soft_rows(examples.needs_frontier, examples.weight)
    if not examples.scored:
        return features, need, None
    return (
        features,
        need,
        gain_rows(examples.frontier_score - examples.cheap_score, examples.weight),
    )


def _short(blocks: tuple[str, ...]) -> str:
    """Return the blocks' names, that of their encoder once."""
    first, *others = blocks
    encoder = first.split("-")[0]
    return "+".join([first, *(name.removeprefix(f"{encoder}-") for name in others)])
