"""Log files as Arrow batches of rows, and the account of the records that became no row.

Reading and accounting are separate, so that logs can be read in many processes: `log_batches` reads
one file and keeps nothing; `LogAccount` adds up the batches of all files, in order, in one place.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Generic, Self, TypeVar

from querytier.data.column_map import ColumnMap, leaf_paths
from querytier.data.formats.canonical import is_passed_over
from querytier.data.ingest.sources import LogSource
from querytier.data.values import BadRecordError
from querytier.errors import LogError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LogAccount", "counts_text", "log_batches"]

_SHOWN_COLUMNS = 12
# A batch ends at whichever comes first, so that long queries do not fill the memory.
_ROWS_AT_ONCE = 10_000
_CHARACTERS_AT_ONCE = 2**24

Row = TypeVar("Row")


def log_batches(
    source: LogSource,
    columns: ColumnMap,
    make: Callable[[Mapping[str, object], str], Row],
    to_table: Callable[[list[Row]], "pa.Table"],
    hide: Callable[[str], str] = str,
) -> Iterator["pa.RecordBatch"]:
    """Yield a log file's rows and its rejected records, each in the order of the file.

    Parameters
    ----------
    source : LogSource
    columns : ColumnMap
    make : callable
        Takes a record's mapped values and a default id, returns a row or raises `BadRecordError`.
    to_table : callable
        Turns rows into a table.
    hide : callable
        Applied to the text of every record before it leaves this function; redaction.

    Yields
    ------
    pyarrow.RecordBatch
        Either rows, as `to_table` makes them with the columns `file, line, raw` added; or rejected
        records, with the columns `file, line, raw, reason, passed_over`. Memory holds one of each.

    Raises
    ------
    UsageError
        If the file does not exist; at the end, if no record has a mapped column.
    LogError
        If the file cannot be read.
    """
    name, seen = source.path.name, _SeenColumns(columns)
    rows, rejected = _Pending(name, to_table), _Pending(name, _rejected_table)
    for record in source.records():
        raw = hide(record.raw)
        if record.fields is None:
            problem = hide(record.problem or "")
            yield from rejected.add((problem, is_passed_over(record)), record.line, raw)
            continue
        seen.add(record.fields)
        try:
            row = make(columns.values(record.fields), f"{source.id_prefix}line-{record.line}")
        except BadRecordError as error:
            yield from rejected.add((hide(str(error)), False), record.line, raw)
        else:
            yield from rows.add(row, record.line, raw)
    yield from rejected.flush()
    yield from rows.flush()
    seen.check(source.path)


class LogAccount:
    """Counts of usable, bad and passed-over records; bad records go to the quarantine file.

    The file is created with the first bad record and has a JSON object for each: file, line,
    reason, raw text. The file of an earlier run is deleted.

    Parameters
    ----------
    quarantine : Path
    max_bad_share : float
        Share of bad records, in [0, 1], above which `check` fails.

    Attributes
    ----------
    usable : int
        Rows so far.
    quarantined : Counter
        Bad records so far, by reason (without the value).
    passed_over : Counter
        Records so far that do not concern the router (tool calls, other models), by reason.
    """

    def __init__(self, quarantine: Path, max_bad_share: float) -> None:
        self.quarantine = quarantine
        self.usable = 0
        self.quarantined: Counter[str] = Counter()
        self.passed_over: Counter[str] = Counter()
        self._max_bad_share = max_bad_share
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        # A file from an earlier run would look like bad records of this one.
        self.quarantine.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def rows(self) -> int:
        """Records so far, without those passed over."""
        return self.usable + self.quarantined.total()

    def add(self, batch: "pa.RecordBatch") -> bool:
        """Count a batch of `log_batches`; return whether it holds rows."""
        if "passed_over" not in batch.schema.names:
            self.usable += batch.num_rows
            return True
        for record in batch.to_pylist():
            if record.pop("passed_over"):
                self.passed_over[_kind(record["reason"])] += 1
            else:
                self._set_aside(record)
        return False

    def reject(self, batch: "pa.RecordBatch", row: int, reason: str) -> None:
        """Put a row that was counted as usable into quarantine."""
        self.usable -= 1
        # The batch may come from another process: its columns are all that is left of the record.
        record = {name: batch.column(name)[row].as_py() for name in ("file", "line", "raw")}
        self._set_aside({**record, "reason": reason})

    def check(self, name: str) -> None:
        """Raise an error if the logs have no usable row, or too many bad records.

        Parameters
        ----------
        name : str
            Name of the logs, for the message.

        Raises
        ------
        LogError
        """
        counts = counts_text(self.quarantined)
        if not self.usable:
            why = counts or counts_text(self.passed_over) or "the file is empty"
            raise LogError(
                f"{name}: none of the {self.rows} records is usable ({why}); see {self.quarantine}"
            )
        if self.quarantined.total() > self._max_bad_share * self.rows:
            raise LogError(
                f"{name}: {self.quarantined.total()} of {self.rows} records are bad ({counts}), a "
                f"larger share than max_bad_share {self._max_bad_share}; see {self.quarantine}, "
                "then fix the records or raise max_bad_share"
            )

    def _set_aside(self, record: Mapping[str, object]) -> None:
        self.quarantined[_kind(str(record["reason"]))] += 1
        if self._file is None:
            self._file = self.quarantine.open("w", encoding="utf-8", errors="backslashreplace")
        line = {name: record[name] for name in ("file", "line", "reason", "raw")}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")


def counts_text(counts: Mapping[str, int]) -> str:
    """Return counts as text for people, the largest first.

    Examples
    --------
    >>> counts_text({"not JSON": 1, "query empty": 3})
    'query empty: 3, not JSON: 1'
    """
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name}: {count}" for name, count in ranked)


class _Pending(Generic[Row]):
    """Rows that wait until there are enough for a batch."""

    def __init__(self, name: str, to_table: "Callable[[list[Row]], pa.Table]") -> None:
        self._name, self._to_table = name, to_table
        self._rows: list[Row] = []
        self._lines: list[int] = []
        self._raws: list[str] = []
        self._characters = 0

    def add(self, row: Row, line: int, raw: str) -> Iterator["pa.RecordBatch"]:
        self._rows.append(row)
        self._lines.append(line)
        self._raws.append(_storable(raw))
        self._characters += len(raw)
        if len(self._rows) == _ROWS_AT_ONCE or self._characters > _CHARACTERS_AT_ONCE:
            yield from self.flush()

    def flush(self) -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa

        if self._rows:
            table = self._to_table(self._rows)
            files = pa.repeat(self._name, len(self._rows))
            table = table.append_column("file", files)
            table = table.append_column("line", pa.array(self._lines, pa.int64()))
            table = table.append_column("raw", pa.array(self._raws, pa.string()))
            yield from table.combine_chunks().to_batches()
        self._rows, self._lines, self._raws, self._characters = [], [], [], 0


class _SeenColumns:
    """The mapped columns that at least one record has, even if the value is null."""

    def __init__(self, columns: ColumnMap) -> None:
        self._columns = columns
        self._seen: set[str] = set()
        self._known: dict[str, None] = {}

    def add(self, fields: Mapping[str, object]) -> None:
        # Looked up until all are found, usually in the first record: it costs as much as the map.
        if len(self._seen) < len(self._columns.paths):
            self._seen |= self._columns.present(fields)
        if len(self._known) < _SHOWN_COLUMNS:
            self._known |= dict.fromkeys(leaf_paths(fields))

    def check(self, path: Path) -> None:
        unknown = [f"{n}={p}" for n, p in self._columns.paths.items() if n not in self._seen]
        if unknown and self._known:
            shown = [*self._known][:_SHOWN_COLUMNS] + ["..."] * (len(self._known) > _SHOWN_COLUMNS)
            raise UsageError(
                f"{path}: no record has the mapped column {', '.join(unknown)}; "
                f"its columns: {', '.join(shown)}"
            )


def _rejected_table(rejected: list[tuple[str, bool]]) -> "pa.Table":
    import pyarrow as pa

    reasons, passed_over = zip(*rejected, strict=True)
    return pa.table(
        {
            "reason": pa.array(map(_storable, reasons), pa.string()),
            "passed_over": pa.array(passed_over, pa.bool_()),
        }
    )


def _kind(reason: str) -> str:
    # After the colon comes the value, which is different in every record.
    return reason.split(":", 1)[0]


def _storable(text: str) -> str:
    """Escape lone surrogates, which no file can store."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
