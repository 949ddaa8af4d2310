"""The audit of fresh labels before they are merged with the record.

New logs can be hostile. Rows are held back if their labels contradict, far beyond chance, both the
recorded labels and the other fresh rows. They are not used to train or to evaluate, and stay in a
file with the reason until a person releases their source (`audit_fresh.trusted_sources`) or drops
them. `querytier.training.label_audit.hold_back` explains how it distinguishes poison from drift.
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
from querytier.training.baselines import LabelledFeatures
from querytier.training.label_audit.expected_labels import predict_labels
from querytier.training.label_audit.hold_back import Finding, HoldRules, hold_back

__all__ = ["HELD_BACK", "FreshAudit", "audit_fresh", "embed"]

HELD_BACK = "held_back.jsonl"
_FEWEST_RECORDED = 200
_LISTED = 10
# The frozen test rows are left out: they must not influence which rows are kept.
_SPLITS_TO_LEARN_FROM = ("train", "calibration", "")


@dataclass(frozen=True, eq=False)
class FreshAudit:
    """The fresh rows that are kept, and those that are held back.

    Attributes
    ----------
    kept, held_back : Examples
        Together all fresh rows, each part in the original order.
    reasons : tuple of str
        One for each row held back.
    findings : tuple of Finding
        Cells that contradict the recorded labels, held back or not.
    not_audited : str
        Why nothing was tested; empty if something was.
    """

    kept: Examples
    held_back: Examples
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    not_audited: str = ""

    def lines(self) -> list[str]:
        """Return the result for an operator, one sentence per line."""
        rows, held = len(self.kept) + len(self.held_back), len(self.held_back)
        if self.not_audited:
            return [f"label audit: {rows} fresh rows not audited: {self.not_audited}"]
        lines = [f"label audit: {rows - held} of {rows} fresh rows kept, {held} held back"]
        drifted = [finding for finding in self.findings if finding.verdict == "drift"]
        others = [finding for finding in self.findings if finding.verdict != "drift"]
        lines += [f"  {_sentence(finding)}" for finding in others[:_LISTED]]
        if len(others) > _LISTED:
            lines.append(f"  and {len(others) - _LISTED} more, in the round's record")
        return lines + ([_drift_sentence(drifted)] if drifted else [])

    def to_dict(self) -> dict[str, Any]:
        """Return the audit for JSON."""
        return {
            "kept": len(self.kept),
            "held_back": len(self.held_back),
            "held_back_by_reason": dict(Counter(self.reasons)),
            "not_audited": self.not_audited or None,
            "judged": [_to_dict(finding) for finding in self.findings],
        }

    def write(self, out: Path) -> None:
        """Write the rows held back, each with its reason, to `out/held_back.jsonl`."""
        with atomic_file(out / HELD_BACK) as scratch, scratch.open("w", encoding="utf-8") as file:
            for row, reason in enumerate(self.reasons):
                line = _line(self.held_back, row, reason)
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def audit_fresh(
    recorded: Examples, fresh: Examples, params: AuditFreshParams | None = None
) -> FreshAudit:
    """Test the labels of fresh rows against predictions from recorded ones.

    Fresh rows of every split are tested, because poisoned rows must not evaluate a challenger
    either. Rows without a label are kept.

    Parameters
    ----------
    recorded, fresh : Examples
        Fresh rows are not part of the record yet.
    params : AuditFreshParams, optional

    Returns
    -------
    FreshAudit
        If nothing can be tested, everything is kept and `not_audited` says why.
    """
    params = params or AuditFreshParams()
    known = recorded.where(recorded.labelled).of_split(*_SPLITS_TO_LEARN_FROM)
    labelled = fresh.where(fresh.labelled)
    why = _why_not(known, labelled, params)
    if why:
        return _all_kept(fresh, why)
    rules = HoldRules(
        params.level, params.tolerated_share, params.fewest_labels, params.trusted_sources
    )
    try:
        expected = predict_labels(embed(known), embed(labelled), params.folds, params.seed)
    except TrainingError as error:
        return _all_kept(fresh, str(error))
    return _split(fresh, hold_back(expected, known, labelled, rules))


def _why_not(known: Examples, labelled: Examples, params: AuditFreshParams) -> str:
    """Return why nothing can be tested, or an empty string."""
    needy = int((known.needs_frontier > 0.5).sum())
    rarer = min(needy, len(known) - needy)
    if not params.enabled:
        return "audit_fresh.enabled is false"
    if len(known) < _FEWEST_RECORDED or rarer < 2 * params.folds:
        return (
            f"{len(known)} recorded labels, {rarer} of the rarer class, are too few for predictions"
        )
    if len(labelled) < params.fewest_labels:
        return f"{len(labelled)} fresh labels are fewer than audit_fresh.fewest_labels"
    return ""


def embed(examples: Examples) -> LabelledFeatures:
    """Return labelled examples with the embeddings that the predictors need."""
    from querytier.classifier.model.encoder import load_encoder
    from querytier.training.embedding_cache import EmbeddingCache

    embeddings = EmbeddingCache().encode(load_encoder(), examples.views())
    return LabelledFeatures(examples, {"minilm": embeddings})


def _all_kept(fresh: Examples, why: str) -> FreshAudit:
    nothing = np.zeros(len(fresh), dtype=bool)
    return FreshAudit(fresh, fresh.where(nothing), (), (), why)


def _split(fresh: Examples, findings: Sequence[Finding]) -> FreshAudit:
    """Return the audit; the rows of a cell are indices of the labelled fresh rows."""
    labelled = np.flatnonzero(fresh.labelled)
    reasons = np.full(len(fresh), "", dtype=object)
    for finding in findings:
        if finding.verdict == "held":
            reasons[labelled[finding.cell.rows]] = _sentence(finding)
    held = reasons != ""
    return FreshAudit(fresh.where(~held), fresh.where(held), tuple(reasons[held]), tuple(findings))


def _sentence(finding: Finding) -> str:
    cell, recorded = finding.cell, finding.tests.recorded
    name = cell.name if len(cell.name) <= 60 else f"{cell.name[:57]}..."
    change = "flipped" if recorded.direction == "flipped" else f"set {recorded.direction}"
    verdict = {
        "held": "held back, because the other fresh rows show no such change",
        "drift": "kept, because the other fresh rows have changed in the same way: this is drift",
        "cannot tell": "kept: too few other rows to tell poison from drift; the gate decides",
    }[finding.verdict]
    return (
        f"{cell.kind} '{name}': {len(cell.rows)} labels look as if {recorded.share:.0%} were "
        f"{change} (p = {recorded.p_value:.1g} against the recorded labels, "
        f"{finding.tests.others.p_value:.1g} against the other fresh rows); {verdict}"
    )


def _drift_sentence(drifted: Sequence[Finding]) -> str:
    names = ", ".join(finding.cell.name for finding in drifted[:_LISTED])
    more = f" and {len(drifted) - _LISTED} more" if len(drifted) > _LISTED else ""
    return (
        f"  {len(drifted)} sources contradict the recorded labels and have changed in the "
        f"same way ({names}{more}): this is drift, and they are kept"
    )


def _to_dict(finding: Finding) -> dict[str, Any]:
    cell, recorded = finding.cell, finding.tests.recorded
    return {
        "kind": cell.kind,
        "name": cell.name,
        "rows": len(cell.rows),
        "standing": finding.verdict,
        "direction": recorded.direction,
        "share": recorded.share,
        "p_against_recorded": recorded.p_value,
        "p_against_others": finding.tests.others.p_value,
    }


def _line(rows: Examples, row: int, reason: str) -> dict[str, object]:
    fields = ("id", "source", "group", "query", "time", "split")
    return {
        **{name: getattr(rows, name)[row] for name in fields},
        "needs_frontier": float(rows.needs_frontier[row]),
        "reason": reason,
    }
