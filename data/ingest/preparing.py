"""From router logs to examples with splits, and an account of every line, in constant memory.

Two passes. The first reads, labels and stages examples, and keeps a few numbers of each in memory;
from these the groups and splits follow. The second writes the examples with their group and split:
those with a label, and those without one apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples, Fingerprint
from querytier.data.ingest.data_summary import DataSummary, OneSided, counted
from querytier.data.ingest.engines import Engine
from querytier.data.ingest.labelled_log import LabelledLog, Reading
from querytier.data.ingest.running_counts import Ledger
from querytier.data.ingest.sources import LogSource
from querytier.data.near_duplicates import near_duplicate_links
from querytier.data.splits import SPLITS, SplitShares
from querytier.data.text_view import VIEW_VERSION, text_view, view_fingerprint
from querytier.errors import LogError, UsageError
from querytier.files import atomic_folder

if TYPE_CHECKING:
    import pyarrow.parquet as pq

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

Hashes = NDArray[np.uint64]
Splits = NDArray[np.object_]


@dataclass(frozen=True)
class Splitting:
    """How examples are grouped, and which split each group gets.

    Attributes
    ----------
    shares : dict
        Share of each split but "train".
    seed : int
        Seed of the splits.
    near_duplicate_threshold : float or None
        Examples at least this similar, in (0, 1], share a group; None joins equal views only.
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
    """Read logs, label them, give splits; write examples, summary and quarantine file.

    Parameters
    ----------
    sources : sequence of LogSource
    out : Path
        Gets `data/examples.parquet`, `data/unlabelled.parquet` (the examples without a label),
        `data/summary.json` and `quarantine.jsonl`.
    reading : Reading
    splitting : Splitting
    engine : Engine, optional
        What reads the files; this process without.

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
        staged, ledger = folder / "staged.parquet", Ledger()
        _stage(log, ledger, staged)
        links = None
        threshold = splitting.near_duplicate_threshold
        if threshold is not None and len(ledger) <= splitting.near_duplicate_rows:
            links = near_duplicate_links(_views(staged), threshold)
        groups = ledger.groups(links)
        splits = ledger.splits(
            groups, splitting.shares, splitting.seed, temporal=splitting.temporal
        )
        summary = _summary(log, ledger, groups, splits, links=links)
        del ledger  # its memory is wanted for the second pass
        fingerprint = _write_examples(staged, groups, splits, folder)
        staged.unlink()
        summary = replace(summary, fingerprint=fingerprint)
        summary.write(folder / SUMMARY)
    return summary


def read_prepared(out: Path) -> tuple[Examples, DataSummary]:
    """Return the examples and the summary that `prepare` left under a run's folder.

    Raises
    ------
    UsageError
        If there are none.
    """
    folder = out / "data"
    if not (folder / SUMMARY).is_file():
        raise UsageError(f"{folder} holds no prepared data; run `querytier prepare` first")
    return Examples.read_parquet(folder / EXAMPLES), DataSummary.read(folder / SUMMARY)


def read_unsplit(
    sources: Sequence[LogSource], reading: Reading, quarantine: Path, *, planned: bool = False
) -> tuple[Examples, DataSummary]:
    """Read the labelled examples of logs into memory, all in the test split; as `prepare`.

    Groups with a planned example come along only where `planned` says so: nothing is judged by
    them.
    """
    examples, summary = read_all(sources, reading, quarantine)
    examples = examples.where(examples.labelled & (planned | (examples.split == "test")))
    examples = replace(examples, split=np.full(len(examples), "test", dtype=object))
    if not len(examples):
        raise LogError(f"{summary.source} has no labelled row ({counted(summary.unlabelled)})")
    return examples, replace(summary, fingerprint=examples.fingerprint())


def read_all(
    sources: Sequence[LogSource], reading: Reading, quarantine: Path
) -> tuple[Examples, DataSummary]:
    """Read the examples of logs into memory, labelled or not; planned groups have split train."""
    log, ledger = LabelledLog(sources, reading, quarantine), Ledger()
    batches = []
    for batch in log:
        ledger.add(batch)
        batches.append(batch.examples)
    groups = ledger.groups()
    splits = np.where(ledger.planned_groups(groups), "train", "test").astype(object)
    examples = Examples.concatenated(batches).with_splits(groups, splits)
    summary = _summary(log, ledger, groups, splits)
    return examples, replace(summary, fingerprint=examples.fingerprint())


def _stage(log: LabelledLog, ledger: Ledger, path: Path) -> None:
    """Write the examples as they come, without final groups and splits."""
    import pyarrow.parquet as pq
    from tqdm import tqdm

    with (
        pq.ParquetWriter(path, Examples.schema()) as writer,
        tqdm(desc="prepare", unit="line", disable=None) as bar,
    ):
        for batch in log:
            ledger.add(batch)
            writer.write_table(batch.examples.table())
            bar.update(len(batch.examples))


def _write_examples(staged: Path, groups: Hashes, splits: Splits, folder: Path) -> str:
    """Write the staged examples with group and split; return the fingerprint of the labelled."""
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
            kept = examples.where(examples.labelled)
            _write(labelled, kept)
            _write(unlabelled, examples.where(~examples.labelled))
            fingerprint.add(kept)
            start = rows.stop
    return fingerprint.hexdigest()


def _write(writer: "pq.ParquetWriter", examples: Examples) -> None:
    if len(examples):
        writer.write_table(examples.table())


def _views(staged: Path) -> list[str]:
    import pyarrow.parquet as pq

    queries = pq.read_table(staged, columns=["query"]).column("query")
    return [text_view(query) for query in queries.to_pylist()]


def _summary(
    log: LabelledLog,
    ledger: Ledger,
    groups: Hashes,
    splits: Splits,
    *,
    links: NDArray[np.intp] | None = None,
) -> DataSummary:
    """Return the summary, its fingerprint yet to be filled in."""
    labelled = ~np.isnan(ledger.labels)
    labels = {split: ledger.labels[(splits == split) & labelled] for split in SPLITS}
    return DataSummary(
        source=log.name,
        rows=log.account.rows,
        usable=ledger.labelled,
        unlabelled=dict(ledger.unlabelled),
        quarantined=dict(log.account.quarantined),
        passed_over=dict(log.account.passed_over),
        positive=ledger.positive,
        negative=ledger.negative,
        groups=_distinct(groups[labelled]),
        splits={split: len(found) for split, found in labels.items()},
        needs_frontier={
            split: float(found.mean()) for split, found in labels.items() if len(found)
        },
        shares=ledger.shares(),
        one_sided=OneSided(
            tiers=dict(ledger.answered),
            outcomes=ledger.outcomes_known,
            propensities=ledger.propensities_known,
            policies=dict(ledger.policies),
        ),
        near_duplicates=None if links is None else len(links),
        redacted={kind: count for kind, count in log.redacted.items() if count},
        label_rules=log.rules,
        label_sources=dict(ledger.label_sources),
        view_version=VIEW_VERSION,
        view_sha256=view_fingerprint(),
        fingerprint="",
    )


def _distinct(hashes: Hashes) -> int:
    """Return how many distinct hashes there are; sorts them in place."""
    hashes.sort()
    return int((hashes[1:] != hashes[:-1]).sum()) + bool(len(hashes))
