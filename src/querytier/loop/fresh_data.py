"""The data of a round: read, audited, merged with the record, and compared with the champion's."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from querytier.pipeline.scoring import load_for_evaluation

__all__ = [
    "MERGED",
    "FreshMerge",
    "compare_drift",
    "merge_fresh",
    "record_of",
    "since_date",
    "write_merge",
]

MERGED = "data/merge.json"


@dataclass(frozen=True, eq=False)
class FreshMerge:
    """New logs, audited and merged with the record.

    Attributes
    ----------
    merged : Merged
    fresh : DataSummary
        Summary of the logs before anything was left out.
    audit : FreshAudit
    before_since, undated_since : int
        Number of rows that `--since` left out: earlier ones, and ones without a time.
    """

    merged: Merged
    fresh: DataSummary
    audit: FreshAudit
    before_since: int
    undated_since: int

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `merge.json`."""
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
    """Return the date given to `--since` in the format of the examples' times.

    Raises
    ------
    UsageError
        If the text is not a date.
    """
    if text is None:
        return None
    try:
        return utc_time(text)
    except ValueError:
        raise UsageError(f"--since {text!r} is not a date; write one like 2026-11-01") from None


def record_of(round_: Round | None) -> Examples:
    """Return every example recorded up to a round; none if there is no round."""
    if round_ is None:
        return Examples.of([])
    return Examples.read_parquet(round_.folder / "data" / RECORD)


def merge_fresh(
    fresh_folder: Path, recorded: Examples, since: str | None, params: Params
) -> FreshMerge:
    """Audit prepared new logs, and merge them with the record.

    Parameters
    ----------
    fresh_folder : Path
        The `--out` of `prepare`.
    recorded : Examples
    since : str or None
        As `since_date` returns it.
    params : Params
    """
    examples, summary = read_prepared(fresh_folder)
    examples, before, undated = _from(with_lasting_ids(examples), since)
    section = params.prepare
    fresh = with_all_splits(examples, len(recorded), section.shares.model_dump(), section.seed)
    # Recorded rows passed the audit of their own round. A second audit would compare them with
    # themselves, because the record is the standard for fresh labels.
    known = _in(fresh, recorded)
    audit = audit_fresh(recorded, fresh.where(~known), params.audit_fresh)
    refused = _in(fresh, audit.held_back) & ~known
    merged = merge(recorded, fresh.where(~refused), _rule(params))
    return FreshMerge(merged, summary, audit, before, undated)


def write_merge(fresh: FreshMerge, round_: Round) -> None:
    """Write the data that training reads, and `merge.json`, to the round's folder."""
    fresh.audit.write(round_.folder)
    with atomic_folder(round_.folder / "data") as folder:
        write_merged(fresh.merged, fresh.fresh, folder)
        write_json(folder / Path(MERGED).name, fresh.to_dict())


def compare_drift(
    round_: Round, champion: Round, params: Params, report: Callable[[str], None]
) -> None:
    """Compare the round's new rows with the held-out rows of the champion's own round."""
    examples, _ = read_prepared(round_.folder)
    # Read from the champion's folder, not from this round's data, where the window may have dropped
    # rows that are too old to train on. Training rows are left out: the champion is overconfident
    # on them.
    reference = read_prepared(champion.folder)[0].of_split("calibration", "test")
    fresh = examples.where(~_in(examples, record_of(champion)))
    router = load_for_evaluation(champion.folder / "model")
    drift = compare_windows(reference, fresh, router, params.drift)
    drift.write(round_.folder)
    for line in drift.lines():
        report(f"drift: {line}")


def _in(examples: Examples, others: Examples) -> NDArray[np.bool_]:
    """Return which examples have the id of one of the others."""
    return np.isin(examples.id.astype(str), others.id.astype(str))


def _from(examples: Examples, since: str | None) -> tuple[Examples, int, int]:
    """Return the rows at or after a time, and the numbers of earlier and of undated rows."""
    if since is None:
        return examples, 0, 0
    times = examples.time.astype(str)
    undated = times == ""
    # ISO 8601 in UTC sorts as text.
    before = ~undated & (times < since)
    return examples.where(~undated & ~before), int(before.sum()), int(undated.sum())


def _rule(params: Params) -> MergeRule:
    return MergeRule(
        **params.retrain.model_dump(exclude={"fewest_fresh_rows", "frozen_margin"}),
        near_duplicate_threshold=params.prepare.near_duplicate_threshold,
        near_duplicate_rows=params.prepare.near_duplicate_rows,
    )
