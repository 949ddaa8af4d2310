"""The audit of fresh labels before they are merged: what is held back, of whom, and why.

New logs can be hostile. Rows whose labels contradict what the recorded labels predict, far beyond
chance and unlike the rest of the fresh rows, are held back: they neither train nor judge, and lie
in a file with the reason until a person releases their source (`audit_fresh.trusted_sources`) or
drops them. `querytier.training.label_audit.hold_back` says how that is told from drift,
and where it cannot be.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from querytier.data.examples import Examples
from querytier.errors import TrainingError
from querytier.files import atomic_file
from querytier.pipeline.param_sections import AuditFreshParams
from querytier.training.baselines import Labelled
from querytier.training.label_audit.expected_labels import foretell
from querytier.training.label_audit.hold_back import HoldRules, Judged, hold_back

__all__ = ["HELD_BACK", "FreshAudit", "audit_fresh", "embedded"]

HELD_BACK = "held_back.jsonl"
_FEWEST_RECORDED = 200
_LISTED = 10
_OF_THE_PREDICTORS = ("train", "calibration", "")


@dataclass(frozen=True, eq=False)
class FreshAudit:
    """What became of fresh rows.

    Attributes
    ----------
    kept, refused : Examples
        Together the fresh rows, each in their order.
    reasons : tuple of str
        Of each refused row.
    judged : tuple of Judged
        What contradicts the recorded labels, held back or not.
    not_audited : str
        Why nothing was tested; empty where something was.
    """

    kept: Examples
    refused: Examples
    reasons: tuple[str, ...]
    judged: tuple[Judged, ...]
    not_audited: str = ""

    @property
    def held(self) -> tuple[Judged, ...]:
        """What is held back."""
        return tuple(one for one in self.judged if one.standing == "held")

    def lines(self) -> list[str]:
        """Return what an operator has to know, a sentence each."""
        rows = len(self.kept) + len(self.refused)
        if self.not_audited:
            return [f"label audit: {rows} fresh rows not audited: {self.not_audited}"]
        kept, held = len(self.kept), len(self.refused)
        lines = [f"label audit: {kept} of {rows} fresh rows kept, {held} held back"]
        drifted = [one for one in self.judged if one.standing == "drift"]
        others = [one for one in self.judged if one.standing != "drift"]
        lines += [f"  {_sentence(one)}" for one in others[:_LISTED]]
        if len(others) > _LISTED:
            lines.append(f"  and {len(others) - _LISTED} more, in the record")
        return lines + ([_drift_sentence(drifted)] if drifted else [])

    def to_dict(self) -> dict[str, Any]:
        """Return the audit for JSON."""
        return {
            "kept": len(self.kept),
            "held_back": len(self.refused),
            "held_back_by_reason": dict(Counter(self.reasons)),
            "not_audited": self.not_audited or None,
            "judged": [_record(one) for one in self.judged],
        }

    def write(self, out: Path) -> None:
        """Write the refused rows, each with its reason, to `out/held_back.jsonl`."""
        with atomic_file(out / HELD_BACK) as scratch, scratch.open("w", encoding="utf-8") as file:
            for row, reason in enumerate(self.reasons):
                file.write(json.dumps(_line(self.refused, row, reason), ensure_ascii=False) + "\n")


def audit_fresh(
    recorded: Examples, fresh: Examples, params: AuditFreshParams | None = None
) -> FreshAudit:
    """Judge the labels of fresh rows by what the recorded labels predict.

    The predictors learn from the recorded rows of the splits train and calibration, so that the
    frozen test rows have no say in what is kept. Fresh rows of every split are judged: those of a
    source that is held back must not judge a challenger either. Rows without a label pass.

    Parameters
    ----------
    recorded, fresh : Examples
        Fresh rows are those that the record does not have yet.
    params : AuditFreshParams, optional

    Returns
    -------
    FreshAudit
        Everything is kept where nothing can be tested: `not_audited` says why.
    """
    params = params or AuditFreshParams()
    known = recorded.where(recorded.labelled).of_split(*_OF_THE_PREDICTORS)
    labelled = fresh.where(fresh.labelled)
    why = _why_not(known, labelled, params)
    if why:
        return _all_kept(fresh, why)
    rules = HoldRules(
        params.level, params.tolerated_share, params.fewest_labels, params.trusted_sources
    )
    recorded_rows, fresh_rows = embedded(known), embedded(labelled)
    try:
        foretold = foretell(recorded_rows, fresh_rows, params.folds, params.seed)
    except TrainingError as error:
        return _all_kept(fresh, str(error))
    return _audit(fresh, hold_back(foretold, known, labelled, rules))


def _why_not(known: Examples, labelled: Examples, params: AuditFreshParams) -> str:
    """Return why nothing can be tested; empty where something can."""
    needy = int((known.needs_frontier > 0.5).sum())
    rarer = min(needy, len(known) - needy)
    if not params.enabled:
        return "audit_fresh.enabled is false"
    if len(known) < _FEWEST_RECORDED or rarer < 2 * params.folds:
        return (
            f"{len(known)} recorded labels, {rarer} of the rarer kind, are too few to predict from"
        )
    if len(labelled) < params.fewest_labels:
        return f"{len(labelled)} fresh labels are fewer than audit_fresh.fewest_labels"
    return ""


def embedded(examples: Examples) -> Labelled:
    """Return labelled examples with what the predictors read of them."""
    from querytier.classifier.model.encoder import load_encoder
    from querytier.training.embedding_cache import EmbeddingCache

    views = examples.views()
    return Labelled(examples, {"minilm": EmbeddingCache().encode(load_encoder(), views)})


def _all_kept(fresh: Examples, why: str) -> FreshAudit:
    nothing = np.zeros(len(fresh), dtype=bool)
    return FreshAudit(fresh, fresh.where(nothing), (), (), why)


def _audit(fresh: Examples, judged: list[Judged]) -> FreshAudit:
    """Return the audit; a cell's rows are those of the labelled fresh rows."""
    place = np.flatnonzero(fresh.labelled)
    reasons = np.full(len(fresh), "", dtype=object)
    for one in judged:
        if one.standing == "held":
            reasons[place[one.cell.rows]] = _sentence(one)
    refused = reasons != ""
    return FreshAudit(
        fresh.where(~refused), fresh.where(refused), tuple(reasons[refused]), tuple(judged)
    )


def _sentence(one: Judged) -> str:
    cell, found = one.cell, one.against.recorded
    name = cell.name if len(cell.name) <= 60 else f"{cell.name[:57]}..."
    of = f" of source '{cell.source}'" if cell.kind == "phrase" else ""
    change = "turned round" if found.direction == "flipped" else f"set {found.direction}"
    stands = {
        "held": "held back: the other fresh rows do not show it",
        "drift": "kept: the other fresh rows shift alike, which is drift",
        "cannot tell": "kept: too few others to tell poison from drift, the gate decides",
    }[one.standing]
    return (
        f"{cell.kind} '{name}'{of}: {len(cell.rows)} labels read as if {found.share:.0%} were "
        f"{change}, against what is recorded (p {one.against.recorded.p_value:.1g}, beside the "
        f"others {one.against.others.p_value:.1g}); {stands}"
    )


def _drift_sentence(drifted: Sequence[Judged]) -> str:
    names = ", ".join(one.cell.name for one in drifted[:_LISTED])
    more = f" and {len(drifted) - _LISTED} more" if len(drifted) > _LISTED else ""
    return (
        f"  {len(drifted)} sources are not labelled as recorded, and shift alike ({names}{more}): "
        "that is drift, and kept"
    )


def _record(one: Judged) -> dict[str, Any]:
    return {
        "kind": one.cell.kind,
        "name": one.cell.name,
        "source": one.cell.source,
        "rows": len(one.cell.rows),
        "standing": one.standing,
        "direction": one.against.recorded.direction,
        "share": one.against.recorded.share,
        "p_against_recorded": one.against.recorded.p_value,
        "p_against_others": one.against.others.p_value,
    }


def _line(refused: Examples, row: int, reason: str) -> dict[str, object]:
    fields = ("id", "source", "group", "query", "time", "split")
    return {
        **{name: getattr(refused, name)[row] for name in fields},
        "needs_frontier": float(refused.needs_frontier[row]),
        "reason": reason,
    }
