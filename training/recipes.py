"""Recipes: which features of a query are taken, what ranks it, how strongly it is regularised."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.head import Heads
from querytier.data.examples import Examples
from querytier.training.baselines import Labelled
from querytier.training.fitting import fit_gain_head, fit_head

__all__ = ["Recipe", "recipes_for"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to make a classifier.

    Attributes
    ----------
    blocks : tuple of str
        The blocks of features of `Labelled`, side by side.
    ranks_by : {"p_frontier", "gain"}
        What is compared with the threshold. The gain needs both scores of every row.
    regularisation : float
        scikit-learn's `C`: the smaller, the stronger.
    """

    blocks: tuple[str, ...]
    ranks_by: Literal["p_frontier", "gain"]
    regularisation: float

    @property
    def name(self) -> str:
        """What the recipe is called in tables and in MLflow.

        Examples
        --------
        >>> Recipe(("minilm", "surface"), "gain", 0.1).name
        'minilm+surface_gain_C0.1'
        """
        ranked = {"p_frontier": "lr", "gain": "gain"}[self.ranks_by]
        return f"{'+'.join(self.blocks)}_{ranked}_C{self.regularisation:g}"

    def features(self, labelled: Labelled) -> NDArray[np.float32]:
        """Return the features of rows, shape (n, dimension)."""
        return np.hstack([labelled.blocks[name] for name in self.blocks])

    def fitted(self, train: Labelled) -> Heads:
        """Fit the heads; P(needs_frontier) is yet to be calibrated."""
        features, examples = self.features(train), train.examples
        need = fit_head(features, examples.needs_frontier, examples.weight, self.regularisation)
        if self.ranks_by == "p_frontier":
            return Heads(need)
        gains = examples.frontier_score - examples.cheap_score
        return Heads(need, fit_gain_head(features, gains, examples.weight, self.regularisation))

    def decision_scores(self, train: Labelled, asked: Labelled) -> Floats:
        """Return what ranks the asked rows, of heads fitted on others, shape (n,)."""
        return self.fitted(train).decision_scores(self.features(asked))

    def log_odds(self, train: Labelled, asked: Labelled) -> Floats:
        """Return the log-odds of needs_frontier, of a head fitted on other rows, shape (n,)."""
        need = Recipe(self.blocks, "p_frontier", self.regularisation).fitted(train).need
        return need.logits(self.features(asked))


def recipes_for(
    examples: Examples, choices: Sequence[tuple[str, ...]], regularisation: Sequence[float]
) -> list[Recipe]:
    """Return the recipes that examples allow, those first that one would rather have.

    For each choice of features ranking by gain, which is what the cost-quality curve measures,
    comes first, where every row has both scores; then the stronger regularisation.

    Parameters
    ----------
    examples : Examples
        Of the training role.
    choices : sequence of tuple of str
        Blocks of features; what one would rather have first.
    regularisation : sequence of float
        scikit-learn's `C`.
    """
    by: list[Literal["gain", "p_frontier"]] = ["gain", "p_frontier"]
    if not examples.scored:
        by.remove("gain")
    strongest_first = sorted(regularisation)
    return [
        Recipe(blocks, ranks_by, c)
        for blocks in choices
        for ranks_by in by
        for c in strongest_first
    ]
