"""Boosting: gradient-boosted trees, in a form that a graph compares exactly."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.nets import Trees
from querytier.training.linear_models import HardRows

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

__all__ = ["between_rows", "fit_trees", "trees_of"]

Floats = NDArray[np.float64]


def fit_trees(features: Any, labels: HardRows | Floats, weights: Floats, **settings: Any) -> Trees:
    """Fit gradient-boosted trees: on hard rows the log-odds, on values the values themselves.

    Parameters
    ----------
    features : ndarray of float32, shape (n, d)
    labels : HardRows, of two outcomes, or ndarray of float64, shape (n,)
    weights : ndarray of float64, shape (n,)
        Of the values; hard rows have their own.
    **settings
        Of scikit-learn's histogram-based gradient boosting.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    common = {"early_stopping": False, **settings}
    if isinstance(labels, HardRows):
        classifier = HistGradientBoostingClassifier(**common)
        parts = _unless_equal(labels.parts)
        classifier.fit(features[labels.rows], labels.outcomes, parts)
        return between_rows(trees_of(classifier), features)
    regressor = HistGradientBoostingRegressor(**common)
    regressor.fit(features, labels, _unless_equal(weights))
    return between_rows(trees_of(regressor), features)


def trees_of(
    model: "HistGradientBoostingClassifier | HistGradientBoostingRegressor",
) -> Trees:
    """Return the trees of a fitted scikit-learn model of one output, to be evaluated on float32.

    A float32 is at most a threshold if and only if it is at most the largest float32 that is not
    above the threshold, so the rounding changes no decision.
    """
    trees = [stage[0].nodes for stage in model._predictors]  # noqa: SLF001
    sizes = [len(nodes) for nodes in trees]
    nodes = np.concatenate(trees)
    leaf = nodes["is_leaf"].astype(bool)
    threshold = nodes["num_threshold"].astype(np.float32)
    above = threshold.astype(np.float64) > nodes["num_threshold"]
    threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
    return Trees(
        tree=np.repeat(np.arange(len(trees)), sizes),
        node=np.concatenate([np.arange(size) for size in sizes]),
        feature=np.where(leaf, -1, nodes["feature_idx"]),
        threshold=threshold,
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        value=np.where(leaf, nodes["value"], 0.0),
        bias=np.asarray(model._baseline_prediction, dtype=np.float64).reshape(1),  # noqa: SLF001
    )


def between_rows(trees: Trees, features: NDArray[np.float32]) -> Trees:
    """Return trees whose thresholds lie midway between the values that they part.

    Where many rows share a value, scikit-learn may put a threshold on it, and then rounding in a
    graph would decide. No row of the features goes another way.

    Parameters
    ----------
    trees : Trees
    features : ndarray of float32, shape (n, d)
        What they were fitted on.
    """
    threshold = trees.threshold.copy()
    for column in np.unique(trees.feature[trees.feature >= 0]):
        splits = trees.feature == column
        values = np.unique(features[:, column]).astype(np.float64)
        after = np.clip(np.searchsorted(values, threshold[splits], "right"), 1, len(values) - 1)
        middle = ((values[after - 1] + values[after]) / 2).astype(np.float32)
        # Between neighbours among floats there is no middle: the lower one parts them as well.
        threshold[splits] = np.where(middle < values[after], middle, values[after - 1])
    return replace(trees, threshold=threshold)


def _unless_equal(weights: Floats) -> Floats | None:
    """Return weights, or None where all are the same: scikit-learn bins weighted rows slowly."""
    return weights if np.ptp(weights) else None
