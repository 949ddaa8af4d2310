"""Log records made into rows, one at a time; what makes none goes to the quarantine file."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Generic, TypeVar

from querytier.data.canonical import is_passed_over
from querytier.data.columns import ColumnMap, leaf_paths
from querytier.data.examples import BadRecordError
from querytier.data.reading import Record
from querytier.data.sources import LogSource
from querytier.errors import LogError, UsageError

__all__ = ["MappedLog"]

_SHOWN_COLUMNS = 12

Row = TypeVar("Row")


@dataclass
class MappedLog(Generic[Row]):
    """The rows of a log, made while it is read.

    Iterating opens the quarantine file with the first bad record, and ends with an error where the
    log as a whole is no good; until then memory does not grow with the log.

    Parameters
    ----------
    source : LogSource
    columns : ColumnMap
    make : callable
        Takes a record's mapped values and a default id, returns a row or raises `BadRecordError`.
    quarantine : Path
        Gets a JSON object a bad record: line, reason, raw text. Removed where there is none.
    max_bad_share : float
        Above this share of bad records, in [0, 1], the reading fails.
    hidden : callable
        What becomes of a bad record's text before it is written.

    Attributes
    ----------
    usable : int
        Rows made so far.
    quarantined : Counter
        Bad records so far, by reason (without the value).
    passed_over : Counter
        Records so far that are none of ours (a trace's tool calls, further models), by reason.

    Raises
    ------
    UsageError
        If the file does not exist, or, at the end, if a mapped column was in no record.
    LogError
        If the file cannot be read, or, at the end, if too many records were bad.
    """

    source: LogSource
    columns: ColumnMap
    make: Callable[[Mapping[str, object], str], Row]
    quarantine: Path
    max_bad_share: float
    hidden: Callable[[str], str] = str
    usable: int = field(default=0, init=False)
    quarantined: Counter[str] = field(default_factory=Counter, init=False)
    passed_over: Counter[str] = field(default_factory=Counter, init=False)
    _seen: set[str] = field(default_factory=set, init=False)
    _known: dict[str, None] = field(default_factory=dict, init=False)

    def __iter__(self) -> Iterator[Row]:
        records = self.source.records()
        with _QuarantineFile(self.quarantine) as write:
            for record in records:
                try:
                    row = self._row(record)
                except BadRecordError as error:
                    self._set_aside(record, str(error), write)
                else:
                    self.usable += 1
                    yield row
        self._check_columns()
        self._check_bad_share()

    def _set_aside(self, record: Record, reason: str, write: Callable[[Record, str], None]) -> None:
        kind = reason.split(":", 1)[0]
        if is_passed_over(record):
            self.passed_over[kind] += 1
        else:
            self.quarantined[kind] += 1
            write(replace(record, raw=self.hidden(record.raw)), self.hidden(reason))

    def _row(self, record: Record) -> Row:
        if record.fields is None:
            raise BadRecordError(record.problem)
        if len(self._seen) < len(self.columns.paths):
            self._seen |= self.columns.present(record.fields)
        if len(self._known) < _SHOWN_COLUMNS:
            self._known |= dict.fromkeys(leaf_paths(record.fields))
        return self.make(self.columns.values(record.fields), f"line-{record.line}")

    def _check_columns(self) -> None:
        unknown = [f"{n}={path}" for n, path in self.columns.paths.items() if n not in self._seen]
        if unknown and self._known:
            shown = [*self._known][:_SHOWN_COLUMNS] + ["..."] * (len(self._known) > _SHOWN_COLUMNS)
            raise UsageError(
                f"no record of {self.source.path} has the mapped column {', '.join(unknown)}; "
                f"its columns: {', '.join(shown)}"
            )

    def _check_bad_share(self) -> None:
        bad = self.quarantined.total()
        rows = self.usable + bad
        counts = ", ".join(f"{why}: {count}" for why, count in self.quarantined.most_common())
        if not self.usable:
            raise LogError(
                f"{self.source.path} has no usable row among its {rows} "
                f"({counts or 'the file is empty'}); see {self.quarantine}"
            )
        if bad > self.max_bad_share * rows:
            raise LogError(
                f"{bad} of the {rows} records of {self.source.path} are bad, a larger share than "
                f"max_bad_share {self.max_bad_share} ({counts}); see {self.quarantine}, mend them "
                "or raise it"
            )


class _QuarantineFile:
    """A file that appears with its first line; one of an earlier run does not stay."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Callable[[Record, str], None]:
        self._path.unlink(missing_ok=True)
        return self._write

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def _write(self, record: Record, reason: str) -> None:
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace")
        line = {"line": record.line, "reason": reason, "raw": record.raw}
        self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
