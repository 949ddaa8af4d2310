"""The fitted classifier: chosen, calibrated, with its threshold, and kept between stages."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.head import LinearHead
from querytier.data.examples import Examples
from querytier.training.baselines import Labelled
from querytier.training.candidates import Candidate, choose, cross_validate
from querytier.training.fitting import check_both_classes, fit_head, fit_platt

__all__ = ["Calibration", "Fitted", "fit_classifier", "threshold_for"]

Floats = NDArray[np.float64]

_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Calibration:
    """How log-odds became probabilities.

    Attributes
    ----------
    method : str
    rows : str
        Which rows it was fitted on.
    n : int
    slope, offset : float
        Calibrated log-odds are slope * log-odds + offset.
    """

    method: str
    rows: str
    n: int
    slope: float
    offset: float


@dataclass(frozen=True, eq=False)
class Fitted:
    """A classifier ready for export.

    Attributes
    ----------
    head : LinearHead
        Calibration included.
    threshold : float
    target_frontier_rate : float
    chosen : str
        Name of the chosen candidate.
    calibration : Calibration
    candidates : sequence of dict
        `Candidate.record` of each.
    """

    head: LinearHead
    threshold: float
    target_frontier_rate: float
    chosen: str
    calibration: Calibration
    candidates: Sequence[dict[str, Any]]

    def write(self, folder: Path) -> None:
        """Write `head.npz` and `fitted.json` into an existing folder."""
        np.savez(
            folder / "head.npz",
            coefficients=self.head.coefficients,
            intercept=np.array(self.head.intercept),
        )
        content = {
            "threshold": self.threshold,
            "target_frontier_rate": self.target_frontier_rate,
            "chosen": self.chosen,
            "calibration": asdict(self.calibration),
            "candidates": list(self.candidates),
        }
        (folder / "fitted.json").write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Fitted":
        """Read what `write` wrote."""
        content = json.loads((folder / "fitted.json").read_text())
        with np.load(folder / "head.npz") as arrays:
            head = LinearHead(arrays["coefficients"], float(arrays["intercept"]))
        calibration = Calibration(**content.pop("calibration"))
        return cls(head=head, calibration=calibration, **content)


def fit_classifier(
    labelled: Labelled,
    *,
    regularisation: Sequence[float],
    folds: int,
    target_frontier_rate: float,
    seed: int,
) -> Fitted:
    """Choose, fit and calibrate a classifier.

    Where the examples have a calibration role, Platt scaling and the threshold come from it;
    otherwise (few rows) both come from out-of-fold log-odds of the training role.

    Parameters
    ----------
    labelled : Labelled
        Rows of the training and calibration roles; others are not looked at.
    regularisation : sequence of float
    folds : int
    target_frontier_rate : float
        Share of the queries, in (0, 1), that the threshold sends to the frontier tier.
    seed : int

    Raises
    ------
    TrainingError
        If a role holds one class only, or the training role fewer groups than folds.
    """
    role = labelled.examples.role.astype(str)
    train, held_out = labelled.where(role == "train"), labelled.where(role == "calibration")
    check_both_classes(train.examples.needs_frontier, "train")
    candidates = cross_validate(train, regularisation, folds, seed)
    chosen = choose(candidates)
    assert chosen.regularisation is not None
    labels, weights = train.examples.needs_frontier, train.examples.weight
    head = fit_head(train.embeddings, labels, weights, chosen.regularisation)
    logits, rows, source = _calibration_rows(head, chosen, train, held_out)
    check_both_classes(rows.needs_frontier, source)
    slope, offset = fit_platt(logits, rows.needs_frontier, rows.weight)
    probabilities = 1 / (1 + np.exp(-(slope * logits + offset)))
    return Fitted(
        head=head.calibrated(slope, offset),
        threshold=threshold_for(probabilities, target_frontier_rate),
        target_frontier_rate=target_frontier_rate,
        chosen=chosen.name,
        calibration=Calibration("platt", source, len(logits), slope, offset),
        candidates=[candidate.record() for candidate in candidates],
    )


def _calibration_rows(
    head: LinearHead, chosen: Candidate, train: Labelled, held_out: Labelled
) -> tuple[Floats, Examples, str]:
    """Return log-odds of rows that their head never saw, the rows, and which these are."""
    if len(held_out.examples):
        return head.logits(held_out.embeddings), held_out.examples, "calibration"
    return chosen.scores, train.examples, "train (out of fold)"


def threshold_for(decision_scores: Floats, target_frontier_rate: float) -> float:
    """Return the threshold that sends the target share of these scores to the frontier tier.

    Parameters
    ----------
    decision_scores : ndarray, shape (n,)
    target_frontier_rate : float
        In (0, 1).

    Returns
    -------
    float
        A little below the quantile: what differs by rounding only goes to the frontier tier.

    Examples
    --------
    >>> threshold = threshold_for(np.array([0.1, 0.2, 0.3, 0.4]), 0.5)
    >>> (np.array([0.1, 0.2, 0.3, 0.4]) >= threshold).tolist()
    [False, False, True, True]
    """
    quantile = np.quantile(decision_scores, 1 - target_frontier_rate, method="higher")
    return max(0.0, float(quantile) - _ROUNDING)
