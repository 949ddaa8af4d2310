"""A check on calibration that assumes nothing but a ranking: inductive Venn-Abers prediction."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.errors import MissingExtraError, TrainingError

__all__ = ["VennAbersCheck", "venn_abers_check"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VennAbersCheck:
    """How calibrated probabilities lie to the pairs p0 <= p1 of Venn-Abers.

    Attributes
    ----------
    n : int
        Asked rows.
    mean_width : float
        Of p1 - p0, in [0, 1]: how little the calibration rows know.
    mean_distance : float
        Of |p - p1 / (1 - p0 + p1)|, in [0, 1].
    share_inside : float
        Share of asked rows with p0 <= p <= p1, in [0, 1].
    """

    n: int
    mean_width: float
    mean_distance: float
    share_inside: float


def venn_abers_check(
    calibration_logits: Floats, labels: Floats, asked_logits: Floats, p: Floats
) -> VennAbersCheck:
    """Compare calibrated probabilities with inductive Venn-Abers (Vovk & Petej 2014, UAI).

    p0 and p1 are isotonic regressions on the calibration rows and the asked one, labelled 0 and
    labelled 1; one of them is perfectly calibrated. A p outside most of the pairs says that the
    calibrator's form does not fit. The method knows neither soft labels nor weights: labels are cut
    at 0.5, those of exactly 0.5 are dropped, and every row counts once; where many labels are soft,
    p may rightly lie elsewhere.

    Parameters
    ----------
    calibration_logits, labels : ndarray of float64, shape (n,)
        Log-odds before calibration, and labels in [0, 1].
    asked_logits, p : ndarray of float64, shape (m,)
        Log-odds before calibration, and calibrated probabilities.

    Raises
    ------
    TrainingError
        If every label is 0.5.
    MissingExtraError
        If venn-abers is not installed.
    """
    cut = labels != 0.5
    if not cut.any():
        raise TrainingError(
            f"all {len(labels)} calibration labels are 0.5, on neither side; add labelled rows"
        )
    low, high = _pairs(calibration_logits[cut], labels[cut] > 0.5, asked_logits)
    return VennAbersCheck(
        n=len(p),
        mean_width=float(np.mean(high - low)),
        mean_distance=float(np.mean(np.abs(p - high / (1 - low + high)))),
        share_inside=float(np.mean((low <= p) & (p <= high))),
    )


def _pairs(
    calibration_logits: Floats, labels: NDArray[np.bool_], asked_logits: Floats
) -> tuple[Floats, Floats]:
    # The package mutes numpy's errors for the whole process when imported, divides by zero, and
    # warns of slices that are all NaN.
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            from venn_abers import VennAbers  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingExtraError("venn_abers", "train") from error
        # Only the order of the scores counts: log-odds do as well as probabilities, and keep apart
        # what would be 1.0 twice.
        model = VennAbers().fit(_two_columns(calibration_logits), labels.astype(np.float64))
        _, pairs = model.predict_proba(_two_columns(asked_logits))
    return pairs[:, 0], pairs[:, 1]


def _two_columns(scores: Floats) -> Floats:
    return np.stack([-scores, scores], axis=1)
