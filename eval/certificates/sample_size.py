"""How many more labels would certify a cheap share, and what they cost."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from querytier.eval.certificates.losses import Losses
from querytier.eval.certificates.risk_bounds import fewest_without_failure
from querytier.eval.certificates.threshold_tests import candidate_thresholds
from querytier.eval.intervals import clopper_pearson

__all__ = ["Plan", "certifying_power", "groups_needed", "plan"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_MOST_GROUPS = 10_000_000
_OUTSIDE_SUM = 1e-9


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes to certify that a share of the queries goes cheap at a risk of at most alpha.

    Attributes
    ----------
    status : {"reachable", "unreachable"}
        By the estimated risk; `needed_high` tells whether its interval agrees.
    reason : str
    target_cheap_share, alpha, delta, power : float
    labelled : int
        Groups that are labelled and wait to be certified on.
    risk, risk_low, risk_high : float
        Estimated at the target share, with a 95% interval (Clopper & Pearson 1934).
    needed, needed_low, needed_high : int or None
        Groups that certify the share with this power if the risk is as estimated, or at either end
        of its interval; None where no number does.
    more : int or None
        How many of these are not labelled yet.
    price : float or None
        Of labelling them; None without a price per label.
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


def plan(
    losses: Losses,
    *,
    target_cheap_share: float,
    alpha: float,
    delta: float,
    labelled: int,
    seed: int,
    power: float = 0.8,
    price_per_label: float | None = None,
) -> Plan:
    """Say how many more labelled groups would certify a cheap share, and what they would cost.

    The power is that of the binomial test at the target share, over how many groups go cheap: that
    of `certify` with `first_share`. Where it starts from a smaller share, the tests before this
    one cost up to about 8 points of it, which 10 to 20% more groups make good.

    Parameters
    ----------
    losses : Losses
        Rows, labelled 0 or 1, that the classifier was not trained on; they estimate its risk. Those
        that a certificate will be based on must not be among them, or the plan, and with it the
        number of rows, depends on what they say.
    target_cheap_share : float
        In (0, 1].
    alpha, delta : float
        As in `certify`.
    labelled : int
        Groups of the certification split that no certificate was tried on yet; 0 or more.
    seed : int
        Which row of each group is taken.
    power : float
        Probability that the certificate is granted, in (0, 1).
    price_per_label : float, optional
        Of labelling one query: both answers, and their judgement.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or the losses are graded, or none.
    """
    _check(
        losses,
        share=target_cheap_share,
        alpha=alpha,
        delta=delta,
        power=power,
        labelled=labelled,
        price=price_per_label,
    )
    curve = _RiskCurve.of(losses.one_per_group(seed))
    failures, count = curve.at(target_cheap_share)
    low, high = clopper_pearson(failures, count)
    needed, at_low, at_high = (
        groups_needed(target_cheap_share, risk, alpha=alpha, delta=delta, power=power)
        for risk in (failures / count, low, high)
    )
    more = None if needed is None else max(0, needed - labelled)
    return Plan(
        status="unreachable" if needed is None else "reachable",
        reason=_reason(failures / count, target_cheap_share, alpha, needed, at_high),
        target_cheap_share=target_cheap_share,
        alpha=alpha,
        delta=delta,
        power=power,
        labelled=labelled,
        risk=failures / count,
        risk_low=low,
        risk_high=high,
        needed=needed,
        needed_low=at_low,
        needed_high=at_high,
        more=more,
        price=None if more is None or price_per_label is None else more * price_per_label,
        share_today=curve.largest_share(labelled, alpha, delta, power),
    )


def certifying_power(
    groups: int, cheap_share: float, risk: float, *, alpha: float, delta: float
) -> float:
    """Return the probability that the test at one threshold passes, exactly.

    Parameters
    ----------
    groups : int
        Certification rows, one per group; how many of them go cheap is binomial, and so is how many
        of those fail.
    cheap_share, risk : float
        Share that goes cheap, and share of that which fails; in [0, 1].
    alpha, delta : float
        In (0, 1).

    Examples
    --------
    >>> round(certifying_power(45, 1.0, 0.01, alpha=0.05, delta=0.1), 4) == round(0.99**45, 4)
    True
    """
    from scipy.stats import binom

    spread = binom(groups, cheap_share)
    sent = np.arange(spread.ppf(_OUTSIDE_SUM), spread.ppf(1 - _OUTSIDE_SUM) + 1)
    passes = binom.cdf(_most_failures(sent.astype(np.int64), alpha, delta), sent, risk)
    return float(spread.pmf(sent) @ passes)


def groups_needed(
    cheap_share: float, risk: float, *, alpha: float, delta: float, power: float
) -> int | None:
    """Return how many groups give the test at one threshold this power.

    Returns
    -------
    int or None
        None where the risk is not below alpha, or more than ten million groups would be needed.

    Examples
    --------
    >>> groups_needed(1.0, 0.0, alpha=0.05, delta=0.1, power=0.8)
    45
    """

    def enough(groups: int) -> bool:
        reached = certifying_power(groups, cheap_share, risk, alpha=alpha, delta=delta)
        return reached >= power

    if risk >= alpha:
        return None
    high = fewest_without_failure(alpha, delta)
    while not enough(high):
        high *= 2
        if high > _MOST_GROUPS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True, eq=False)
class _RiskCurve:
    """Failures and rows sent cheap at thresholds that send more and more cheap; shapes (k,)."""

    failures: Integers
    counts: Integers
    total: int

    @classmethod
    def of(cls, rows: Losses) -> "_RiskCurve":
        failures, counts = rows.totals(candidate_thresholds(rows.decision_scores))
        some = counts > 0
        return cls(failures[some].astype(np.int64), counts[some], len(rows))

    def at(self, share: float) -> tuple[int, int]:
        """Return failures and rows at the threshold whose cheap share is nearest."""
        nearest = int(np.argmin(np.abs(self.counts / self.total - share)))
        return int(self.failures[nearest]), int(self.counts[nearest])

    def largest_share(self, groups: int, alpha: float, delta: float, power: float) -> float | None:
        for failures, count in zip(self.failures[::-1], self.counts[::-1], strict=True):
            share, risk = float(count / self.total), float(failures / count)
            if risk < alpha and (
                certifying_power(groups, share, risk, alpha=alpha, delta=delta) >= power
            ):
                return share
        return None


def _most_failures(counts: Integers, alpha: float, delta: float) -> Integers:
    """Return the most failures with which the test at level delta passes; -1 where none does."""
    from scipy.stats import binom

    at_delta = binom.ppf(delta, counts, alpha)
    exactly = binom.cdf(at_delta, counts, alpha) <= delta
    return np.asarray(np.where(exactly, at_delta, at_delta - 1), dtype=np.int64)


def _reason(
    risk: float, share: float, alpha: float, needed: int | None, at_high: int | None
) -> str:
    estimate = f"the risk at a cheap share of {share:g} is estimated at {risk:.3f}"
    if risk >= alpha:
        return (
            f"{estimate}, not below alpha {alpha:g}: no number of labels certifies it; lower the "
            "share, take a larger alpha, or train a better classifier"
        )
    if needed is None:
        return (
            f"{estimate}, so near to alpha {alpha:g} that more than {_MOST_GROUPS:,} groups would "
            "be needed; lower the share, or take a larger alpha"
        )
    if at_high is None:
        return (
            f"{estimate}, below alpha {alpha:g}, but its 95% interval is not: it may be out of "
            "reach; lower the share, or estimate it from more rows"
        )
    return f"{estimate}, below alpha {alpha:g}"


def _check(
    losses: Losses,
    *,
    share: float,
    alpha: float,
    delta: float,
    power: float,
    labelled: int,
    price: float | None,
) -> None:
    for name, value in (("alpha", alpha), ("delta", delta), ("power", power)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value:g}; it has to lie between 0 and 1")
    if not 0 < share <= 1:
        raise ValueError(f"target_cheap_share is {share:g}; it has to lie in (0, 1]")
    if labelled < 0 or (price is not None and price < 0):
        raise ValueError(f"labelled is {labelled}, price_per_label {price}; both are 0 or more")
    if not len(losses) or not losses.binary:
        raise ValueError(
            f"{len(losses)} rows, with graded losses or none at all; plan by rows that are "
            "labelled 0 or 1"
        )
