"""The label audit: which labels a person should review, and the table for the review."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.data.ingest.corrections import (
    CORRECTION,
    read_corrections,
    review_id,
    review_query,
    review_text,
)
from querytier.errors import MissingExtraError, UsageError
from querytier.eval.intervals import Resampling
from querytier.eval.metrics import auroc
from querytier.files import atomic_file
from querytier.training.baselines import LabelledFeatures
from querytier.training.label_audit.predictors import out_of_fold_probabilities

__all__ = ["Suspect", "audit_labels", "write_suspects"]

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
_SHOWN_DUPLICATES = 5
_REPLICATES = 300


@dataclass(frozen=True, slots=True)
class Suspect:
    """An example whose label a person should review.

    Attributes
    ----------
    id, query : str
    needs_frontier : float
        The label of the example.
    p_frontier : float
        Calibrated P(needs_frontier) by learners that never saw the example's group.
    quality : float
        P(the label is on the right side of 0.5) by the same learners: cleanlab's self-confidence. A
        low quality is suspicious.
    reason : {"label_error", "contradictory_duplicate", "judges_disagree"}
        The first is a statistical suspicion. The other two are facts: the same text view has labels
        on both sides of 0.5, from one source, or from sources that each agree with themselves.
    note : str
        The evidence against the label.
    """

    id: str
    query: str
    needs_frontier: float
    p_frontier: float
    quality: float
    reason: Reason
    note: str


def audit_labels(labelled: LabelledFeatures, *, folds: int, seed: int) -> list[Suspect]:
    """Return the examples with doubtful labels, contradictions first.

    Label errors are found by confident learning (Northcutt et al. 2021, JAIR 70:1373, as in
    cleanlab) with the probabilities of `out_of_fold_probabilities`. Soft labels become 0 or 1 at
    0.5; labels of exactly 0.5 are not checked. Labels that a person has corrected or confirmed are
    not suspected, but may still contradict others.

    Parameters
    ----------
    labelled : LabelledFeatures, length n
        With the groups of `prepare`; splits are ignored.
    folds, seed : int
        For the cross-validation.

    Returns
    -------
    list of Suspect
        Each example at most once: contradictions, by text view, then label errors, the lowest
        quality first. There are no label errors if the learners show no signal (the 95% interval of
        their out-of-fold AUROC is not above 0.5).

    Raises
    ------
    TrainingError
        If the labels are too few, or too one-sided, for this number of folds.
    MissingExtraError
        If cleanlab is not installed.
    """
    p_frontier = out_of_fold_probabilities(labelled, folds, seed)
    labels = labelled.examples.needs_frontier
    quality = np.where(labels > 0.5, p_frontier, 1 - p_frontier)
    contradictions = _contradictions(labelled.examples)
    errors = _label_errors(labelled.examples, p_frontier, seed)
    rows = [int(row) for row in np.argsort(quality, kind="stable") if errors[row]]
    known = {row for row, _, _ in contradictions}
    findings: list[tuple[int, Reason, str]] = contradictions + [
        (row, "label_error", f"labelled {labels[row]:g}, p_frontier {p_frontier[row]:.2f}")
        for row in rows
        if row not in known
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


def write_suspects(suspects: Sequence[Suspect], path: Path) -> None:
    """Write the table for a review in a spreadsheet.

    Reviewers write the right label into `corrected_label`, even if they confirm the old one.
    `querytier.data.ingest.corrections.read_corrections` reads the file, and explains how queries
    are kept from becoming formulas.

    Parameters
    ----------
    suspects : sequence of Suspect
    path : Path
        CSV in UTF-8 with a byte order mark, from which spreadsheets recognise the encoding.

    Raises
    ------
    UsageError
        If the file at `path` holds corrections already.
    """
    corrected = len(read_corrections(path).rows) if path.is_file() else 0
    if corrected:
        raise UsageError(
            f"{path} holds {corrected} corrections, which a new table would overwrite; move the "
            "file to where the next run reads its corrections, or write to another file"
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


def _label_errors(examples: Examples, p_frontier: Floats, seed: int) -> NDArray[np.bool_]:
    """Return which labels confident learning finds wrong, except those that a person has set."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise MissingExtraError("cleanlab", "train") from error
    suspected = np.zeros(len(examples), dtype=bool)
    confirmed: NDArray[np.bool_] = examples.label_source == CORRECTION
    if _shows_signal(examples, p_frontier, seed):
        clear = examples.needs_frontier != 0.5
        labels = (examples.needs_frontier[clear] > 0.5).astype(int)
        probabilities = np.stack([1 - p_frontier, p_frontier], axis=1)[clear]
        suspected[clear] = find_label_issues(labels, probabilities, n_jobs=1)
    return suspected & ~confirmed


def _shows_signal(examples: Examples, p_frontier: Floats, seed: int) -> bool:
    """Return whether the interval of the AUROC is above chance."""
    # Without signal, confident learning would flag the rarer class.
    resampling = Resampling(examples.group.tolist(), _REPLICATES, seed)
    labels = examples.needs_frontier
    area = resampling.estimate(lambda weights: auroc(p_frontier, labels, weights), "one class only")
    return area.low is not None and area.low > 0.5


def _contradictions(examples: Examples) -> list[tuple[int, Reason, str]]:
    """Return row, reason and note of labels that contradict another label of their text view."""
    rows_of_view: dict[str, list[int]] = defaultdict(list)
    views, labels = examples.views(), examples.needs_frontier
    for row in np.flatnonzero(labels != 0.5).tolist():
        rows_of_view[views[row]].append(row)
    found: list[tuple[int, Reason, str]] = []
    for rows in rows_of_view.values():
        positive = [row for row in rows if labels[row] > 0.5]
        others = [row for row in rows if labels[row] < 0.5]
        if positive and others:
            reason = _reason(examples, positive, others)
            found += [(row, reason, _evidence(examples, others)) for row in positive]
            found += [(row, reason, _evidence(examples, positive)) for row in others]
    return found


def _reason(examples: Examples, positive: Sequence[int], others: Sequence[int]) -> Reason:
    on_both_sides = set(examples.label_source[positive]) & set(examples.label_source[others])
    return "contradictory_duplicate" if on_both_sides else "judges_disagree"


def _evidence(examples: Examples, rows: Sequence[int]) -> str:
    shown = [
        f"{examples.id[row]} is labelled {examples.needs_frontier[row]:g} by "
        f"{examples.label_source[row]}"
        for row in rows[:_SHOWN_DUPLICATES]
    ]
    more = len(rows) - len(shown)
    return "the same text, " + ", ".join(shown) + (f" and {more} more" if more else "")
