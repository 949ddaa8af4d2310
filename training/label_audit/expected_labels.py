"""Expected labels of fresh rows, and tests of cells of fresh rows against them.

Two predictions exist for the label of every fresh row. The first comes from learners of the
recorded labels. The second is the first, adjusted to the labels of the *other* fresh rows: by a
shift of the level, of the slope, and along principal components of the embeddings. A cell (a source
or a group) is held back only if its labels contradict both. A change that all fresh rows share
contradicts only the first prediction: that is drift, which the audit lets pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.calibrator import sigmoid
from querytier.data.arrays import Floats
from querytier.training.baselines import LabelledFeatures
from querytier.training.folds import group_folds
from querytier.training.label_audit.contradictions import Contradiction, Dispersion, contradiction
from querytier.training.label_audit.predictors import ensemble_log_odds

__all__ = ["Cell", "CellTests", "ExpectedLabels", "balanced_weights", "predict_labels"]

Rows = NDArray[np.intp]

_COMPONENTS = 24
_PRIOR_ROWS = 4.0
# Log-odds of 0.99. One label against a surer prediction would decide about a whole cell.
_SUREST = 4.6


@dataclass(frozen=True, eq=False)
class Cell:
    """Fresh rows that may be held back together.

    Attributes
    ----------
    kind : {"source", "group"}
    name : str
    rows : ndarray of int
        Indices of fresh examples.
    """

    kind: Literal["source", "group"]
    name: str
    rows: Rows


@dataclass(frozen=True, slots=True)
class CellTests:
    """How the labels of a cell contradict the recorded ones, and those of other fresh rows.

    Attributes
    ----------
    recorded, others : Contradiction
    """

    recorded: Contradiction
    others: Contradiction

    @property
    def p_value(self) -> float:
        """The larger p-value, as both have to be contradicted."""
        return max(self.recorded.p_value, self.others.p_value)


@dataclass(frozen=True, eq=False)
class ExpectedLabels:
    """Predicted log-odds of n recorded rows (out of fold) and of m fresh rows.

    Attributes
    ----------
    recorded : ndarray of float64, shape (n,)
    fresh : ndarray of float64, shape (m,)
    components : ndarray of float64, shape (m, c)
        Principal components of the fresh embeddings; the first has variance 1.
    labels : ndarray of float64, shape (m,)
        The labels that the fresh rows have.
    """

    recorded: Floats
    fresh: Floats
    components: Floats
    labels: Floats

    def test_recorded(
        self, rows: Rows, units: NDArray[np.intp], tolerated: float, spread: Dispersion
    ) -> Contradiction:
        """Test the labels of fresh rows against the recorded labels.

        `units`, of shape (m,), holds the number of each fresh row's unit.
        """
        predicted = probabilities(self.fresh[rows])
        return contradiction(self.labels[rows], predicted, units[rows], tolerated, spread)

    def test_others(
        self,
        rows: Rows,
        others: tuple[Rows, Floats],
        units: NDArray[np.intp],
        tolerated: float,
        spread: Dispersion,
    ) -> Contradiction:
        """Test the labels of fresh rows against those of other fresh rows, with their weights."""
        adjusted = self.fresh[rows] + self._features(rows) @ self._adjustment(*others)
        predicted = probabilities(adjusted)
        return contradiction(self.labels[rows], predicted, units[rows], tolerated, spread)

    def _adjustment(self, rows: Rows, weights: Floats) -> Floats:
        """Return coefficients, shrunk to 0, of the change of log-odds that rows show."""
        from scipy.optimize import minimize

        features, offset, labels = self._features(rows), self.fresh[rows], self.labels[rows]

        def loss(coefficients: Floats) -> tuple[float, Floats]:
            log_odds = offset + features @ coefficients
            losses = weights * (np.logaddexp(0.0, log_odds) - labels * log_odds)
            penalty = _PRIOR_ROWS * coefficients
            gradient = features.T @ (weights * (sigmoid(log_odds) - labels)) + penalty
            return float(losses.sum() + penalty @ coefficients / 2), gradient

        # An undamped Newton fit without the penalty diverged, and held back four honest sources of
        # six.
        start = np.zeros(features.shape[1])
        return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)

    def _features(self, rows: Rows) -> Floats:
        return np.column_stack([np.ones(len(rows)), self.fresh[rows], self.components[rows]])


def predict_labels(
    recorded: LabelledFeatures, fresh: LabelledFeatures, folds: int, seed: int
) -> ExpectedLabels:
    """Predict recorded rows out of fold, and fresh rows from all recorded ones.

    Raises
    ------
    TrainingError
        If there are fewer recorded groups than folds.
    """
    masks = group_folds(recorded.examples, folds, seed)
    known, predicted = ensemble_log_odds(recorded, masks, fresh=fresh)
    return ExpectedLabels(
        np.clip(known, -_SUREST, _SUREST),
        np.clip(predicted, -_SUREST, _SUREST),
        _components(fresh.embeddings),
        fresh.examples.needs_frontier,
    )


def balanced_weights(sources: Sequence[str]) -> Floats:
    """Return weights so that no source counts more than one of the median size."""
    if not sources:
        return np.empty(0)
    # Without weights, a flood from one source would dominate every comparison.
    names = np.asarray(sources, dtype=str)
    _, place, sizes = np.unique(names, return_inverse=True, return_counts=True)
    return np.asarray(np.minimum(1.0, float(np.median(sizes)) / sizes)[place])


def probabilities(log_odds: Floats) -> Floats:
    """Return probabilities between 0.01 and 0.99."""
    return sigmoid(np.clip(log_odds, -_SUREST, _SUREST))


def _components(embeddings: NDArray[np.float32]) -> Floats:
    centred = np.asarray(embeddings, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    count = min(_COMPONENTS, *centred.shape)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    scores = left[:, :count] * values[:count]
    return np.asarray(scores / max(float(scores[:, 0].std()), 1e-12))
