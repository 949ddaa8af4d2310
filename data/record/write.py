"""Merged examples on disk: the files that `prepare` would have written, and the record."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from querytier.data.examples import Examples
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.preparing import EXAMPLES, SUMMARY
from querytier.data.record.merge import Merged
from querytier.data.splits import FEWEST_ROWS_TO_CERTIFY, SplitShares, splits_of

__all__ = ["RECORD", "with_all_splits", "write_merged"]

RECORD = "record.parquet"


def with_all_splits(fresh: Examples, recorded: int, shares: SplitShares, seed: int) -> Examples:
    """Return fresh examples with calibration and certification splits as well.

    `prepare` assigns both to training if a log has fewer than `FEWEST_ROWS_TO_CERTIFY` rows, so a
    record that grows by fewer rows each week would never get any. Test rows stay where they are,
    because the test split comes first on the hash's scale; and so do groups with a row that a plan
    selected, because they must not be used for evaluation.

    Parameters
    ----------
    fresh : Examples
        As `prepare` returns them.
    recorded : int
        Number of rows of the record.
    shares : dict
    seed : int
    """
    enough = recorded + int(fresh.labelled.sum()) >= FEWEST_ROWS_TO_CERTIFY
    if not enough or np.isin(fresh.split.astype(str), ["calibration", "certification"]).any():
        return fresh
    groups = np.array([int(name, 16) for name in fresh.group.tolist()], dtype=np.uint64)
    splits = splits_of(groups, shares, seed)
    planned = np.isin(fresh.group.astype(str), fresh.group[fresh.planned].astype(str))
    train = (fresh.split == "train") & (splits != "test") & ~planned
    return replace(fresh, split=np.where(train, splits, fresh.split))


def write_merged(merged: Merged, fresh: DataSummary, folder: Path) -> DataSummary:
    """Write examples, summary and record; return the summary.

    Parameters
    ----------
    merged : Merged
    fresh : DataSummary
        Summary of the fresh logs; its quarantine, sources and rules are copied.
    folder : Path
    """
    summary = DataSummary.of(merged.examples, replace(fresh, rows=len(merged.examples)))
    merged.examples.write_parquet(folder / EXAMPLES)
    merged.record.write_parquet(folder / RECORD)
    summary.write(folder / SUMMARY)
    return summary
