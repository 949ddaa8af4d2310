"""Estimates of another router's results, from logs in which one tier answered each query.

Three estimators of the same mean. IPS is unbiased if the propensities are right, and has wide
intervals. SNIPS has a small bias and narrower ones. The doubly robust estimator is unbiased if
either the propensities or the outcome model are right, and narrow if the model is good. If the log
cannot evaluate the new policy, all three have a reason instead of a value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np

from querytier.data.arrays import Floats
from querytier.eval.intervals import (
    Estimate,
    Resampling,
    difference,
    undefined,
    weighted_mean,
)
from querytier.eval.off_policy.logged_decisions import LoggedDecisions
from querytier.eval.off_policy.outcome_models import (
    Expected,
    Fit,
    UnfittedTierError,
    cross_fitted,
)
from querytier.eval.off_policy.overlap import (
    Overlap,
    importance_weights,
    missing_values,
    overlap_of,
)

__all__ = [
    "ESTIMATORS",
    "OffPolicyEvaluation",
    "Valuation",
    "doubly_robust",
    "evaluate_policies",
    "ips",
    "snips",
]

Estimator = Literal["ips", "snips", "doubly_robust"]

ESTIMATORS: tuple[Estimator, ...] = ("ips", "snips", "doubly_robust")


@dataclass(frozen=True, eq=False)
class Valuation:
    """The mean outcome, or the mean cost, of the logging policy and of a new one.

    Attributes
    ----------
    logged : Estimate
        Mean of the logging policy.
    ips, snips, doubly_robust : Estimate
        Estimates for the new policy; a reason instead of a value if the log cannot evaluate it.
    """

    logged: Estimate
    ips: Estimate
    snips: Estimate
    doubly_robust: Estimate

    def lead(self, estimator: Estimator) -> Estimate:
        """Return the new policy's value minus the logging policy's, paired."""
        return difference(getattr(self, estimator), self.logged)

    def to_dict(self) -> dict[str, Any]:
        """Return all estimates for JSON."""
        estimates = {name: getattr(self, name).to_dict() for name in ("logged", *ESTIMATORS)}
        return {**estimates, "lead": {name: self.lead(name).to_dict() for name in ESTIMATORS}}


@dataclass(frozen=True, eq=False)
class OffPolicyEvaluation:
    """The evaluation of a new policy on a log.

    Attributes
    ----------
    overlap : Overlap
    outcome, cost : Valuation
    """

    overlap: Overlap
    outcome: Valuation
    cost: Valuation


def evaluate_policies(
    log: LoggedDecisions,
    policies: Mapping[str, Floats],
    *,
    features: Floats | None = None,
    outcome_model: Fit | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, OffPolicyEvaluation]:
    """Estimate the mean outcome and cost of new policies on the rows of a log.

    Intervals come from the bootstrap over groups, paired between policies. The outcome models are
    cross-fitted once, not in every replicate: the variance that their fit adds is of second order
    (Chernozhukov et al. 2018). If few rows carry most of the weight, intervals are too narrow: in
    simulated logs with 75 explored rows of weight 20 each, 92% of the 95% intervals contained the
    truth (SNIPS, doubly robust).

    Parameters
    ----------
    log : LoggedDecisions, length n
    policies : mapping of str to ndarray of float64, shape (n,)
        Each new policy's probability of the frontier tier: 0 or 1 for a deterministic router.
    features : ndarray of float64, shape (n, d), optional
        Inputs of the outcome model in the doubly robust estimator; without them the model is each
        tier's mean.
    outcome_model : callable, optional
        As in `cross_fitted`.
    replicates, seed : int
        For the bootstrap; the seed also assigns the folds.

    Raises
    ------
    ValueError
        If the number of probabilities differs from the number of rows, or one is outside [0, 1].
    """
    columns = {
        "outcome": log.outcome,
        "cost": np.full(len(log), np.nan) if log.cost is None else log.cost,
    }

    # The models of both columns are fitted for the first policy that needs them, and then shared.
    @cache
    def expected(name: str) -> Expected:
        column = columns[name]
        return cross_fitted(
            features, column, log.frontier, log.group, model=outcome_model, seed=seed
        )

    # One resampling for all policies and both columns: differences between them are paired.
    resampling = Resampling(log.group.tolist(), replicates, seed)
    found = {}
    for policy, new_frontier in policies.items():
        overlap = overlap_of(log, new_frontier)
        valuations = {
            name: _valuation(
                log,
                new_frontier,
                resampling,
                overlap.reason,
                column=name,
                values=values,
                expected=expected,
            )
            for name, values in columns.items()
        }
        found[policy] = OffPolicyEvaluation(overlap, **valuations)
    return found


def ips(importance: Floats, outcomes: Floats, weights: Floats) -> Floats:
    """Return the inverse propensity score estimate, mean of w r (Horvitz & Thompson 1952).

    Here w is the importance weight of a row and r its outcome.

    Parameters
    ----------
    importance : ndarray of float64, shape (n,)
        As `importance_weights` returns it.
    outcomes : ndarray of float64, shape (n,)
        Outcome of the tier that answered.
    weights : ndarray of float64, shape (b, n)
        Number of times that each row counts.

    Returns
    -------
    ndarray of float64, shape (b,)

    Examples
    --------
    >>> ips(np.array([2.0, 0.0, 2.0]), np.array([1.0, 1.0, 0.5]), np.ones((1, 3)))
    array([1.])
    """
    return weighted_mean(importance * outcomes, weights)


def snips(importance: Floats, outcomes: Floats, weights: Floats) -> Floats:
    """Return the self-normalised estimate, sum of w r / sum of w (Swaminathan & Joachims 2015).

    Unlike IPS it is a mean of outcomes: it is never outside their range, and adding a constant to
    all outcomes adds it to the estimate. NaN if all importance weights are 0. Parameters as in
    `ips`.

    Examples
    --------
    >>> snips(np.array([2.0, 0.0, 2.0]), np.array([1.0, 1.0, 0.5]), np.ones((1, 3)))
    array([0.75])
    """
    return weighted_mean(outcomes, weights * importance)


def doubly_robust(
    importance: Floats, outcomes: Floats, taken: Floats, new: Floats, weights: Floats
) -> Floats:
    """Return the doubly robust estimate, mean of m(new) + w (r - m(taken)).

    The outcome model m predicts, and the weighted residuals correct its bias (Dudík, Langford & Li
    2011). Other parameters as in `ips`.

    Parameters
    ----------
    taken, new : ndarray of float64, shape (n,)
        Expected outcome of the tier that answered, and under the new policy.

    Examples
    --------
    >>> one = np.ones(2)
    >>> doubly_robust(np.array([2.0, 0.0]), np.array([1.0, 0.0]), one / 2, one / 2, np.ones((1, 2)))
    array([1.])
    """
    return weighted_mean(new + importance * (outcomes - taken), weights)


def _valuation(
    log: LoggedDecisions,
    new_frontier: Floats,
    resampling: Resampling,
    reason: str | None,
    *,
    column: str,
    values: Floats,
    expected: Callable[[str], Expected],
) -> Valuation:
    """Estimate one column for one policy, or pass on the reason why the log cannot."""
    estimate, mean = resampling.estimate, partial(weighted_mean, values)
    missing = missing_values(values, column)
    logged = undefined(missing) if missing else estimate(mean, "")
    reason = missing or reason
    if reason:
        none = undefined(reason)
        return Valuation(logged, ips=none, snips=none, doubly_robust=none)
    importance = importance_weights(log, new_frontier)
    # The other two need no model, so they are valid even if a model has too few rows.
    try:
        model = expected(column)
    except UnfittedTierError as error:
        robust = undefined(str(error))
    else:
        taken, new = model.under(log.frontier), model.under(new_frontier)
        robust = estimate(partial(doubly_robust, importance, values, taken, new), "")
    return Valuation(
        logged,
        ips=estimate(partial(ips, importance, values), ""),
        snips=estimate(partial(snips, importance, values), ""),
        doubly_robust=robust,
    )
