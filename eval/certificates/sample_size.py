"""Sample size: how many more labels would certify a cheap share, and what they cost."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from querytier.data.arrays import Integers
from querytier.eval.certificates.losses import Losses
from querytier.eval.certificates.threshold_tests import ThresholdTests, candidate_thresholds
from querytier.eval.intervals import clopper_pearson

__all__ = ["SampleSize", "certifying_power", "groups_needed", "sample_size"]


_MOST_GROUPS = 10_000_000
# Tails of the number sent cheap that the power ignores; they cannot change its third digit.
_OUTSIDE_SUM = 1e-9


@dataclass(frozen=True, slots=True)
class SampleSize:
    """The number of labels needed to certify a cheap share at a risk of at most alpha.

    Attributes
    ----------
    status : {"reachable", "unreachable"}
        According to the estimated risk; `needed_high` shows whether its interval agrees.
    reason : str
    target_cheap_share, alpha, delta, power : float
    labelled : int
        Number of labelled groups on which no certificate was tried yet.
    risk, risk_low, risk_high : float
        Estimated risk at the target share, with a 95% interval (Clopper & Pearson 1934).
    needed, needed_low, needed_high : int or None
        Number of groups that certify the share with this power if the risk is as estimated, or at
        either end of its interval; None if no number does.
    more : int or None
        Number of these groups that are not labelled yet.
    price : float or None
        Price of labelling them; None without a price per label.
    share_today : float or None
        Largest cheap share that the labelled groups certify with this power; None if none.
    """

    status: Literal["reachable", "unreachable"]
    reason: str
    target_cheap_share: float
    alpha: float
    delta: float
    power: float
    labelled: int
    risk: float
    risk_low: float
    risk_high: float
    needed: int | None
    needed_low: int | None
    needed_high: int | None
    more: int | None
    price: float | None
    share_today: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return asdict(self)


def sample_size(
    losses: Losses,
    *,
    target_cheap_share: float,
    alpha: float,
    delta: float,
    labelled: int,
    seed: int,
    power: float = 0.8,
    price_per_label: float | None = None,
) -> SampleSize:
    """Return how many more labelled groups would certify a cheap share, and what they would cost.

    The power is that of the binomial test at the target share, averaged over the number of groups
    that go cheap: the power of `certify` with `first_share`. If the tests start from a smaller
    share, the earlier tests cost up to about 8 points of power, which 10 to 20% more groups make up
    for.

    Parameters
    ----------
    losses : Losses
        Rows, labelled 0 or 1, that the classifier was not trained on; they estimate its risk. The
        rows that a certificate will be based on must not be among them: a sample size that depends
        on their losses makes the certificate's own level wrong.
    target_cheap_share : float
        In (0, 1].
    alpha, delta : float
        As in `certify`.
    labelled : int
        Number of groups of the certification split on which no certificate was tried yet; 0 or
        more.
    seed : int
        Decides which row of each group counts.
    power : float
        Probability that the certificate is granted, in (0, 1).
    price_per_label : float, optional
        Price of labelling one query: both answers, and their judgement.

    Raises
    ------
    ValueError
        If a parameter is out of its range, losses are graded, or there are none.
    """
    tests = ThresholdTests(alpha, delta, exact=True)
    if not 0 < power < 1:
        raise ValueError(f"power is {power:g}; it must be between 0 and 1")
    if not 0 < target_cheap_share <= 1:
        raise ValueError(f"target_cheap_share is {target_cheap_share:g}; it must be in (0, 1]")
    if labelled < 0 or (price_per_label or 0) < 0:
        raise ValueError(
            f"labelled is {labelled}, price_per_label {price_per_label}; both must be 0 or more"
        )
    if not len(losses) or not losses.binary:
        raise ValueError(
            f"{len(losses)} rows, with graded losses or none at all; estimate the risk from rows "
            "that are labelled 0 or 1"
        )
    rows = losses.one_per_group(seed)
    failures, counts = rows.totals(candidate_thresholds(rows.decision_scores))
    failures, counts = failures[counts > 0], counts[counts > 0]
    shares, risks = counts / len(rows), failures / counts
    nearest = int(np.argmin(np.abs(shares - target_cheap_share)))
    risk = float(risks[nearest])
    low, high = clopper_pearson(float(failures[nearest]), int(counts[nearest]))
    needed, at_low, at_high = (
        groups_needed(target_cheap_share, one, tests, power) for one in (risk, low, high)
    )
    today = next(
        (
            float(share)
            for share, one in zip(shares[::-1], risks[::-1], strict=True)
            if one < alpha and certifying_power(labelled, share, one, tests) >= power
        ),
        None,
    )
    more = None if needed is None else max(0, needed - labelled)
    return SampleSize(
        status="unreachable" if needed is None else "reachable",
        reason=_reason(risk, target_cheap_share, alpha, needed, at_high),
        target_cheap_share=target_cheap_share,
        alpha=alpha,
        delta=delta,
        power=power,
        labelled=labelled,
        risk=risk,
        risk_low=low,
        risk_high=high,
        needed=needed,
        needed_low=at_low,
        needed_high=at_high,
        more=more,
        price=None if more is None or price_per_label is None else more * price_per_label,
        share_today=today,
    )


def certifying_power(groups: int, cheap_share: float, risk: float, tests: ThresholdTests) -> float:
    """Return the probability that the exact test at one threshold passes.

    Parameters
    ----------
    groups : int
        Number of certification rows, one per group. The number that go cheap is binomial, and so is
        the number of those that fail.
    cheap_share, risk : float
        Share of the rows that go cheap, and share of those that fail; in [0, 1].
    tests : ThresholdTests

    Examples
    --------
    >>> tests = ThresholdTests(alpha=0.05, delta=0.1, exact=True)
    >>> round(certifying_power(45, 1.0, 0.01, tests), 4) == round(0.99**45, 4)
    True
    """
    from scipy.stats import binom

    spread = binom(groups, cheap_share)
    sent = np.arange(spread.ppf(_OUTSIDE_SUM), spread.ppf(1 - _OUTSIDE_SUM) + 1)
    passes = binom.cdf(_most_failures(sent.astype(np.int64), tests), sent, risk)
    return float(spread.pmf(sent) @ passes)


def groups_needed(
    cheap_share: float, risk: float, tests: ThresholdTests, power: float
) -> int | None:
    """Return the number of groups that give the test at one threshold this power.

    Returns
    -------
    int or None
        None if the risk is not below alpha, or more than ten million groups would be needed.

    Examples
    --------
    >>> groups_needed(1.0, 0.0, ThresholdTests(alpha=0.05, delta=0.1, exact=True), power=0.8)
    45
    """

    def enough(groups: int) -> bool:
        return certifying_power(groups, cheap_share, risk, tests) >= power

    if risk >= tests.alpha:
        return None
    high = tests.fewest
    while not enough(high):
        high *= 2
        if high > _MOST_GROUPS:
            return None
    # Power is not quite monotonic, as the number of failures allowed is an integer: this finds a
    # number of groups that reaches it while one group fewer does not, not always the smallest one.
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _most_failures(counts: Integers, tests: ThresholdTests) -> Integers:
    """Return the most failures with which the test at level delta passes; -1 if none does."""
    from scipy.stats import binom

    at_delta = binom.ppf(tests.delta, counts, tests.alpha)
    # ppf is the smallest number whose cdf reaches delta; the test wants cdf <= delta.
    exactly = binom.cdf(at_delta, counts, tests.alpha) <= tests.delta
    return np.asarray(np.where(exactly, at_delta, at_delta - 1), dtype=np.int64)


def _reason(
    risk: float, share: float, alpha: float, needed: int | None, at_high: int | None
) -> str:
    estimate = f"the risk at a cheap share of {share:g} is estimated at {risk:.3f}"
    if risk >= alpha:
        return (
            f"{estimate}, not below alpha {alpha:g}: no number of labels certifies it; lower the "
            "share, choose a larger alpha, or train a better classifier"
        )
    if needed is None:
        return (
            f"{estimate}, so close to alpha {alpha:g} that more than {_MOST_GROUPS:,} groups would "
            "be needed; lower the share, or choose a larger alpha"
        )
    if at_high is None:
        return (
            f"{estimate}, below alpha {alpha:g}, but its 95% interval is not: it may be out of "
            "reach; lower the share, or estimate it from more rows"
        )
    return f"{estimate}, below alpha {alpha:g}"
