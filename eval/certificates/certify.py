"""Certificates: the threshold that sends the most traffic cheap within a promised risk.

Learn then Test (Angelopoulos et al. 2021) with fixed-sequence testing (Bauer 1991). Thresholds are
tested one after the other, each at the full level delta, until one fails; the last that passed is
certified. A promise is broken only if the first threshold of too high a risk passes, and its test
passes with a probability of at most delta. So delta is not divided by the number of thresholds, as
long as their order does not depend on the rows that are tested: the calibration rows choose the
order, and the tests use the certification rows.

The number of certification rows that a threshold sends to the cheap tier is random. Given these
rows, their losses are independent draws from one distribution: the loss of a query sent cheap,
whose mean is the risk. So the number of failures is binomial, whatever the number of rows, and the
bound is exact. (Given the scores themselves, the losses are independent too, but their risks
differ.)
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from querytier.eval.certificates.losses import Losses, RiskName
from querytier.eval.certificates.slices import SliceCertificate, slice_certificates
from querytier.eval.certificates.threshold_tests import ThresholdTests, sequence_of_thresholds

__all__ = ["Certification", "certify"]

_OUTSIDE_INTERVAL = 0.05
_ANNOTATIONS = (
    "the labels are annotations: somebody's opinion of the queries, not outcomes of the two tiers; "
    "certify on a log that has scores of both answers"
)


@dataclass(frozen=True, slots=True)
class Certification:
    """The promise about a threshold, or the reason why there is none.

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
        Sum of the losses of the rows that went cheap; number of failures, if losses are 0 or 1.
    sent_cheap : int or None
        Number of rows that went cheap.
    bound : float or None
        Upper bound of the risk at this threshold by itself; the promise is alpha. When refused,
        `k`, `sent_cheap` and `bound` are those of the first threshold that was tested.
    threshold : float or None
        None if nothing is promised.
    coverage, coverage_low, coverage_high : float or None
        Cheap share, with a 95% interval that holds at all thresholds at once (Massart 1990), as
        the threshold was chosen on these rows.
    slices : tuple of SliceCertificate
        Certificates of the slices that were named. All promises about slices hold together with
        probability at least 1 - delta.
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

    Certification rows prove one promise. Trying again, on more rows or with another alpha, until
    one is granted, adds a delta for each attempt. The tests are exact binomial ones if the
    calibration losses are 0 or 1, and tests by betting if they are graded.

    Parameters
    ----------
    calibration : Losses
        Rows that choose the order of the tests.
    certification : Losses
        Rows that were used for nothing else.
    alpha, delta : float
        Largest risk, and the largest probability that the promise is wrong; both in (0, 1).
    seed : int
        Decides which row of each group counts, and the order of the rows.
    slices : sequence of str
        Names of slices that get their own promise; delta is divided between them.
    first_share : float, optional
        Cheap share, in (0, 1], that the tests start from; it needs the rows that `sample_size`
        returns, and nothing less is certified. Without it, the tests start where the calibration
        rows are most likely to pass.
    annotations_only : bool
        Whether the labels are somebody's opinion of the queries; such labels certify nothing.

    Raises
    ------
    ValueError
        If alpha, delta or `first_share` is out of its range, or the two sets have different risks.
    """
    # The calibration rows choose the test; if the certification rows did, it would not be exact.
    tests = ThresholdTests(alpha, delta, exact=calibration.binary)
    if first_share is not None and not 0 < first_share <= 1:
        raise ValueError(f"first_share is {first_share:g}; it must be in (0, 1]")
    if calibration.risk != certification.risk:
        raise ValueError(
            f"calibration measures {calibration.risk}, certification {certification.risk}; "
            "measure the same risk on both"
        )
    # Rows of a group are not independent: otherwise fifty copies of a query would be fifty proofs.
    rows = certification.one_per_group(seed)
    refused = Certification(
        "refused", "", rows.risk, alpha, delta, len(rows), uncovered=_names(rows)
    )
    if annotations_only:
        return replace(refused, reason=_ANNOTATIONS)
    for reason in _obstacles(calibration, certification, rows, tests):
        return replace(refused, reason=reason)
    thresholds = sequence_of_thresholds(calibration, tests, len(rows), first_share)
    passed = tests.passed(rows, thresholds)
    threshold = float(thresholds[max(0, passed - 1)])
    sent, bound = rows.sent_cheap(threshold), tests.bound(rows, threshold)
    tested = replace(refused, k=float(sent.sum()), sent_cheap=len(sent), bound=bound)
    if not passed:
        return replace(tested, reason=_none_qualifies(tested))
    parts = slice_certificates(
        calibration, rows, tests, thresholds=thresholds, passed=passed, names=slices
    )
    # Dvoretzky-Kiefer-Wolfowitz with Massart's constant: valid at all thresholds at once. The
    # certified threshold was chosen on these rows, so a binomial interval at it alone would be too
    # narrow.
    covered = {one.name for one in parts if one.status == "granted"}
    coverage = len(sent) / len(rows)
    margin = math.sqrt(math.log(2 / _OUTSIDE_INTERVAL) / (2 * len(rows)))
    return replace(
        tested,
        status="granted",
        reason=(
            f"{rows.risk} among queries sent cheap is at most {alpha:g}, with probability "
            f"{1 - delta:g}: {sent.sum():g} lost on {len(sent)} rows"
        ),
        threshold=threshold,
        coverage=coverage,
        coverage_low=max(0.0, coverage - margin),
        coverage_high=min(1.0, coverage + margin),
        slices=parts,
        uncovered=tuple(name for name in tested.uncovered if name not in covered),
    )


def _obstacles(
    calibration: Losses, certification: Losses, rows: Losses, tests: ThresholdTests
) -> Iterator[str]:
    """Yield why nothing can be tested on these rows, with the cure."""
    for name, count in (("calibration", len(calibration)), ("certification", len(rows))):
        if count < tests.fewest:
            yield (
                f"{count} {name} rows in separate groups; a risk of at most {tests.alpha:g} at "
                f"delta {tests.delta:g} needs {tests.fewest} sent cheap without one failure; label "
                f"at least {tests.fewest - count} more groups, or choose a larger alpha"
            )
    # A group on both sides would make the order depend on rows that are tested.
    shared = np.intersect1d(calibration.groups.astype(str), certification.groups.astype(str))
    if len(shared):
        yield (
            f"{len(shared)} groups are among the calibration and the certification rows (the first "
            f"is {str(shared[0])!r}); give every group one split"
        )
    values = np.concatenate([calibration.values, rows.values])
    if values.min() == values.max():
        yield (
            f"all {len(values)} calibration and certification rows have {rows.risk} {values[0]:g}; "
            "one class shows no risk: check the label rule and the success threshold"
        )
    scores = calibration.decision_scores
    if scores.min() == scores.max():
        yield (
            f"all {len(scores)} calibration rows have the decision score {scores[0]:g}; no "
            "threshold separates them: train on more examples"
        )
    if tests.exact and not rows.binary:
        graded = rows.values[(rows.values > 0) & (rows.values < 1)]
        yield (
            f"{rows.risk} is 0 or 1 in every calibration row and {graded[0]:g} in a certification "
            "row; label both by the same rule"
        )


def _none_qualifies(tested: Certification) -> str:
    return (
        f"no threshold qualifies: at the first one tested, chosen on calibration rows, "
        f"{tested.sent_cheap} of {tested.n} rows go cheap and lose {tested.k:g}, so the risk may "
        f"be {tested.bound:.3f}, above alpha {tested.alpha:g}; choose a larger alpha, or label "
        "more groups"
    )


def _names(rows: Losses) -> tuple[str, ...]:
    return tuple(np.unique(rows.slices.astype(str)).tolist())
