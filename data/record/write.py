"""Merged examples on disk, as training reads them: the files that `prepare` would have left."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.labelled_log import ExampleBatch
from querytier.data.ingest.preparing import EXAMPLES, SUMMARY
from querytier.data.ingest.running_counts import Ledger
from querytier.data.record.merge import Merged
from querytier.data.splits import FEWEST_ROWS_TO_CERTIFY, SPLITS, SplitShares, splits_of
from querytier.data.text_view import hashed, is_truncated, text_view

__all__ = ["RECORD", "with_all_splits", "write_merged"]

RECORD = "record.parquet"


def with_all_splits(fresh: Examples, recorded: int, shares: SplitShares, seed: int) -> Examples:
    """Let small fresh logs fill the splits calibration and certification, too.

    `prepare` gives both to training below `FEWEST_ROWS_TO_CERTIFY` rows; a record that grows by
    less a week would never have any. Test rows stay: their place on the hash's scale comes first;
    and groups of which a row was planned, which never judge.

    Parameters
    ----------
    fresh : Examples
        As `prepare` gives them.
    recorded : int
        Rows of the record.
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
        Of the fresh logs, whose quarantine, sources and rules the summary repeats.
    folder : Path
    """
    examples = merged.examples
    summary = _summary(examples, fresh)
    _write(examples, folder / EXAMPLES)
    _write(merged.record, folder / RECORD)
    summary.write(folder / SUMMARY)
    return summary


def _write(examples: Examples, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(examples.table(), path)


def _summary(examples: Examples, fresh: DataSummary) -> DataSummary:
    ledger, labels = Ledger(), examples.needs_frontier
    ledger.add(_batch(examples))
    by_split = {split: labels[examples.split == split] for split in SPLITS}
    return replace(
        fresh,
        rows=len(examples),
        usable=len(examples),
        unlabelled={},
        positive=ledger.positive,
        negative=ledger.negative,
        groups=len(set(examples.group.tolist())),
        splits={split: len(found) for split, found in by_split.items()},
        needs_frontier={
            split: float(found.mean()) for split, found in by_split.items() if len(found)
        },
        shares=ledger.shares(),
        one_sided=replace(
            fresh.one_sided,
            tiers=dict(ledger.answered),
            outcomes=ledger.outcomes_known,
            propensities=ledger.propensities_known,
            policies=dict(ledger.policies),
        ),
        label_sources=dict(ledger.label_sources),
        fingerprint=examples.fingerprint(),
    )


def _batch(examples: Examples) -> ExampleBatch:
    queries = examples.query.tolist()
    return ExampleBatch(
        examples,
        _hashes(examples.group.tolist()),
        _hashes([text_view(query) for query in queries]),
        np.array([is_truncated(query) for query in queries], dtype=np.bool_),
    )


def _hashes(texts: list[str]) -> NDArray[np.uint64]:
    return np.array([hashed(text) for text in texts], dtype=np.uint64)
