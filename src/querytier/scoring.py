"""Many decisions through the very path that serves one."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from querytier.data.atomic import atomic_file
from querytier.data.columns import ColumnMap
from querytier.data.examples import query_of, text_of
from querytier.data.preparing import mapped_rows
from querytier.errors import UsageError
from querytier.serve import Decision, Router

__all__ = ["Scored", "decide_all", "embed_all", "score_log"]

Answer = TypeVar("Answer")

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
    logs: Path, columns: ColumnMap, artifact: Path, out: Path, *, max_bad_share: float
) -> Scored:
    """Decide every query of a log and write `id, p_frontier, decision_score, tier`.

    Parameters
    ----------
    logs : Path
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
    rows, quarantined = mapped_rows(logs, columns, _id_and_query, quarantine, max_bad_share)
    decisions = decide_all(router, [query for _, query in rows])
    _write([identity for identity, _ in rows], decisions, out)
    return Scored(
        rows=len(rows),
        quarantined=dict(quarantined),
        tiers=dict(Counter(decision.tier for decision in decisions)),
        reasons=dict(Counter(decision.reason for decision in decisions)),
    )


def _id_and_query(values: Mapping[str, object], default_id: str) -> tuple[str, str]:
    return text_of(values, "id") or default_id, query_of(values)


def _over_threads(
    function: Callable[[str], Answer], items: Sequence[str], name: str
) -> Iterator[Answer]:
    from tqdm import tqdm

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        yield from tqdm(threads.map(function, items), total=len(items), desc=name, unit="query")


def _write(ids: Sequence[str], decisions: Sequence[Decision], out: Path) -> None:
    rows = [
        (identity, decision.p_frontier, decision.decision_score, decision.tier)
        for identity, decision in zip(ids, decisions, strict=True)
    ]
    with atomic_file(out) as scratch:
        if out.suffix == ".csv":
            with scratch.open("w", newline="", encoding="utf-8", errors="replace") as file:
                writer = csv.writer(file)
                writer.writerow(_COLUMNS)
                writer.writerows(rows)
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            schema = pa.schema(
                [
                    ("id", pa.string()),
                    ("p_frontier", pa.float64()),
                    ("decision_score", pa.float64()),
                    ("tier", pa.string()),
                ]
            )
            table = pa.table(dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True)))
            pq.write_table(table.cast(schema), scratch)
