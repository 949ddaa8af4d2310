"""Fit a classifier: choose a candidate, fit it, calibrate it, and set its threshold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from querytier.classifier.model.head import Blocks, Calibrated, Heads
from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.files import write_json
from querytier.training.baselines import LEARNED_BASELINES, LabelledFeatures, Learner
from querytier.training.calibration import FittedCalibration, Method, fit_calibrator
from querytier.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from querytier.training.cross_validation import Candidate, metric_for
from querytier.training.hyperparameters import Search
from querytier.training.linear_models import check_both_classes
from querytier.training.model_selection import choose, cross_validate
from querytier.training.recipes import Recipe, recipe_from
from querytier.training.venn_abers import venn_abers_check

__all__ = [
    "Calibration",
    "FitSettings",
    "FittedClassifier",
    "fit_classifier",
    "recalibrate_classifier",
    "threshold_for",
]


_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Settings of `fit_classifier`.

    Attributes
    ----------
    folds : int
    target_frontier_rate : float
        Share of the queries, in (0, 1), that the threshold sends to the frontier tier.
    seed : int
    candidate : str, optional
        Name of the candidate to choose, whatever its performance.
    calibration : {"auto", "platt", "temperature", "beta"}
    search : Search, optional
        Tunes learners.
    """

    folds: int
    target_frontier_rate: float
    seed: int
    candidate: str | None = None
    calibration: Literal["auto"] | Method = "auto"
    search: Search | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """How log-odds became probabilities.

    Attributes
    ----------
    method : str
    reason : str
        Why this method.
    rows : str
        The rows that it was fitted on.
    n : int
        Number of these rows.
    log_losses : mapping of str to float
        Log loss of each compared method, in nats.
    venn_abers : mapping of str to float, or None
        `VennAbersCheck` of the calibration rows, based on the out-of-fold log-odds of the training
        rows: neither set of rows was fitted on the other. None without a calibration split.
    """

    method: Method
    reason: str
    rows: str
    n: int
    log_losses: Mapping[Method, float]
    venn_abers: Mapping[str, float] | None


@dataclass(frozen=True, eq=False)
class FittedClassifier:
    """A classifier ready for export.

    Attributes
    ----------
    heads : Heads
        Calibrated.
    recipe : Recipe
        The recipe of the chosen candidate.
    metric : {"apgr", "auroc"}
        The metric that chose it.
    threshold : float
    target_frontier_rate : float
    calibration : Calibration
    candidates : sequence of dict
        `Candidate.to_dict` of each.
    """

    heads: Heads
    recipe: Recipe
    metric: str
    threshold: float
    target_frontier_rate: float
    calibration: Calibration
    candidates: Sequence[dict[str, Any]]

    @property
    def chosen(self) -> str:
        """Name of the chosen candidate."""
        return self.recipe.name

    def write(self, folder: Path) -> None:
        """Write `heads.npz` and `fitted.json` into an existing folder."""
        heads, arrays = self.heads.state()
        np.savez(folder / "heads.npz", allow_pickle=False, **arrays)
        content = {
            "recipe": self.recipe.to_dict(),
            "heads": heads,
            "metric": self.metric,
            "threshold": self.threshold,
            "target_frontier_rate": self.target_frontier_rate,
            "calibration": asdict(self.calibration),
            "candidates": list(self.candidates),
        }
        write_json(folder / "fitted.json", content)

    @classmethod
    def read(cls, folder: Path) -> "FittedClassifier":
        """Read the classifier that `write` wrote."""
        content = json.loads((folder / "fitted.json").read_text())
        with np.load(folder / "heads.npz") as arrays:
            heads = Heads.from_state(content.pop("heads"), dict(arrays))
        calibration = Calibration(**content.pop("calibration"))
        recipe = recipe_from(content.pop("recipe"))
        return cls(heads=heads, calibration=calibration, recipe=recipe, **content)


def fit_classifier(
    labelled: LabelledFeatures,
    recipes: Sequence[Recipe],
    settings: FitSettings,
    *,
    baselines: Mapping[str, Learner] = LEARNED_BASELINES,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> FittedClassifier:
    """Choose, fit and calibrate a classifier.

    Calibration and threshold come from the calibration split. If the examples have none (small
    logs), both come from out-of-fold scores of the training split.

    Parameters
    ----------
    labelled : LabelledFeatures
        Rows of the training and calibration splits; rows of other splits are ignored.
    recipes : sequence of Recipe
        In order of preference.
    settings : FitSettings
    baselines : mapping of str to callable
        Cross-validated with the recipes, but never chosen.
    checkpoints : Checkpoints

    Raises
    ------
    TrainingError
        If a split has only one class, or the training split has fewer groups than folds.
    """
    split = labelled.examples.split.astype(str)
    train, calibration = labelled.where(split == "train"), labelled.where(split == "calibration")
    check_both_classes(train.examples.needs_frontier, "train")
    candidates = cross_validate(
        train,
        recipes,
        folds=settings.folds,
        seed=settings.seed,
        baselines=baselines,
        search=settings.search,
        checkpoints=checkpoints,
    )
    chosen = choose(candidates, settings.candidate)
    assert chosen.recipe is not None
    rows = _unseen_rows(chosen, chosen.recipe.fit(train), train, calibration)
    check_both_classes(rows.examples.needs_frontier, rows.source)
    fitted = _fit_calibration(rows.log_odds, rows.examples, settings.calibration, settings.seed)
    heads = rows.heads.calibrated(fitted.calibrator)
    return FittedClassifier(
        heads=heads,
        recipe=chosen.recipe,
        metric=metric_for(train.examples),
        threshold=threshold_for(rows.decision_scores(heads), settings.target_frontier_rate),
        target_frontier_rate=settings.target_frontier_rate,
        calibration=Calibration(
            fitted.method,
            fitted.reason,
            rows.source,
            fitted.n,
            dict(fitted.log_losses),
            rows.venn_abers(heads, chosen, train.examples) if len(calibration.examples) else None,
        ),
        candidates=[candidate.to_dict() for candidate in candidates],
    )


def recalibrate_classifier(
    fitted: FittedClassifier, blocks: Blocks, examples: Examples, seed: int
) -> Calibrated:
    """Return heads and threshold, calibrated again on features from a quantised encoder.

    Parameters
    ----------
    fitted : FittedClassifier
    blocks : mapping of str to ndarray
        The features of the examples, computed by a quantised encoder.
    examples : Examples
        Examples of the calibration split.
    seed : int
    """
    # The method stays the same: when it was chosen again, beta calibration became temperature
    # scaling, which by itself changed the mean probability by 0.017.
    method = fitted.calibration.method
    again = _fit_calibration(fitted.heads.log_odds(blocks), examples, method, seed)
    heads = fitted.heads.calibrated(again.calibrator)
    threshold = threshold_for(heads.decision_scores(blocks), fitted.target_frontier_rate)
    return Calibrated(heads, threshold)


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
        Slightly below the quantile.

    Examples
    --------
    >>> threshold = threshold_for(np.array([0.1, 0.2, 0.3, 0.4]), 0.5)
    >>> (np.array([0.1, 0.2, 0.3, 0.4]) >= threshold).tolist()
    [False, False, True, True]
    """
    quantile = np.quantile(decision_scores, 1 - target_frontier_rate, method="higher")
    # If all rows have one score (no signal), rounding in the graph would otherwise send every query
    # to the cheap tier. Scores that differ by rounding only go to the frontier tier instead.
    return float(quantile) - _ROUNDING


@dataclass(frozen=True, eq=False)
class _UnseenRows:
    """Rows that the heads were not fitted on, with their scores."""

    heads: Heads
    examples: Examples
    log_odds: Floats
    scores: Floats
    source: str

    def decision_scores(self, calibrated: Heads) -> Floats:
        """Return the scores that are compared with the threshold, once calibrated."""
        if calibrated.ranks_by == "gain":
            return self.scores
        return calibrated.calibrator.probabilities(self.log_odds)

    def venn_abers(self, calibrated: Heads, chosen: Candidate, train: Examples) -> dict[str, float]:
        assert chosen.log_odds is not None
        p_frontier = calibrated.calibrator.probabilities(self.log_odds)
        return asdict(
            venn_abers_check(chosen.log_odds, train.needs_frontier, self.log_odds, p_frontier)
        )


def _unseen_rows(
    chosen: Candidate, heads: Heads, train: LabelledFeatures, calibration: LabelledFeatures
) -> _UnseenRows:
    """Return the calibration split or, if it is empty, the training split out of fold."""
    if len(calibration.examples):
        blocks = calibration.blocks
        log_odds, scores = heads.log_odds(blocks), heads.decision_scores(blocks)
        return _UnseenRows(heads, calibration.examples, log_odds, scores, "calibration")
    assert chosen.log_odds is not None
    # Rows that were selected for labelling by their scores do not have the rates of the traffic.
    fair = ~train.examples.planned
    rows, log_odds = train.examples.where(fair), chosen.log_odds[fair]
    return _UnseenRows(heads, rows, log_odds, chosen.scores[fair], "train (out of fold)")


def _fit_calibration(
    log_odds: Floats, rows: Examples, method: Literal["auto"] | Method, seed: int
) -> FittedCalibration:
    return fit_calibrator(
        log_odds, rows.needs_frontier, rows.weight, rows.group, method=method, seed=seed
    )
