"""Certificates: the threshold that sends the most traffic cheap at a risk that is promised.

Learn then Test (Angelopoulos et al. 2021) with fixed-sequence testing (Bauer 1991). Thresholds are
tested one after the other, each at the full level delta, until one fails; the last that passed is
certified. A promise is broken only if the first threshold of too high a risk passes, and its test
passes with probability delta at most. That holds if the order does not depend on the rows that the
tests look at: it is chosen on the calibration rows, the tests look at the certification rows.

How many certification rows a threshold sends to the cheap tier is random. Given which rows those
are, their losses are independent draws of one distribution, that of the loss of a query sent cheap,
whose mean is the risk: the number of failures is binomial, whatever their number, and the bound
exact. (Given the scores themselves the losses are independent too, but of unequal risks.)
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from querytier.eval.certificates.losses import Losses, RiskName
from querytier.eval.certificates.slices import SliceCertificate, slice_certificates
from querytier.eval.certificates.threshold_tests import ThresholdTests, sequence_of_thresholds

__all__ = ["Certification", "certify"]

_OUTSIDE_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class Certification:
    """What is promised about a threshold, or why nothing is.

    The promise: with probability at least 1 - delta over the certification rows, the mean loss of
    queries like them that the threshold sends to the cheap tier is at most alpha. It is about a
    random query of a random group, from the same traffic.

    Attributes
    ----------
    status : {"granted", "refused"}
    reason : str
    risk : {"needs_frontier", "quality_lost"}
    alpha, delta : float
    n : int
        Certification rows, one per group.
    k : float or None
        Sum of the losses of those that went cheap; failures, where losses are 0 or 1.
    sent_cheap : int or None
        How many went cheap.
    bound : float or None
        Upper bound of the risk at this threshold by itself; what is promised is alpha. When
        refused, `k`, `sent_cheap` and `bound` are those of the first threshold that was tested.
    threshold : float or None
        None where nothing is promised.
    coverage, coverage_low, coverage_high : float or None
        Cheap share, with a 95% interval that holds at all thresholds at once (Massart 1990), as
        the threshold was chosen on these rows.
    slices : tuple of SliceCertificate
        Of the slices that were named. All promises about slices hold together with probability at
        least 1 - delta.
    uncovered : tuple of str
        Slices of the certification rows about which nothing is promised.
    """

    status: Literal["granted", "refused"]
    reason: str
    risk: RiskName
    alpha: float
    delta: float
    n: int
    k: float | None = None
    sent_cheap: int | None = None
    bound: float | None = None
    threshold: float | None = None
    coverage: float | None = None
    coverage_low: float | None = None
    coverage_high: float | None = None
    slices: tuple[SliceCertificate, ...] = ()
    uncovered: tuple[str, ...] = ()

    @property
    def granted(self) -> bool:
        """Whether anything is promised."""
        return self.status == "granted"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        return asdict(self)


def certify(
    calibration: Losses,
    certification: Losses,
    *,
    alpha: float,
    delta: float,
    seed: int,
    slices: Sequence[str] = (),
    first_share: float | None = None,
    annotations_only: bool = False,
) -> Certification:
    """Choose the threshold that sends the most queries cheap at a risk of at most alpha.

    Certification rows prove one promise: who tries again, on more rows or with another alpha,
    until one is granted, has a delta for each time. Exact binomial tests where the calibration
    losses are 0 or 1, tests by betting where they are graded.

    Parameters
    ----------
    calibration : Losses
        Rows that choose the order of the tests.
    certification : Losses
        Rows that were used for nothing else.
    alpha, delta : float
        Largest risk, and the largest chance that the promise is wrong; both in (0, 1).
    seed : int
        Which row of each group is taken, and the order of the rows.
    slices : sequence of str
        Names of slices that get a promise of their own; delta is divided between them.
    first_share : float, optional
        Cheap share, in (0, 1], that the tests start from; it needs the rows that `plan` says, and
        nothing less is certified. Without, the start most likely to pass by the calibration rows.
    annotations_only : bool
        Whether the labels are somebody's opinion of the queries; nothing is certified on those.

    Raises
    ------
    ValueError
        If alpha, delta or `first_share` is out of its range, or the two speak of different risks.
    """
    _check(calibration, certification, alpha, delta, first_share)
    rows = certification.one_per_group(seed)
    tests = ThresholdTests(alpha, delta, exact=calibration.binary)
    reason = _unfit(calibration, certification, rows, tests, annotations_only=annotations_only)
    if reason is not None:
        return _refused(reason, rows, tests)
    thresholds = sequence_of_thresholds(calibration, tests, len(rows), first_share)
    passed = tests.passed(rows, thresholds)
    if not passed:
        return _none_qualifies(rows, tests, float(thresholds[0]))
    parts = slice_certificates(
        calibration, rows, tests, thresholds=thresholds, passed=passed, names=slices
    )
    return _granted(rows, tests, float(thresholds[passed - 1]), parts)


def _check(
    calibration: Losses,
    certification: Losses,
    alpha: float,
    delta: float,
    first_share: float | None,
) -> None:
    for name, value in (("alpha", alpha), ("delta", delta)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value:g}; it has to lie between 0 and 1")
    if first_share is not None and not 0 < first_share <= 1:
        raise ValueError(f"first_share is {first_share:g}; it has to lie in (0, 1]")
    if calibration.risk != certification.risk:
        raise ValueError(
            f"calibration speaks of {calibration.risk}, certification of {certification.risk}; "
            "measure both by one risk"
        )


def _unfit(
    calibration: Losses,
    certification: Losses,
    rows: Losses,
    tests: ThresholdTests,
    *,
    annotations_only: bool,
) -> str | None:
    """Return why nothing can be tested on these rows, if so."""
    if annotations_only:
        return (
            "the labels are annotations: somebody's opinion of the queries, not outcomes of the "
            "two tiers; certify on a log that tells how good both answers were"
        )
    return (
        _too_few(calibration, rows, tests)
        or _shared_groups(calibration, certification)
        or _one_class(calibration, rows)
        or _one_score(calibration)
        or _kinds_differ(rows, tests)
    )


def _too_few(calibration: Losses, rows: Losses, tests: ThresholdTests) -> str | None:
    for name, count in (("calibration", len(calibration)), ("certification", len(rows))):
        if count < tests.fewest:
            return (
                f"{count} {name} rows in groups of their own; a risk of at most {tests.alpha:g} at "
                f"delta {tests.delta:g} takes {tests.fewest} sent cheap without one failure; label "
                f"at least {tests.fewest - count} more groups, or take a larger alpha"
            )
    return None


def _shared_groups(calibration: Losses, certification: Losses) -> str | None:
    shared = np.intersect1d(calibration.groups.astype(str), certification.groups.astype(str))
    if not len(shared):
        return None
    return (
        f"{len(shared)} groups are among the calibration and the certification rows (the first is "
        f"{str(shared[0])!r}); give every group one split"
    )


def _one_class(calibration: Losses, rows: Losses) -> str | None:
    values = np.concatenate([calibration.values, rows.values])
    if values.min() < values.max():
        return None
    return (
        f"all {len(values)} calibration and certification rows have {rows.risk} {values[0]:g}; "
        "risk cannot be told from one class: check the label rule and the success threshold"
    )


def _one_score(calibration: Losses) -> str | None:
    scores = calibration.decision_scores
    if scores.min() < scores.max():
        return None
    return (
        f"all {len(scores)} calibration rows have the decision score {scores[0]:g}; no threshold "
        "tells them apart: train on more examples"
    )


def _kinds_differ(rows: Losses, tests: ThresholdTests) -> str | None:
    if rows.binary or not tests.exact:
        return None
    graded = rows.values[(rows.values > 0) & (rows.values < 1)]
    return (
        f"{rows.risk} is 0 or 1 in every calibration row and {graded[0]:g} in a certification row; "
        "label both by the same rule"
    )


def _refused(reason: str, rows: Losses, tests: ThresholdTests, **tested: Any) -> Certification:
    return Certification(
        status="refused",
        reason=reason,
        risk=rows.risk,
        alpha=tests.alpha,
        delta=tests.delta,
        n=len(rows),
        uncovered=_names(rows),
        **tested,
    )


def _none_qualifies(rows: Losses, tests: ThresholdTests, threshold: float) -> Certification:
    sent = rows.sent_cheap(threshold)
    bound = tests.bound(rows, threshold)
    reason = (
        f"no threshold qualifies: at the first one tested, chosen on calibration rows, "
        f"{len(sent)} of {len(rows)} rows go cheap and lose {sent.sum():g}, so the risk may be "
        f"{bound:.3f}, above alpha {tests.alpha:g}; take a larger alpha, or label more groups"
    )
    return _refused(reason, rows, tests, k=float(sent.sum()), sent_cheap=len(sent), bound=bound)


def _granted(
    rows: Losses,
    tests: ThresholdTests,
    threshold: float,
    slices: tuple[SliceCertificate, ...],
) -> Certification:
    sent = rows.sent_cheap(threshold)
    coverage = len(sent) / len(rows)
    covered = {one.name for one in slices if one.status == "granted"}
    margin = math.sqrt(math.log(2 / _OUTSIDE_INTERVAL) / (2 * len(rows)))
    return Certification(
        status="granted",
        reason=(
            f"{rows.risk} among queries sent cheap is at most {tests.alpha:g}, with probability "
            f"{1 - tests.delta:g}: {sent.sum():g} lost on {len(sent)} rows"
        ),
        risk=rows.risk,
        alpha=tests.alpha,
        delta=tests.delta,
        n=len(rows),
        k=float(sent.sum()),
        sent_cheap=len(sent),
        bound=tests.bound(rows, threshold),
        threshold=threshold,
        coverage=coverage,
        coverage_low=max(0.0, coverage - margin),
        coverage_high=min(1.0, coverage + margin),
        slices=slices,
        uncovered=tuple(name for name in _names(rows) if name not in covered),
    )


def _names(rows: Losses) -> tuple[str, ...]:
    return tuple(np.unique(rows.slices.astype(str)).tolist())
