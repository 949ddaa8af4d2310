"""Candidates on the same folds; the simplest within one standard error of the best is chosen."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.eval.bootstrap import Estimate, Resampling
from querytier.eval.metrics import auroc
from querytier.training.baselines import (
    LEARNED_BASELINES,
    Labelled,
    Learner,
    cross_fitted,
    group_folds,
)
from querytier.training.fitting import fit_head

__all__ = ["Candidate", "choose", "cross_validate", "minilm_lr"]

Floats = NDArray[np.float64]

_REPLICATES = 300
_ONE_CLASS = "the training role holds one class only"


@dataclass(frozen=True, eq=False)
class Candidate:
    """What cross-validation inside the training role says of one way to rank queries.

    Attributes
    ----------
    name : str
    regularisation : float or None
        scikit-learn's `C`; None for baselines, which are not exported.
    auroc : Estimate
        Of the out-of-fold scores, with its interval over groups.
    fold_aurocs : ndarray of float64, shape (folds,)
        NaN where a fold holds one class only.
    scores : ndarray of float64, shape (n,)
        Out of fold.
    seconds : float
        Wall time of all folds.
    """

    name: str
    regularisation: float | None
    auroc: Estimate
    fold_aurocs: Floats
    scores: Floats
    seconds: float

    @property
    def mean(self) -> float:
        """Mean AUROC over the folds that have one."""
        return float(np.nanmean(self.fold_aurocs))

    @property
    def standard_error(self) -> float:
        """Standard error of that mean."""
        defined = self.fold_aurocs[np.isfinite(self.fold_aurocs)]
        return float(defined.std(ddof=1) / np.sqrt(len(defined))) if len(defined) > 1 else 0.0

    def record(self) -> dict[str, Any]:
        """Return the candidate for JSON."""
        return {
            "name": self.name,
            "regularisation": self.regularisation,
            "auroc": self.auroc.record(),
            "fold_mean": self.mean,
            "fold_standard_error": self.standard_error,
            "seconds": round(self.seconds, 3),
        }


def cross_validate(
    labelled: Labelled, regularisation: Sequence[float], folds: int, seed: int
) -> list[Candidate]:
    """Cross-validate the classifier at each regularisation, and the learned baselines beside it.

    Parameters
    ----------
    labelled : Labelled
        The training role.
    regularisation : sequence of float
    folds, seed : int
        Every candidate sees the same folds.
    """
    ways: list[tuple[str, float | None, Learner]] = [
        (f"minilm_lr_C{c:g}", c, minilm_lr(c)) for c in sorted(regularisation)
    ]
    ways += [(name, None, learner) for name, learner in LEARNED_BASELINES.items()]
    masks = group_folds(labelled.examples, folds, seed)
    labels = labelled.examples.needs_frontier
    resampling = Resampling(labelled.examples.group.tolist(), _REPLICATES, seed)

    def candidate(name: str, c: float | None, learner: Learner) -> Candidate:
        started = time.perf_counter()
        scores = cross_fitted(learner, labelled, masks)
        seconds = time.perf_counter() - started
        return Candidate(
            name=name,
            regularisation=c,
            auroc=resampling.estimate(lambda weights: auroc(scores, labels, weights), _ONE_CLASS),
            fold_aurocs=np.array([_auroc_of(scores[mask], labels[mask]) for mask in masks]),
            scores=scores,
            seconds=seconds,
        )

    return [candidate(*way) for way in ways]


def minilm_lr(regularisation: float) -> Learner:
    """Return the learner whose scores are the head's log-odds at one regularisation."""

    def learner(train: Labelled, asked: Labelled) -> Floats:
        labels, weights = train.examples.needs_frontier, train.examples.weight
        return fit_head(train.embeddings, labels, weights, regularisation).logits(asked.embeddings)

    return learner


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """Return the most regularised classifier within one standard error of the best one.

    The rule is from Breiman et al. 1984 (CART). Baselines take no part: they are not exported.
    """
    classifiers = [candidate for candidate in candidates if candidate.regularisation is not None]
    best = max(classifiers, key=lambda candidate: candidate.mean)
    bar = best.mean - best.standard_error
    good = [candidate for candidate in classifiers if candidate.mean >= bar]
    return min(good, key=lambda candidate: candidate.regularisation or 0.0)


def _auroc_of(scores: Floats, needs_frontier: Floats) -> float:
    return float(auroc(scores, needs_frontier, np.ones((1, len(scores))))[0])
