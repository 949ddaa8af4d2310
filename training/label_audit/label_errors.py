"""The label audit: which labels a person should look at, and the table to do it in."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.calibrator import sigmoid
from querytier.data.examples import Examples
from querytier.data.ingest.corrections import (
    CORRECTION,
    read_corrections,
    review_id,
    review_query,
    review_text,
)
from querytier.data.text_view import text_view
from querytier.errors import MissingExtraError, TrainingError, UsageError
from querytier.eval.intervals import Resampling
from querytier.eval.metrics import auroc
from querytier.files import atomic_file
from querytier.training.baselines import Labelled, Learner, cross_fitted, group_folds, tfidf_lr
from querytier.training.linear_models import soft_rows
from querytier.training.platt import fit_platt

__all__ = ["AUDITORS", "Suspect", "audit_labels", "out_of_fold", "write_suspects"]

Floats = NDArray[np.float64]
Reason = Literal["label_error", "contradictory_duplicate", "judges_disagree"]

_COLUMNS = (
    "id",
    "reason",
    "needs_frontier",
    "p_frontier",
    "quality",
    "note",
    "query",
    "corrected_label",
    "comment",
)
_SMALLEST_PROBABILITY = 1e-6
_SHOWN_DUPLICATES = 5
_REPLICATES = 300


@dataclass(frozen=True, slots=True)
class Suspect:
    """An example whose label a person should look at.

    Attributes
    ----------
    id, query : str
        Of the example.
    needs_frontier : float
        The label that it has.
    p_frontier : float
        Calibrated P(needs_frontier) by learners that never saw the example's group.
    quality : float
        P(the label's side of 0.5 is right) by the same learners: cleanlab's self-confidence. The
        lower, the more suspicious.
    reason : {"label_error", "contradictory_duplicate", "judges_disagree"}
        The first is a suspicion of statistics; the other two are facts: the same text view has
        labels on both sides of 0.5, from one source, or from sources each true to itself.
    note : str
        What speaks against the label.
    """

    id: str
    query: str
    needs_frontier: float
    p_frontier: float
    quality: float
    reason: Reason
    note: str


def audit_labels(labelled: Labelled, *, folds: int, seed: int) -> list[Suspect]:
    """Return the examples whose labels are doubtful, the contradictions first.

    Label errors are found by confident learning (Northcutt et al. 2021, JAIR 70:1373, as in
    cleanlab) on the probabilities of `out_of_fold`. Soft labels are cut at 0.5; those of 0.5 say
    nothing that could be wrong. Labels that a person has corrected or confirmed are not suspected
    of errors again, but still of contradicting others.

    Parameters
    ----------
    labelled : Labelled, length n
        With the groups that `prepare` gives; splits play no part.
    folds, seed : int
        Of the cross-validation.

    Returns
    -------
    list of Suspect
        Each example once at most: contradictions, those of one text view together, then label
        errors by rising quality. There are none of these where the learners show no signal: the 95%
        interval of their out-of-fold AUROC does not lie above 0.5.

    Raises
    ------
    TrainingError
        If the labels are too few, or too much of one class, for so many folds.
    MissingExtraError
        If cleanlab is not installed.
    """
    p_frontier = out_of_fold(labelled, folds, seed)
    labels = labelled.examples.needs_frontier
    quality = np.where(labels > 0.5, p_frontier, 1 - p_frontier)
    contradictions = _contradictions(labelled.examples)
    errors = _label_errors(labelled.examples, p_frontier, seed)
    rows = [int(row) for row in np.argsort(quality, kind="stable") if errors[row]]
    findings: list[tuple[int, Reason, str]] = [
        *contradictions,
        *_findings(rows, {row for row, _, _ in contradictions}, labels, p_frontier),
    ]
    return [
        Suspect(
            id=labelled.examples.id[row],
            query=labelled.examples.query[row],
            needs_frontier=float(labels[row]),
            p_frontier=float(p_frontier[row]),
            quality=float(quality[row]),
            reason=reason,
            note=note,
        )
        for row, reason, note in findings
    ]


def _embedding_log_odds(train: Labelled, asked: Labelled) -> Floats:
    from sklearn.linear_model import LogisticRegression

    hard = soft_rows(train.examples.needs_frontier, train.examples.weight)
    model = LogisticRegression(max_iter=2000)
    model.fit(train.embeddings[hard.rows], hard.outcomes, sample_weight=hard.parts)
    return np.asarray(model.decision_function(asked.embeddings), dtype=np.float64)


def _tfidf_log_odds(train: Labelled, asked: Labelled) -> Floats:
    p = np.clip(tfidf_lr(train, asked), _SMALLEST_PROBABILITY, 1 - _SMALLEST_PROBABILITY)
    return np.asarray(np.log(p / (1 - p)))


AUDITORS: dict[str, Learner] = {
    "minilm_lr": _embedding_log_odds,
    "tfidf_lr": _tfidf_log_odds,
}


def out_of_fold(
    labelled: Labelled,
    folds: int,
    seed: int,
    learners: Iterable[Learner] = tuple(AUDITORS.values()),
) -> Floats:
    """Return calibrated probabilities by learners that never saw a row's group.

    The log-odds of learners that err differently, the classifier's head on embeddings and TF-IDF,
    are Platt-scaled, averaged, and Platt-scaled again: confident learning takes its thresholds from
    the probabilities, so they have to be calibrated. What each finds alone, and both together,
    stands in benchmarks/LABEL_AUDIT.md.

    Parameters
    ----------
    labelled : Labelled, length n
    folds, seed : int
    learners : iterable of callable
        Each returns log-odds of the asked rows.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    TrainingError
        If the labels are too few, or too much of one class, for so many folds.
    """
    labels, weights = labelled.examples.needs_frontier, labelled.examples.weight
    masks = _folds(labelled.examples, folds, seed)
    scores = [cross_fitted(learner, labelled, masks) for learner in learners]
    together = np.mean([_platt_scaled(score, labels, weights) for score in scores], axis=0)
    return sigmoid(_platt_scaled(together, labels, weights))


def write_suspects(suspects: Sequence[Suspect], path: Path) -> None:
    """Write the table that a person reviews in a spreadsheet.

    Who finds a label wrong, or confirms it, writes the right one into `corrected_label`;
    `querytier.data.ingest.corrections.read_corrections` reads the file back, and says there
    how queries are kept from becoming formulas.

    Parameters
    ----------
    suspects : sequence of Suspect
    path : Path
        CSV in UTF-8, with the byte order mark by which spreadsheets know it.

    Raises
    ------
    UsageError
        If the file at `path` holds corrections already: they are somebody's work.
    """
    corrected = len(read_corrections(path).rows) if path.is_file() else 0
    if corrected:
        raise UsageError(
            f"{path} holds {corrected} corrections, which a new table would overwrite; move the "
            "file to where the next run reads its corrections, or write to another one"
        )
    with atomic_file(path) as scratch, scratch.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(_COLUMNS)
        writer.writerows(_cells(suspect) for suspect in suspects)


def _cells(suspect: Suspect) -> tuple[str, ...]:
    return (
        review_id(suspect.id),
        suspect.reason,
        f"{suspect.needs_frontier:g}",
        f"{suspect.p_frontier:.3f}",
        f"{suspect.quality:.3f}",
        review_text(suspect.note),
        review_query(suspect.query),
        "",
        "",
    )


def _platt_scaled(log_odds: Floats, labels: Floats, weights: Floats) -> Floats:
    slope, offset = fit_platt(log_odds, labels, weights)
    return slope * log_odds + offset


def _folds(examples: Examples, folds: int, seed: int) -> list[NDArray[np.bool_]]:
    """Return masks of held-out rows outside which both classes remain."""
    needy = examples.needs_frontier > 0.5
    fewest = int(min(needy.sum(), (~needy).sum()))
    masks = group_folds(examples, folds, seed) if fewest >= folds else []
    if not masks or any(len(np.unique(needy[~mask])) < 2 for mask in masks):
        raise TrainingError(
            f"{fewest} labels on the rarer side of 0.5, or their groups, are too few for {folds} "
            "folds; add labelled rows, or lower train.folds"
        )
    return masks


def _label_errors(examples: Examples, p_frontier: Floats, seed: int) -> NDArray[np.bool_]:
    """Return which labels confident learning takes for wrong, no person having set them."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise MissingExtraError("cleanlab", "train") from error
    suspected = np.zeros(len(examples), dtype=bool)
    confirmed: NDArray[np.bool_] = examples.label_source == CORRECTION
    if _shows_signal(examples, p_frontier, seed):
        cut = examples.needs_frontier != 0.5
        given = (examples.needs_frontier[cut] > 0.5).astype(int)
        probabilities = np.stack([1 - p_frontier, p_frontier], axis=1)[cut]
        suspected[cut] = find_label_issues(given, probabilities, n_jobs=1)
    return suspected & ~confirmed


def _shows_signal(examples: Examples, p_frontier: Floats, seed: int) -> bool:
    """Tell chance from knowledge: on chance, confident learning would flag the rarer class."""
    resampling = Resampling(examples.group.tolist(), _REPLICATES, seed)
    labels = examples.needs_frontier
    area = resampling.estimate(lambda weights: auroc(p_frontier, labels, weights), "one class only")
    return area.low is not None and area.low > 0.5


def _findings(
    rows: Sequence[int], known: set[int], labels: Floats, p_frontier: Floats
) -> list[tuple[int, Reason, str]]:
    return [
        (row, "label_error", f"labelled {labels[row]:g}, p_frontier {p_frontier[row]:.2f}")
        for row in rows
        if row not in known
    ]


def _contradictions(examples: Examples) -> list[tuple[int, Reason, str]]:
    """Return row, reason and note of the labels that an equal text view contradicts."""
    rows_of_view: dict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(examples.needs_frontier != 0.5).tolist():
        rows_of_view[text_view(examples.query[row])].append(row)
    found: list[tuple[int, Reason, str]] = []
    for rows in rows_of_view.values():
        needy, others = _sides(examples, rows)
        if needy and others:
            reason = _reason(examples, needy, others)
            found += [(row, reason, _against(examples, others)) for row in needy]
            found += [(row, reason, _against(examples, needy)) for row in others]
    return found


def _sides(examples: Examples, rows: Sequence[int]) -> tuple[list[int], list[int]]:
    needy = [row for row in rows if examples.needs_frontier[row] > 0.5]
    return needy, [row for row in rows if examples.needs_frontier[row] < 0.5]


def _reason(examples: Examples, needy: Sequence[int], others: Sequence[int]) -> Reason:
    on_both_sides = set(examples.label_source[needy]) & set(examples.label_source[others])
    return "contradictory_duplicate" if on_both_sides else "judges_disagree"


def _against(examples: Examples, rows: Sequence[int]) -> str:
    shown = [
        f"{examples.id[row]} is labelled {examples.needs_frontier[row]:g} by "
        f"{examples.label_source[row]}"
        for row in rows[:_SHOWN_DUPLICATES]
    ]
    more = len(rows) - len(shown)
    return "the same text, " + ", ".join(shown) + (f" and {more} more" if more else "")
