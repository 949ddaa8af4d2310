"""Log files, line by line: JSONL, CSV, TSV and Parquet, each gzipped or not.

A line that cannot be read becomes a `Record` with a `problem`; it never stops the reading.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from querytier.errors import LogError, UsageError

__all__ = ["Record", "read_records"]

_GZIP_MAGIC = b"\x1f\x8b"
_JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
_CSV_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LARGEST_CSV_FIELD = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Record:
    """One log record, or the reason why a line is not one.

    Attributes
    ----------
    line : int
        Line number in the file, from 1 (Parquet: row number).
    fields : dict or None
        The record's fields; None if there is a problem.
    problem : str or None
        Why the line cannot be read, or the record not be used.
    raw : str
        The line as it is in the file, with undecodable bytes escaped.
    """

    line: int
    fields: dict[str, object] | None
    problem: str | None
    raw: str


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a log file, bad lines among them.

    Parameters
    ----------
    path : Path
        `.jsonl`, `.ndjson`, `.json` (one object per line), `.csv`, `.tsv` or `.parquet`. Text
        formats may be gzipped, whatever the file is called.

    Raises
    ------
    UsageError
        If the file does not exist, or its extension belongs to no known format.
    LogError
        If the file as a whole cannot be read: a truncated gzip file, a damaged Parquet file.
    """
    if not path.is_file():
        raise UsageError(f"no such file: {path}; give the path of a router log")
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if ending == ".parquet":
        return _read_parquet(path)
    if ending in _CSV_DELIMITERS:
        return _read_csv(path, _CSV_DELIMITERS[ending])
    if ending in _JSON_ENDINGS:
        return _read_jsonl(path)
    known = ", ".join([*_JSON_ENDINGS, *_CSV_DELIMITERS, ".parquet"])
    raise UsageError(
        f"{path}: the extension {ending or '(none)'!r} does not belong to a known log format; "
        f"rename the file to one of {known} (text formats also with .gz)"
    )


def _read_jsonl(path: Path) -> Iterator[Record]:
    for line, text in _lines(path):
        # Escaped, so that the quarantine file can store it.
        raw = text.decode("utf-8", "backslashreplace").rstrip("\r\n")
        if not raw.strip():
            continue
        try:
            fields = json.loads(text.decode("utf-8"))
        except UnicodeDecodeError:
            yield Record(line, None, "not UTF-8", raw)
        except (ValueError, RecursionError):  # deep nesting overflows the parser
            yield Record(line, None, "not JSON", raw)
        else:
            if isinstance(fields, dict):
                yield Record(line, fields, None, raw)
            else:
                yield Record(line, None, "not a JSON object", raw)


def _read_csv(path: Path, delimiter: str) -> Iterator[Record]:
    # A query with a pasted document is longer than the default limit of 128 kB.
    csv.field_size_limit(_LARGEST_CSV_FIELD)
    # Decoded without errors, so that one bad byte spoils its row and not the file.
    texts = (text.decode("utf-8", "surrogateescape") for _, text in _lines(path))
    rows = csv.reader(texts, delimiter=delimiter)
    try:
        header = next(rows, [])
        for row in rows:
            raw = delimiter.join(row).encode("utf-8", "surrogateescape")
            yield _csv_record(rows.line_num, header, row, raw)
    except csv.Error as error:
        raise LogError(f"{path}, line {rows.line_num}: not readable as CSV: {error}") from error


def _csv_record(line: int, header: list[str], row: list[str], raw: bytes) -> Record:
    text = raw.decode("utf-8", "backslashreplace")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return Record(line, None, "not UTF-8", text)
    if len(row) != len(header):
        return Record(line, None, f"{len(row)} fields, but the header has {len(header)}", text)
    fields: dict[str, object] = {
        name: value if value != "" else None for name, value in zip(header, row, strict=True)
    }
    return Record(line, fields, None, text)


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    line = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches():
            for fields in batch.to_pylist():
                line += 1
                yield Record(line, fields, None, repr(fields))
    except (pa.ArrowException, OSError) as error:
        raise LogError(f"{path} is not a readable Parquet file: {error}") from error


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield line numbers and lines, without a byte order mark."""
    line = 0
    try:
        with _opened(path) as file:
            for line, text in enumerate(file, start=1):
                yield line, text.removeprefix(b"\xef\xbb\xbf") if line == 1 else text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LogError(
            f"{path} is a damaged or truncated gzip file: it cannot be read after line {line} "
            f"({error}); copy it again from its source"
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with path.open("rb") as file:
        # By content: log shippers often leave out the extension .gz.
        compressed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        if compressed:
            with gzip.open(file) as text:
                yield text
        else:
            yield file
