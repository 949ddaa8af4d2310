"""The fitted classifier: chosen, calibrated, with its threshold, and kept between stages."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.head import Blocks, Calibrated, Heads
from querytier.data.examples import Examples
from querytier.training.baselines import LEARNED_BASELINES, Labelled, Learner
from querytier.training.calibration import FittedCalibration, Method, fit_calibrator
from querytier.training.checkpoints import NOTHING_KEPT, Kept
from querytier.training.cross_validation import Candidate, metric_for
from querytier.training.hyperparameters import Search
from querytier.training.linear_models import check_both_classes
from querytier.training.model_selection import choose, cross_validate
from querytier.training.recipes import Recipe, recipe_from
from querytier.training.venn_abers import venn_abers_check

__all__ = ["Calibration", "Fitted", "fit_classifier", "recalibrated", "threshold_for"]

Floats = NDArray[np.float64]

_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Calibration:
    """How log-odds became probabilities.

    Attributes
    ----------
    method : str
    reason : str
        Why this one.
    rows : str
        Which rows it was fitted on.
    n : int
    log_losses : mapping of str to float
        Of the methods that were compared, in nats.
    venn_abers : mapping of str to float, or None
        `VennAbersCheck` of the calibration rows by the out-of-fold log-odds of the training rows,
        two sets of rows of which neither saw the other; None without a calibration split.
    """

    method: Method
    reason: str
    rows: str
    n: int
    log_losses: Mapping[Method, float]
    venn_abers: Mapping[str, float] | None


@dataclass(frozen=True, eq=False)
class Fitted:
    """A classifier ready for export.

    Attributes
    ----------
    heads : Heads
        Calibration included.
    recipe : Recipe
        What was chosen.
    metric : {"apgr", "auroc"}
        By which it was chosen.
    threshold : float
    target_frontier_rate : float
    calibration : Calibration
    candidates : sequence of dict
        `Candidate.record` of each.
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
        (folder / "fitted.json").write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Fitted":
        """Read what `write` wrote."""
        content = json.loads((folder / "fitted.json").read_text())
        with np.load(folder / "heads.npz") as arrays:
            heads = Heads.from_state(content.pop("heads"), dict(arrays))
        calibration = Calibration(**content.pop("calibration"))
        recipe = recipe_from(content.pop("recipe"))
        return cls(heads=heads, calibration=calibration, recipe=recipe, **content)


def fit_classifier(
    labelled: Labelled,
    *,
    recipes: Sequence[Recipe],
    folds: int,
    target_frontier_rate: float,
    seed: int,
    baselines: Mapping[str, Learner] = LEARNED_BASELINES,
    named: str | None = None,
    calibration: Literal["auto"] | Method = "auto",
    search: Search | None = None,
    kept: Kept = NOTHING_KEPT,
) -> Fitted:
    """Choose, fit and calibrate a classifier.

    Where the examples have a calibration split, calibration and the threshold come from it;
    otherwise (few rows) both come from out-of-fold scores of the training split.

    Parameters
    ----------
    labelled : Labelled
        Rows of the training and calibration splits; others are not looked at.
    recipes : sequence of Recipe
        The one that one would rather have first.
    folds : int
    target_frontier_rate : float
        Share of the queries, in (0, 1), that the threshold sends to the frontier tier.
    seed : int
    baselines : mapping of str to callable
        What is cross-validated beside the recipes, and never chosen.
    named : str, optional
        The candidate that is taken whatever its rank.
    calibration : {"auto", "platt", "temperature", "beta"}
    search : Search, optional
        How learners are refined.
    kept : Kept
        Where what is computed outlives an interruption.

    Raises
    ------
    TrainingError
        If a split holds one class only, or the training split fewer groups than folds.
    """
    split = labelled.examples.split.astype(str)
    train, held_out = labelled.where(split == "train"), labelled.where(split == "calibration")
    check_both_classes(train.examples.needs_frontier, "train")
    metric = metric_for(train.examples)
    candidates = cross_validate(
        train,
        recipes,
        metric,
        folds=folds,
        seed=seed,
        baselines=baselines,
        search=search,
        kept=kept,
    )
    chosen = choose(candidates, named)
    assert chosen.recipe is not None
    asked = _asked(chosen, chosen.recipe.fitted(train), train, held_out)
    heads, found = _calibrated(asked, calibration, seed)
    return Fitted(
        heads=heads,
        recipe=chosen.recipe,
        metric=metric,
        threshold=threshold_for(asked.decision_scores(heads), target_frontier_rate),
        target_frontier_rate=target_frontier_rate,
        calibration=Calibration(
            found.method,
            found.reason,
            asked.source,
            found.n,
            dict(found.log_losses),
            _venn_abers(heads, chosen, train.examples, asked) if len(held_out.examples) else None,
        ),
        candidates=[candidate.to_dict() for candidate in candidates],
    )


def recalibrated(fitted: Fitted, blocks: Blocks, examples: Examples, seed: int) -> Calibrated:
    """Return a classifier's heads and threshold, calibrated again on features computed otherwise.

    Parameters
    ----------
    fitted : Fitted
    blocks : mapping of str to ndarray
        The features of the examples, as an encoder that was quantised computes them.
    examples : Examples
        Of the calibration split.
    seed : int
    """
    scores = fitted.heads.log_odds(blocks)
    found = fit_calibrator(
        scores,
        examples.needs_frontier,
        examples.weight,
        examples.group,
        method=fitted.calibration.method,
        seed=seed,
    )
    heads = fitted.heads.calibrated(found.calibrator)
    threshold = threshold_for(heads.decision_scores(blocks), fitted.target_frontier_rate)
    return Calibrated(heads, threshold)


def _venn_abers(
    heads: Heads, chosen: Candidate, train: Examples, asked: "_Asked"
) -> dict[str, float]:
    assert chosen.log_odds is not None
    p_frontier = heads.calibrator.probabilities(asked.log_odds)
    check = venn_abers_check(chosen.log_odds, train.needs_frontier, asked.log_odds, p_frontier)
    return asdict(check)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Rows that the heads never saw, with what heads say of them."""

    heads: Heads
    examples: Examples
    log_odds: Floats
    ranking: Floats
    source: str

    def decision_scores(self, calibrated: Heads) -> Floats:
        """Return what is compared with the threshold, once calibrated."""
        if calibrated.ranks_by == "gain":
            return self.ranking
        return calibrated.calibrator.probabilities(self.log_odds)


def _asked(chosen: Candidate, heads: Heads, train: Labelled, held_out: Labelled) -> _Asked:
    """Return the calibration split or, where there is none, the training split out of fold."""
    if len(held_out.examples):
        log_odds, scores = heads.log_odds(held_out.blocks), heads.decision_scores(held_out.blocks)
        return _Asked(heads, held_out.examples, log_odds, scores, "calibration")
    assert chosen.log_odds is not None
    # Rates among rows that were picked for their scores are not those of the traffic.
    fair = ~train.examples.planned
    return _Asked(
        heads,
        train.examples.where(fair),
        chosen.log_odds[fair],
        chosen.scores[fair],
        "train (out of fold)",
    )


def _calibrated(
    asked: _Asked, method: Literal["auto"] | Method, seed: int
) -> tuple[Heads, FittedCalibration]:
    rows = asked.examples
    check_both_classes(rows.needs_frontier, asked.source)
    found = fit_calibrator(
        asked.log_odds, rows.needs_frontier, rows.weight, rows.group, method=method, seed=seed
    )
    return asked.heads.calibrated(found.calibrator), found


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
    return float(quantile) - _ROUNDING
