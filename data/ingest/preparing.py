"""From router logs to examples with splits, and an account of every line, in constant memory.

There are two passes. The first reads, labels and stages the examples on disk, and keeps a few
numbers of each in memory (`running_counts`), from which groups and splits follow: a group is known
only when the last line is read. The second adds group and split, and writes labelled and unlabelled
examples to separate files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Hashes
from querytier.data.examples import Examples, Fingerprint
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.engines import Engine
from querytier.data.ingest.labelled_log import LabelledLog, Reading
from querytier.data.ingest.log_batches import counts_text
from querytier.data.ingest.running_counts import RunningCounts
from querytier.data.ingest.sources import LogSource
from querytier.data.near_duplicates import near_duplicate_links
from querytier.data.splits import SplitShares
from querytier.data.text_view import text_view
from querytier.errors import LogError, UsageError
from querytier.files import atomic_folder

__all__ = [
    "EXAMPLES",
    "SUMMARY",
    "UNLABELLED",
    "Splitting",
    "prepare",
    "read_all",
    "read_prepared",
    "read_unsplit",
]

EXAMPLES, UNLABELLED, SUMMARY = "examples.parquet", "unlabelled.parquet", "summary.json"
_ROWS_AT_ONCE = 10_000

Splits = NDArray[np.object_]


@dataclass(frozen=True)
class Splitting:
    """How examples are grouped, and how groups are assigned to splits.

    Attributes
    ----------
    shares : dict
        Share of each split but "train".
    seed : int
        Seed of the splits.
    near_duplicate_threshold : float or None
        Similarity, in (0, 1], from which examples share a group; None joins equal views only.
    near_duplicate_rows : int
        Longer logs are not searched for near duplicates: their queries would not fit in memory.
    temporal : bool
        Whether the newest groups are the test split, instead of those that a hash picks.
    """

    shares: SplitShares
    seed: int = 0
    near_duplicate_threshold: float | None = None
    near_duplicate_rows: int = 0
    temporal: bool = False


def prepare(
    sources: Sequence[LogSource],
    out: Path,
    reading: Reading,
    splitting: Splitting,
    engine: Engine | None = None,
) -> DataSummary:
    """Read and label logs, assign splits, and write examples, summary and quarantine file.

    Parameters
    ----------
    sources : sequence of LogSource
    out : Path
        Folder for `data/examples.parquet`, `data/unlabelled.parquet` (examples without a label),
        `data/summary.json` and `quarantine.jsonl`.
    reading : Reading
    splitting : Splitting
    engine : Engine, optional
        Reads the files; by default this process does.

    Raises
    ------
    UsageError
        If a file or a mapped column does not exist, or the columns make no label.
    LogError
        If a file cannot be read, or too many records are bad.
    """
    out.mkdir(parents=True, exist_ok=True)
    log = LabelledLog(sources, reading, out / "quarantine.jsonl", engine)
    with atomic_folder(out / "data") as folder:
        staged, counts = folder / "staged.parquet", RunningCounts()
        _stage(log, counts, staged)
        links = None
        threshold = splitting.near_duplicate_threshold
        # The search needs all queries in memory at once; 14,000 prompts of MMLU take 1.3 s.
        if threshold is not None and len(counts) <= splitting.near_duplicate_rows:
            links = near_duplicate_links(_views(staged), threshold)
        groups = counts.groups(links)
        splits = counts.splits(
            groups, splitting.shares, splitting.seed, temporal=splitting.temporal
        )
        summary = _summary(log, counts, groups, splits, None if links is None else len(links))
        del counts  # the second pass needs its memory
        fingerprint = _write_examples(staged, groups, splits, folder)
        staged.unlink()
        summary = replace(summary, fingerprint=fingerprint)
        summary.write(folder / SUMMARY)
    return summary


def read_prepared(out: Path) -> tuple[Examples, DataSummary]:
    """Return the examples and the summary that `prepare` wrote under a run's folder.

    Raises
    ------
    UsageError
        If there are none.
    """
    folder = out / "data"
    if not (folder / SUMMARY).is_file():
        raise UsageError(f"{folder} has no prepared data; run `querytier prepare` first")
    return Examples.read_parquet(folder / EXAMPLES), DataSummary.read(folder / SUMMARY)


def read_unsplit(
    sources: Sequence[LogSource], reading: Reading, quarantine: Path, *, planned: bool = False
) -> tuple[Examples, DataSummary]:
    """Read the labelled examples of logs into memory, all in the test split; raises as `prepare`.

    Groups with an example that a plan selected are left out unless `planned` is true, because they
    must not be used for evaluation.
    """
    examples, summary = read_all(sources, reading, quarantine)
    examples = examples.where(examples.labelled & (planned | (examples.split == "test")))
    # All in the test split, because nothing was trained on this log.
    examples = replace(examples, split=np.full(len(examples), "test", dtype=object))
    if not len(examples):
        raise LogError(f"{summary.source} has no labelled row ({counts_text(summary.unlabelled)})")
    return examples, replace(summary, fingerprint=examples.fingerprint())


def read_all(
    sources: Sequence[LogSource], reading: Reading, quarantine: Path
) -> tuple[Examples, DataSummary]:
    """Read the examples of logs into memory, labelled or not; groups of a plan are in train."""
    log, counts = LabelledLog(sources, reading, quarantine), RunningCounts()
    batches = []
    for batch in log:
        counts.add(batch)
        batches.append(batch.examples)
    groups = counts.groups()
    splits = np.where(counts.planned_groups(groups), "train", "test").astype(object)
    examples = Examples.concatenated(batches).with_splits(groups, splits)
    summary = _summary(log, counts, groups, splits, None)
    return examples, replace(summary, fingerprint=examples.fingerprint())


def _stage(log: LabelledLog, counts: RunningCounts, path: Path) -> None:
    """Write the examples as they come, without final groups and splits."""
    import pyarrow.parquet as pq
    from tqdm import tqdm

    with (
        pq.ParquetWriter(path, Examples.schema()) as writer,
        tqdm(desc="prepare", unit="line", disable=None) as bar,
    ):
        for batch in log:
            counts.add(batch)
            writer.write_table(batch.examples.table())
            bar.update(len(batch.examples))


def _write_examples(staged: Path, groups: Hashes, splits: Splits, folder: Path) -> str:
    """Write the staged examples with group and split; return the labelled rows' fingerprint."""
    import pyarrow.parquet as pq

    start, fingerprint = 0, Fingerprint()
    with (
        pq.ParquetFile(staged) as file,
        pq.ParquetWriter(folder / EXAMPLES, Examples.schema()) as labelled,
        pq.ParquetWriter(folder / UNLABELLED, Examples.schema()) as unlabelled,
    ):
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            rows = slice(start, start + batch.num_rows)
            examples = Examples.of_table(batch).with_splits(groups[rows], splits[rows])
            usable = examples.where(examples.labelled)
            others = examples.where(~examples.labelled)
            for writer, part in ((labelled, usable), (unlabelled, others)):
                if len(part):  # an empty table would become an empty row group
                    writer.write_table(part.table())
            fingerprint.add(usable)
            start = rows.stop
    return fingerprint.hexdigest()


def _views(staged: Path) -> list[str]:
    """Return the views of the staged queries, without reading the other columns."""
    import pyarrow.parquet as pq

    queries = pq.read_table(staged, columns=["query"]).column("query")
    return [text_view(query) for query in queries.to_pylist()]


def _summary(
    log: LabelledLog, counts: RunningCounts, groups: Hashes, splits: Splits, links: int | None
) -> DataSummary:
    """Return the summary; its fingerprint is filled in when the examples are written."""
    return DataSummary.from_counts(
        counts,
        groups,
        splits,
        source=log.name,
        rows=log.account.rows,
        quarantined=dict(log.account.quarantined),
        passed_over=dict(log.account.passed_over),
        near_duplicates=links,
        redacted={kind: count for kind, count in log.redacted.items() if count},
        label_rules=log.rules,
        fingerprint="",
    )
