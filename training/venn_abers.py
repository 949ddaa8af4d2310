"""A check of the calibration that assumes only a ranking: inductive Venn-Abers prediction."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats
from querytier.errors import MissingExtraError, TrainingError

__all__ = ["VennAbersCheck", "venn_abers_check"]


@dataclass(frozen=True, slots=True)
class VennAbersCheck:
    """Calibrated probabilities compared with the intervals [p0, p1] of Venn-Abers.

    Attributes
    ----------
    n : int
        Number of rows checked.
    mean_width : float
        Mean of p1 - p0, in [0, 1]: the uncertainty that the calibration rows leave.
    mean_distance : float
        Mean of |p - p1 / (1 - p0 + p1)|, in [0, 1].
    share_inside : float
        Share of the rows with p0 <= p <= p1, in [0, 1].
    """

    n: int
    mean_width: float
    mean_distance: float
    share_inside: float


def venn_abers_check(
    calibration_logits: Floats, labels: Floats, logits: Floats, p: Floats
) -> VennAbersCheck:
    """Compare calibrated probabilities with inductive Venn-Abers (Vovk & Petej 2014, UAI).

    p0 and p1 are isotonic regressions on the calibration rows and the row to check, labelled 0 and
    labelled 1; one of the two is perfectly calibrated. If p is outside most intervals, the form of
    the calibrator does not fit. If many labels are soft, p may be right outside the interval: the
    method supports neither soft labels nor weights. Labels become 0 or 1 at 0.5, labels of exactly
    0.5 are dropped, and every row counts once.

    Parameters
    ----------
    calibration_logits, labels : ndarray of float64, shape (n,)
        Log-odds before calibration, and labels in [0, 1].
    logits, p : ndarray of float64, shape (m,)
        Log-odds before calibration and calibrated probabilities of the rows to check.

    Raises
    ------
    TrainingError
        If every label is 0.5.
    MissingExtraError
        If venn-abers is not installed.
    """
    clear = labels != 0.5
    if not clear.any():
        raise TrainingError(
            f"all {len(labels)} calibration labels are 0.5, on neither side; add labelled rows"
        )
    low, high = _intervals(calibration_logits[clear], labels[clear] > 0.5, logits)
    return VennAbersCheck(
        n=len(p),
        mean_width=float(np.mean(high - low)),
        mean_distance=float(np.mean(np.abs(p - high / (1 - low + high)))),
        share_inside=float(np.mean((low <= p) & (p <= high))),
    )


def _intervals(
    calibration_logits: Floats, labels: NDArray[np.bool_], logits: Floats
) -> tuple[Floats, Floats]:
    # When imported, the package silences NumPy's errors for the whole process; it also divides by
    # zero, and warns of slices that are all NaN.
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            from venn_abers import VennAbers  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingExtraError("venn_abers", "train") from error
        # Only the order of the scores counts. Log-odds serve as well as probabilities, and tell
        # apart scores that would both be 1.0.
        model = VennAbers().fit(_two_columns(calibration_logits), labels.astype(np.float64))
        _, intervals = model.predict_proba(_two_columns(logits))
    return intervals[:, 0], intervals[:, 1]


def _two_columns(scores: Floats) -> Floats:
    return np.stack([-scores, scores], axis=1)
