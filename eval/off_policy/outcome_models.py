"""Cross-fitted models of the outcome of each tier, learned from one-sided logs.

Cross-fitted: a row is predicted by a model that was fitted without its group. Otherwise the model
would have seen the outcomes that it predicts, and the doubly robust interval would be too narrow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats

__all__ = ["Expected", "Fit", "UnfittedTierError", "cross_fitted", "ridge"]

Fit = Callable[[Floats, Floats, Floats], Floats]

_FEWEST_ROWS = 10
# A tier explored on few rows has fewer rows than an embedding has columns. With a fixed, weak
# penalty the model learns noise, and the doubly robust interval is wider than that of SNIPS.
_PENALTIES = np.logspace(0, 7, 15)
_COMPONENTS = 32


class UnfittedTierError(ValueError):
    """A tier has too few rows outside a fold to learn its outcomes."""


@dataclass(frozen=True, eq=False)
class Expected:
    """The expected outcome of each tier, by models that have not seen the row.

    Attributes
    ----------
    cheap, frontier : ndarray of float64, shape (n,)
    """

    cheap: Floats
    frontier: Floats

    def under(self, frontier: NDArray[np.bool_] | Floats) -> Floats:
        """Return the expected outcome for these probabilities of the frontier tier."""
        return np.asarray(self.cheap + frontier * (self.frontier - self.cheap))


def cross_fitted(
    features: Floats | None,
    outcomes: Floats,
    frontier: NDArray[np.bool_],
    groups: NDArray[np.object_],
    *,
    model: Fit | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Expected:
    """Predict each row's outcome under both tiers from the other folds (Chernozhukov et al. 2018).

    Parameters
    ----------
    features : ndarray of float64, shape (n, d), or None
        None predicts each tier's mean.
    outcomes : ndarray of float64, shape (n,)
        Outcome of the tier that answered.
    frontier : ndarray of bool, shape (n,)
        Whether that was the frontier tier.
    groups : ndarray of object, shape (n,)
        Rows of one group are in one fold.
    model : callable, optional
        Called with features and outcomes to learn from, and features to predict; `ridge` by
        default.
    folds, seed : int

    Raises
    ------
    UnfittedTierError
        If a fold would leave fewer than ten rows of a tier to learn from.
    """
    model, columns = model or ridge, np.zeros((len(outcomes), 1)) if features is None else features
    names, index = np.unique(groups.astype(str), return_inverse=True)
    fold_of = (np.random.default_rng(seed).permutation(len(names)) % folds)[index]
    expected = {"cheap": np.empty(len(outcomes)), "frontier": np.empty(len(outcomes))}
    for held in (fold_of == fold for fold in np.unique(fold_of)):
        for tier, predictions in expected.items():
            rows = ~held & (frontier == (tier == "frontier"))
            if rows.sum() < _FEWEST_ROWS:
                raise UnfittedTierError(
                    f"{rows.sum()} rows of the {tier} tier are too few to learn its outcomes from "
                    f"(at least {_FEWEST_ROWS} outside each fold)"
                )
            low, high = outcomes[rows].min(), outcomes[rows].max()
            if low == high:
                predictions[held] = low
            else:
                # Outside the range of outcomes, one extrapolated row could outweigh all others.
                found = model(columns[rows], outcomes[rows], columns[held])
                predictions[held] = np.clip(found, low, high)
    return Expected(**expected)


def ridge(features: Floats, outcomes: Floats, held: Floats) -> Floats:
    """Predict by ridge regression on standardised features; parameters as for a `Fit`.

    If there are more than 32 features, their first 32 principal components are used. The penalty is
    chosen by leave-one-out; the largest one leaves little but the mean.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    wide = min(features.shape) > _COMPONENTS
    reduced = PCA(_COMPONENTS, svd_solver="covariance_eigh") if wide else None
    pipeline = make_pipeline(StandardScaler(), reduced, RidgeCV(alphas=_PENALTIES))
    return np.asarray(pipeline.fit(features, outcomes).predict(held), dtype=np.float64)
