"""Slice certificates: whether the certified threshold keeps its promise on a slice, too."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from querytier.data.arrays import Floats
from querytier.eval.certificates.losses import Losses
from querytier.eval.certificates.threshold_tests import ThresholdTests

__all__ = ["SliceCertificate", "slice_certificates"]


@dataclass(frozen=True, slots=True)
class SliceCertificate:
    """Whether the certified threshold keeps its promise on one slice of the queries, too.

    Attributes
    ----------
    name : str
    status : {"granted", "refused"}
    reason : str
    k : float
        Sum of the losses of the slice's rows that went cheap; number of failures, if losses are 0
        or 1.
    sent_cheap : int
        Number of those rows.
    bound : float
        Upper bound of the slice's risk, at the slice's part of delta.
    """

    name: str
    status: Literal["granted", "refused"]
    reason: str
    k: float
    sent_cheap: int
    bound: float


def slice_certificates(
    calibration: Losses,
    rows: Losses,
    tests: ThresholdTests,
    *,
    thresholds: Floats,
    passed: int,
    names: Sequence[str],
) -> tuple[SliceCertificate, ...]:
    """Test the last threshold that passed on each slice named.

    The threshold was chosen on the same rows, so each slice is tested at its own sequence of
    thresholds, from a start that the calibration rows choose up to that threshold. Its p-value is
    the largest of the sequence. Delta is divided by the number of slices (Bonferroni). Holm's
    method is not valid here, because the threshold chosen decides which slices break the promise.

    Parameters
    ----------
    calibration, rows : Losses
        Rows that choose the starts, and rows, one per group, that are tested.
    tests : ThresholdTests
    thresholds : ndarray of float64, shape (k,)
        In the order of their tests.
    passed : int
        Number of thresholds that passed; at least 1.
    names : sequence of str
    """
    distinct = tuple(dict.fromkeys(names))
    if not distinct:
        return ()
    # Not the slice's own best threshold: one router has one threshold, and the question is whether
    # that one is safe for the slice, too.
    divided = replace(tests, delta=tests.delta / len(distinct))
    expected = max(1, tests.passed(calibration, thresholds))
    found = []
    for name in distinct:
        p_values = divided.log_p_values(calibration.of_slice(name), thresholds[:expected])
        sequence = thresholds[int(np.argmin(p_values)) : passed]
        found.append(_tested(name, rows.of_slice(name), divided, sequence, thresholds[passed - 1]))
    return tuple(found)


def _tested(
    name: str, rows: Losses, tests: ThresholdTests, sequence: Floats, threshold: float
) -> SliceCertificate:
    sent = rows.sent_cheap(threshold)
    passes = len(sequence) > 0 and tests.passed(rows, sequence) == len(sequence)
    bound = tests.bound(rows, threshold)
    return SliceCertificate(
        name=name,
        status="granted" if passes else "refused",
        reason=_reason(passes, len(sent), bound, tests),
        k=float(sent.sum()),
        sent_cheap=len(sent),
        bound=bound,
    )


def _reason(passes: bool, count: int, bound: float, tests: ThresholdTests) -> str:
    level = f"alpha {tests.alpha:g} at delta {tests.delta:g}"
    if passes:
        return f"risk at most {level}"
    if count < tests.fewest:
        return (
            f"{count} rows sent cheap, fewer than the {tests.fewest} that show {level} without one "
            "failure; label more of this slice, or name fewer slices"
        )
    if bound > tests.alpha:
        return f"the risk may be {bound:.3f}, above {level}; label more of this slice"
    return f"a stricter threshold failed {level} on this slice first; label more of this slice"
