"""Many decisions through the very path that serves one."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from querytier.data.atomic import atomic_file
from querytier.data.columns import ColumnMap
from querytier.data.examples import query_of, text_of
from querytier.data.logs import MappedLog
from querytier.data.sources import LogSource
from querytier.errors import UsageError
from querytier.serve import Decision, Router

__all__ = ["Scored", "decide_all", "embed_all", "score_log"]

Answer = TypeVar("Answer")

Row = tuple[str, float | None, float | None, str]

_ROWS_AT_ONCE = 1000
_COLUMNS = ("id", "p_frontier", "decision_score", "tier")


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of scoring a log.

    Attributes
    ----------
    rows : int
    quarantined : dict of str to int
        Records that could not be scored, by reason.
    tiers, reasons : dict of str to int
        Decisions by tier and by reason.
    """

    rows: int
    quarantined: dict[str, int]
    tiers: dict[str, int]
    reasons: dict[str, int]


def decide_all(router: Router, queries: Sequence[str]) -> list[Decision]:
    """Decide queries one by one, on as many threads as there are cores, with a progress bar."""
    return list(_over_threads(router.decide, queries, "decide"))


def embed_all(router: Router, views: Sequence[str]) -> NDArray[np.float32]:
    """Return the embeddings of text views, from the graph, one by one; shape (n, dimension)."""
    return np.array(list(_over_threads(router.classifier.embedding, views, "embed")))


def score_log(
    source: LogSource, columns: ColumnMap, artifact: Path, out: Path, *, max_bad_share: float
) -> Scored:
    """Decide every query of a log and write `id, p_frontier, decision_score, tier`.

    Parameters
    ----------
    source : LogSource
    columns : ColumnMap
        `query`, and `id` where there is one; without, ids are `line-N`.
    artifact : Path
    out : Path
        `.csv` or `.parquet`; appears when it is complete. Records that cannot be scored go to
        `OUT.quarantine.jsonl`.
    max_bad_share : float
        Above this share of such records, in [0, 1], nothing is written.

    Raises
    ------
    UsageError
        If the file or a column does not exist, or `out` has another ending.
    LogError
        If the log cannot be read, or too many records are bad.
    ArtifactError
        If the artifact does not load.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise UsageError(f"--out {out}: write to a file that ends in .csv or .parquet")
    router = Router.load(artifact)
    out.parent.mkdir(parents=True, exist_ok=True)
    quarantine = out.with_name(f"{out.name}.quarantine.jsonl")
    log = MappedLog(source, columns, _id_and_query, quarantine, max_bad_share)
    tiers: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with atomic_file(out) as scratch, _writer(scratch, out.suffix) as write:
        for identity, decision in _decided(router, log):
            write((identity, decision.p_frontier, decision.decision_score, decision.tier))
            tiers[decision.tier] += 1
            reasons[decision.reason] += 1
    return Scored(log.usable, dict(log.quarantined), dict(tiers), dict(reasons))


def _id_and_query(values: Mapping[str, object], default_id: str) -> tuple[str, str]:
    return text_of(values, "id") or default_id, query_of(values)


def _over_threads(
    function: Callable[[str], Answer], items: Sequence[str], name: str
) -> Iterator[Answer]:
    from tqdm import tqdm

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield from tqdm(threads.map(function, items), total=len(items), desc=name, unit="query")


def _decided(router: Router, log: MappedLog[tuple[str, str]]) -> Iterator[tuple[str, Decision]]:
    """Decide a log's queries, a batch on all cores at a time, in order."""
    from tqdm import tqdm

    rows = iter(tqdm(log, desc="decide", unit="query"))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            ids, queries = zip(*batch, strict=True)
            yield from zip(ids, threads.map(router.decide, queries), strict=True)


@contextmanager
def _writer(path: Path, ending: str) -> Iterator[Callable[[Row], None]]:
    """Give a function that writes one row to a CSV or Parquet file."""
    if ending == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(_COLUMNS)
            yield lines.writerow
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(list(zip(_COLUMNS, ("string", "double", "double", "string"), strict=True)))
    pending: list[Row] = []
    with pq.ParquetWriter(path, schema) as table:

        def flush() -> None:
            columns = list(zip(*pending, strict=True)) or [()] * len(_COLUMNS)
            table.write(
                pa.table(
                    [pa.array(c, t.type) for c, t in zip(columns, schema, strict=True)],
                    schema=schema,
                )
            )
            pending.clear()

        def write(row: Row) -> None:
            pending.append(row)
            if len(pending) == _ROWS_AT_ONCE:
                flush()

        yield write
        flush()
