"""The data of a round: new logs read, audited, merged with the record, and held against it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from querytier.data.examples import Examples
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.preparing import read_prepared
from querytier.data.record.merge import Merged, MergeRule, merge, with_lasting_ids
from querytier.data.record.write import RECORD, with_all_splits, write_merged
from querytier.data.values import utc_time
from querytier.errors import UsageError
from querytier.files import atomic_folder, write_json
from querytier.loop.drift_report import compare_windows
from querytier.loop.fresh_label_audit import FreshAudit, audit_fresh
from querytier.loop.rounds import Round
from querytier.pipeline.params import Params
from querytier.pipeline.scoring import load_to_judge

__all__ = ["FreshMerge", "compare_drift", "merge_fresh", "record_of", "since_date", "write_merge"]

MERGE = "merge.json"


@dataclass(frozen=True, eq=False)
class FreshMerge:
    """Fresh logs, audited and merged with the record.

    Attributes
    ----------
    merged : Merged
    fresh : DataSummary
        Of the logs, before anything was left out.
    audit : FreshAudit
    before_since, undated_since : int
        Rows left out for `--since`: those before it, and those without a time.
    """

    merged: Merged
    fresh: DataSummary
    audit: FreshAudit
    before_since: int
    undated_since: int

    def to_dict(self) -> dict[str, Any]:
        """Return what became of the rows, for JSON."""
        return {
            "read": self.fresh.rows,
            "labelled": self.fresh.usable,
            "unlabelled": self.fresh.unlabelled,
            "quarantined": self.fresh.quarantined,
            "passed_over": self.fresh.passed_over,
            "before_since": self.before_since,
            "undated_since": self.undated_since,
            "audit": {**self.audit.to_dict(), "lines": self.audit.lines()},
            "counts": asdict(self.merged.counts),
            "added": sorted(self.merged.added),
        }


def since_date(text: str | None) -> str | None:
    """Return a date that a person wrote as examples keep times.

    Raises
    ------
    UsageError
        If it is none.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since {text!r} is no date; write one like 2026-11-01") from None
    return utc_time((found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat())


def record_of(round_: Round | None) -> Examples:
    """Return every example taken in up to a round; none without one."""
    if round_ is None:
        return Examples.of([])
    return Examples.read_parquet(round_.folder / "data" / RECORD)


def merge_fresh(
    fresh_folder: Path, recorded: Examples, since: str | None, params: Params
) -> FreshMerge:
    """Audit what `prepare` left of new logs, and merge it with the record.

    Parameters
    ----------
    fresh_folder : Path
        What `--out` of `prepare` was.
    recorded : Examples
    since : str or None
        As `since_date` gives it.
    params : Params
    """
    examples, summary = read_prepared(fresh_folder)
    examples, before, undated = _from(with_lasting_ids(examples), since)
    section = params.prepare
    fresh = with_all_splits(examples, len(recorded), section.shares.model_dump(), section.seed)
    known = np.isin(fresh.id.astype(str), recorded.id.astype(str))
    audit = audit_fresh(recorded, fresh.where(~known), params.audit_fresh)
    refused = np.isin(fresh.id.astype(str), audit.held_back.id.astype(str)) & ~known
    merged = merge(recorded, fresh.where(~refused), _rule(params))
    return FreshMerge(merged, summary, audit, before, undated)


def write_merge(found: FreshMerge, round_: Round) -> None:
    """Leave the data as training reads them, and the account of them, in the round's folder."""
    found.audit.write(round_.folder)
    with atomic_folder(round_.folder / "data") as folder:
        write_merged(found.merged, found.fresh, folder)
        write_json(folder / MERGE, found.to_dict())


def compare_drift(
    round_: Round, champion: Round, params: Params, say: Callable[[str], None]
) -> None:
    """Hold the rows that the round brought against those on which the champion was judged."""
    examples, _ = read_prepared(round_.folder)
    stood, _ = read_prepared(champion.folder)
    fresh = ~np.isin(examples.id.astype(str), record_of(champion).id.astype(str))
    # What the champion was judged on, be it too old by now to train its successor.
    reference = stood.of_split("calibration", "test")
    report = compare_windows(
        reference, examples.where(fresh), load_to_judge(champion.folder / "model"), params.drift
    )
    report.write(round_.folder)
    for line in report.lines():
        say(f"drift: {line}")


def _from(examples: Examples, since: str | None) -> tuple[Examples, int, int]:
    """Leave out rows before a time, and those without one where a time is asked for."""
    if since is None:
        return examples, 0, 0
    times = examples.time.astype(str)
    undated = times == ""
    before = ~undated & (times < since)
    kept = examples.where(~undated & ~before)
    return kept, int(before.sum()), int(undated.sum())


def _rule(params: Params) -> MergeRule:
    section = params.retrain
    return MergeRule(
        window_days=section.window_days,
        half_life_days=section.half_life_days,
        largest_group_share=section.largest_group_share,
        largest_source_share=section.largest_source_share,
        near_duplicate_threshold=params.prepare.near_duplicate_threshold,
        near_duplicate_rows=params.prepare.near_duplicate_rows,
    )
