"""Cross-fitted models of what either tier's answer is worth, learned from one-sided logs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Expected", "Fit", "OutcomeModel", "UnfittedTierError", "cross_fitted"]

Floats = NDArray[np.float64]
Fit = Callable[[Floats, Floats, Floats], Floats]

_FEWEST_ROWS = 10
# A tier that was explored on few rows has fewer of them than an embedding has columns: a fixed,
# weak penalty would then learn noise, and the doubly robust estimate be wider than SNIPS.
_STRENGTHS = np.logspace(0, 7, 15)
_COMPONENTS = 32


class Estimator(Protocol):
    """A regressor, or a classifier for outcomes of 0 and 1, in scikit-learn's manner."""

    def fit(self, features: Floats, outcomes: Floats) -> Any:
        """Learn."""


OutcomeModel = Fit | Estimator


class UnfittedTierError(ValueError):
    """A tier was taken too seldom to learn its outcomes without the rows to be predicted."""


@dataclass(frozen=True, eq=False)
class Expected:
    """What either tier's answer is expected to be worth, by models that have not seen the row.

    Attributes
    ----------
    cheap, frontier : ndarray of float64, shape (n,)
    """

    cheap: Floats
    frontier: Floats

    def under(self, frontier: NDArray[np.bool_] | Floats) -> Floats:
        """Return the expectation where tiers are taken with these frontier probabilities."""
        return np.asarray(self.cheap + frontier * (self.frontier - self.cheap))


def cross_fitted(
    features: Floats | None,
    outcomes: Floats,
    frontier: NDArray[np.bool_],
    groups: NDArray[np.object_],
    *,
    model: OutcomeModel | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Expected:
    """Predict each row's outcome under both tiers from the other folds (Chernozhukov et al. 2018).

    Parameters
    ----------
    features : ndarray of float64, shape (n, d), or None
        None predicts each tier's mean.
    outcomes : ndarray of float64, shape (n,)
        Of the tier that was taken.
    frontier : ndarray of bool, shape (n,)
        Whether that was the frontier tier.
    groups : ndarray of object, shape (n,)
        Rows of one group are in one fold.
    model : callable or scikit-learn estimator, optional
        The callable takes features and outcomes to learn from and features to predict. An estimator
        is cloned for every fit; a classifier's probability of the outcome 1 counts. By default
        ridge regression on standardised features (of many, the first 32 principal components), its
        strength chosen by leaving one row out: up to where each tier's mean is all that is left.
    folds, seed : int

    Raises
    ------
    UnfittedTierError
        If a fold would leave fewer than ten rows of a tier to learn from.
    """
    columns = np.zeros((len(outcomes), 1)) if features is None else features
    fold_of = _folds(groups, folds, seed)
    fit = _fit_of(model)
    expected = {tier: np.empty(len(outcomes)) for tier in (False, True)}
    for fold in range(folds):
        held = fold_of == fold
        if not held.any():
            continue
        for tier, predictions in expected.items():
            rows = ~held & (frontier == tier)
            _check_rows(int(rows.sum()), tier=tier)
            predictions[held] = _predicted(fit, columns[rows], outcomes[rows], columns[held])
    return Expected(cheap=expected[False], frontier=expected[True])


def _folds(groups: NDArray[np.object_], folds: int, seed: int) -> NDArray[np.intp]:
    names, index = np.unique(groups.astype(str), return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(names)) % folds
    return np.asarray(dealt[index])


def _check_rows(rows: int, *, tier: bool) -> None:
    if rows < _FEWEST_ROWS:
        raise UnfittedTierError(
            f"{rows} rows of the {'frontier' if tier else 'cheap'} tier are too few to learn its "
            f"outcomes from (at least {_FEWEST_ROWS} outside of each fold)"
        )


def _predicted(fit: Fit, features: Floats, outcomes: Floats, held: Floats) -> Floats:
    """Predict, within the range of what was seen: one row far out must not outweigh the rest."""
    low, high = float(outcomes.min()), float(outcomes.max())
    if low == high:
        return np.full(len(held), low)
    return np.clip(fit(features, outcomes, held), low, high)


def _fit_of(model: OutcomeModel | None) -> Fit:
    if model is None:
        return _ridge
    if not hasattr(model, "fit"):
        return model
    return lambda features, outcomes, held: _estimated(model, features, outcomes, held)


def _estimated(model: Any, features: Floats, outcomes: Floats, held: Floats) -> Floats:
    from sklearn.base import clone, is_classifier

    fitted = clone(model).fit(features, outcomes)
    return np.asarray(
        fitted.predict_proba(held)[:, 1] if is_classifier(fitted) else fitted.predict(held),
        dtype=np.float64,
    )


def _ridge(features: Floats, outcomes: Floats, held: Floats) -> Floats:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    many = min(features.shape) > _COMPONENTS
    reduced = PCA(_COMPONENTS, svd_solver="covariance_eigh") if many else None
    model = make_pipeline(StandardScaler(), reduced, RidgeCV(alphas=_STRENGTHS))
    return _estimated(model, features, outcomes, held)
