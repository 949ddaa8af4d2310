"""Score and cost of the served decisions, the previous champion and constants, on one set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from population import CHEAP_COST, FRONTIER_COST
from router import Answered

from querytier.eval.gate.matched_cost import frontier_shares
from querytier.eval.intervals import Estimate, Resampling, difference
from querytier.serve import Router

__all__ = ["Account", "account", "account_table"]

Floats = NDArray[np.float64]
_REPLICATES = 1000


@dataclass(frozen=True)
class Account:
    """Mean score and cost of a policy.

    Attributes
    ----------
    name : str
    quality : Estimate
    lead : Estimate or None
        Score of the served decisions minus that of this policy; None for the served decisions.
    cost : float
        Dollars per thousand queries.
    """

    name: str
    quality: Estimate
    lead: Estimate | None
    cost: float


def account(answered: Sequence[Answered], before: Router) -> list[Account]:
    """Return the served and the other policies; all but the constants have its frontier rate.

    A tier's answers all cost the same here, so an equal rate is an equal cost.

    Parameters
    ----------
    answered : sequence of Answered
    before : querytier.serve.Router
        Router of the previous champion.
    """
    cheap = np.array([one.query.cheap_score for one in answered])
    gains = np.array([one.query.frontier_score for one in answered]) - cheap
    served = np.array([one.tier == "frontier" for one in answered], dtype=float)
    scores = np.array([before.decide(one.query.text).decision_score for one in answered])
    rate = float(served.mean())

    def as_before(weights: Floats) -> Floats:
        return frontier_shares(scores, weights @ served / weights.sum(axis=1), weights)

    policies: list[tuple[str, Callable[[Floats], Floats], float]] = [
        ("as served", lambda _: served, rate),
        ("the previous champion, at this rate", as_before, rate),
        ("random, at this rate", lambda w: (w @ served / w.sum(axis=1))[:, None], rate),
        ("always cheap", lambda _: np.zeros_like(served), 0.0),
        ("always frontier", lambda _: np.ones_like(served), 1.0),
    ]
    resampling = Resampling([one.query.conversation for one in answered], _REPLICATES, 1)
    quality = [_estimate(resampling, shares, cheap, gains) for _, shares, _ in policies]
    return [
        Account(
            name,
            found,
            None if place == 0 else difference(quality[0], found),
            1000 * (CHEAP_COST + at * (FRONTIER_COST - CHEAP_COST)),
        )
        for place, ((name, _, at), found) in enumerate(zip(policies, quality, strict=True))
    ]


def account_table(accounts: Sequence[Account]) -> str:
    """Return the accounts as a table of text."""
    lines = [f"{'policy':<36}{'mean score':>24}{'served is better by':>28}{'$ per 1,000':>13}"]
    for one in accounts:
        lead = "" if one.lead is None else _interval(one.lead, "+.3f")
        lines.append(
            f"{one.name:<36}{_interval(one.quality, '.3f'):>24}{lead:>28}{one.cost:>13.2f}"
        )
    return "\n".join(lines)


def _estimate(
    resampling: Resampling, shares: Callable[[Floats], Floats], cheap: Floats, gains: Floats
) -> Estimate:
    def mean_score(weights: Floats) -> Floats:
        return np.asarray(
            (weights * (cheap + shares(weights) * gains)).sum(axis=1) / weights.sum(axis=1)
        )

    return resampling.estimate(mean_score, "no rows")


def _interval(estimate: Estimate, form: str) -> str:
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"
