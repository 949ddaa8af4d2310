"""What recorded labels predict of fresh ones, and which fresh cells contradict it on their own.

Two predictions stand against the label of every fresh row. The first is by learners of the recorded
labels. The second is the first, moved by what the *other* fresh rows say: by a shift of the level,
of the slope, and along principal components of the embeddings. A cell (a source, a group, a phrase
of one source) is held back only where its labels contradict both. What shifts everywhere
contradicts the first alone: that is drift, and none of this module's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.calibrator import sigmoid
from querytier.training.baselines import Labelled, cross_fitted, group_folds
from querytier.training.label_audit.contradictions import Contradiction, Dispersion, contradiction
from querytier.training.label_audit.label_errors import AUDITORS
from querytier.training.platt import fit_platt

__all__ = ["Against", "Cell", "Foretold", "foretell", "shares_alike"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_COMPONENTS = 24
_PRIOR_ROWS = 4.0
_SUREST = 4.6  # log-odds of 0.99


@dataclass(frozen=True, eq=False)
class Cell:
    """Fresh rows that may be held back together.

    Attributes
    ----------
    kind : {"source", "group", "phrase"}
    name : str
    source : str
        Of a phrase, the source that uses it.
    rows : ndarray of int
        Of the fresh examples.
    """

    kind: str
    name: str
    source: str
    rows: Rows


@dataclass(frozen=True, slots=True)
class Against:
    """How a cell contradicts what is recorded, and what the others say.

    Attributes
    ----------
    recorded, others : Contradiction
    """

    recorded: Contradiction
    others: Contradiction

    @property
    def p_value(self) -> float:
        """Of the one that is less sure: both have to be contradicted."""
        return max(self.recorded.p_value, self.others.p_value)


@dataclass(frozen=True, eq=False)
class Foretold:
    """Log-odds of recorded rows (n of them, out of fold) and of fresh ones (m).

    Attributes
    ----------
    recorded : ndarray of float64, shape (n,)
    fresh : ndarray of float64, shape (m,)
    components : ndarray of float64, shape (m, c)
        Principal components of the fresh embeddings, of variance 1.
    labels : ndarray of float64, shape (m,)
        Of the fresh rows.
    """

    recorded: Floats
    fresh: Floats
    components: Floats
    labels: Floats

    def by_record(self, rows: Rows) -> Floats:
        """Return P(needs_frontier) of fresh rows by the recorded labels alone."""
        return _probability(self.fresh[rows])

    def by_others(self, rows: Rows, others: Rows, weights: Floats) -> Floats:
        """Return the same, moved by what other fresh rows, of these weights, say."""
        moved = _moved(self._features(others), self.fresh[others], self.labels[others], weights)
        return _probability(self.fresh[rows] + self._features(rows) @ moved)

    def against(
        self,
        cell: Cell,
        others: tuple[Rows, Floats],
        units: NDArray[np.intp],
        tolerated: float,
        spread: Dispersion,
    ) -> Against:
        """Test a cell against the record, and against other rows of these weights.

        `units`, of shape (m,), says which rows belong together.
        """
        rows, labels = cell.rows, self.labels[cell.rows]
        return Against(
            contradiction(labels, self.by_record(rows), units[rows], tolerated, spread),
            contradiction(labels, self.by_others(rows, *others), units[rows], tolerated, spread),
        )

    def _features(self, rows: Rows) -> Floats:
        return np.column_stack([np.ones(len(rows)), self.fresh[rows], self.components[rows]])


def foretell(recorded: Labelled, fresh: Labelled, folds: int, seed: int) -> Foretold:
    """Predict recorded rows out of fold, and fresh rows by all recorded ones.

    The learners are those of the label audit, Platt-scaled, averaged and scaled again by what they
    say out of fold.

    Raises
    ------
    TrainingError
        If the recorded groups are too few for so many folds.
    """
    masks = group_folds(recorded.examples, folds, seed)
    labels, weights = recorded.examples.needs_frontier, recorded.examples.weight
    known, asked = [], []
    for learner in AUDITORS.values():
        own = cross_fitted(learner, recorded, masks)
        slope, offset = fit_platt(own, labels, weights)
        known.append(slope * own + offset)
        asked.append(slope * learner(recorded, fresh) + offset)
    together, of_fresh = np.mean(known, axis=0), np.mean(asked, axis=0)
    slope, offset = fit_platt(together, labels, weights)
    return Foretold(
        _bounded(slope * together + offset),
        _bounded(slope * of_fresh + offset),
        _components(fresh.embeddings),
        fresh.examples.needs_frontier,
    )


def shares_alike(sources: Sequence[str]) -> Floats:
    """Return weights by which no source counts for more rows than the median source has."""
    if not sources:
        return np.empty(0)
    names = np.asarray(sources, dtype=str)
    _, place, sizes = np.unique(names, return_inverse=True, return_counts=True)
    return np.asarray(np.minimum(1.0, float(np.median(sizes)) / sizes)[place])


def _components(embeddings: NDArray[np.float32]) -> Floats:
    centred = np.asarray(embeddings, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    count = min(_COMPONENTS, *centred.shape)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    scores = left[:, :count] * values[:count]
    return np.asarray(scores / max(float(scores[:, 0].std()), 1e-12))


def _moved(features: Floats, offset: Floats, labels: Floats, weights: Floats) -> Floats:
    """Return the coefficients, drawn to 0, by which log-odds fit the labels better."""
    from scipy.optimize import minimize
    from scipy.special import expit

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        log_odds = offset + features @ coefficients
        rows = weights * (np.logaddexp(0.0, log_odds) - labels * log_odds)
        penalty = _PRIOR_ROWS * coefficients
        slope = features.T @ (weights * (expit(log_odds) - labels)) + penalty
        return float(rows.sum() + penalty @ coefficients / 2), slope

    return np.asarray(minimize(loss, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B").x)


def _bounded(log_odds: Floats) -> Floats:
    return np.clip(log_odds, -_SUREST, _SUREST)


def _probability(log_odds: Floats) -> Floats:
    return sigmoid(_bounded(log_odds))
