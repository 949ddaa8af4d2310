"""Arrow tables, one after the other, as a log file that `read_records` reads."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from querytier.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TableWriter", "table_writer"]

TableWriter = Callable[[Path, Iterator["pa.Table"]], int]


def table_writer(out: Path) -> TableWriter:
    """Return what writes tables to a path as the ending of `out` says, and returns their rows.

    Raises
    ------
    UsageError
        If the ending is none of .parquet, .jsonl and .jsonl.gz.
    """
    if out.suffix == ".parquet":
        return _write_parquet
    if out.suffix == ".jsonl":
        return _write_jsonl
    if out.name.endswith(".jsonl.gz"):
        return _write_gzipped_jsonl
    raise UsageError(f"{out} has none of the endings .parquet, .jsonl and .jsonl.gz; give it one")


def _write_parquet(path: Path, tables: Iterator["pa.Table"]) -> int:
    import pyarrow.parquet as pq

    first = next(tables, None)
    if first is None:
        return 0
    rows = int(first.num_rows)
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _write_jsonl(path: Path, tables: Iterator["pa.Table"]) -> int:
    with path.open("wb") as file:
        return _write_lines(file.write, tables)


def _write_gzipped_jsonl(path: Path, tables: Iterator["pa.Table"]) -> int:
    with gzip.open(path, "wb") as file:
        return _write_lines(file.write, tables)


def _write_lines(write: Callable[[bytes], int], tables: Iterator["pa.Table"]) -> int:
    rows = 0
    for table in tables:
        for row in table.to_pylist():
            # Times are the only values of these sets that JSON does not know.
            write(json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n")
        rows += table.num_rows
    return rows
