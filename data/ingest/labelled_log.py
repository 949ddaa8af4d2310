"""Router logs as batches of examples, with the hashes of each row that groups and counts need.

A batch is made where its file is read, which may be another process (`engines`): reading, labelling
and redaction happen there, and Arrow columns come back. What concerns all files together happens
here, in the order of the files: repeated ids, the account of bad records, corrections.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Hashes
from querytier.data.column_map import ColumnMap
from querytier.data.example import Example, example_from
from querytier.data.examples import Examples
from querytier.data.ingest.corrections import Corrections, Corrector, read_corrections
from querytier.data.ingest.engines import Engine, LocalEngine
from querytier.data.ingest.log_batches import LogAccount, log_batches
from querytier.data.ingest.redaction import KINDS, Redaction, check_nothing_personal, redact
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.data.text_view import hashed, is_truncated
from querytier.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ExampleBatch", "LabelledLog", "Reading", "SeenHashes"]


@dataclass(frozen=True)
class Reading:
    """How logs become examples.

    Attributes
    ----------
    rules : LabelRules
        Rules that need a column that a log does not have are left out for that log.
    max_bad_share : float
        Share of bad records, in [0, 1], above which reading fails.
    redaction : {"off", "on", "fail"}
        What happens to personal data in queries, before anything is written.
    corrections : Path or None
        The table of an audit, with corrected labels filled in.
    needs_labels : bool
        Whether a log is refused if its columns make no label.
    """

    rules: LabelRules = field(default_factory=LabelRules)
    max_bad_share: float = 0.2
    redaction: Redaction = "off"
    corrections: Path | None = None
    needs_labels: bool = True


@dataclass(frozen=True)
class ExampleBatch:
    """Examples, with the hashes that grouping and counting need.

    Attributes
    ----------
    examples : Examples
    groups, views : ndarray of uint64, shape (n,)
        Hashes of each row's group (or of its view, if it has no group) and of its text view.
    truncated : ndarray of bool, shape (n,)
        Whether the text view cuts the query.
    """

    examples: Examples
    groups: Hashes
    views: Hashes
    truncated: NDArray[np.bool_]

    @classmethod
    def of(cls, examples: Examples) -> Self:
        """Return examples in memory as a batch."""
        views = [hashed(view) for view in examples.views()]
        pairs = zip(examples.group.tolist(), views, strict=True)
        return cls(
            examples,
            np.array([hashed(group) if group else view for group, view in pairs], dtype=np.uint64),
            np.array(views, dtype=np.uint64),
            np.array([is_truncated(query) for query in examples.query.tolist()], dtype=np.bool_),
        )

    def where(self, mask: NDArray[np.bool_]) -> "ExampleBatch":
        """Return the rows for which `mask`, of shape (n,), holds."""
        return ExampleBatch(
            self.examples.where(mask), self.groups[mask], self.views[mask], self.truncated[mask]
        )


class SeenHashes:
    """The hashes seen so far, at eight bytes each; a Python set would take about a hundred.

    Examples
    --------
    >>> seen = SeenHashes()
    >>> seen.first_of(np.array([5, 3, 5], np.uint64)).tolist()
    [True, True, False]
    >>> seen.first_of(np.array([3, 4], np.uint64)).tolist()
    [False, True]
    """

    def __init__(self) -> None:
        self._seen = np.empty(0, np.uint64)

    def first_of(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Return for each hash, shape (n,), whether it was not seen before; remember all."""
        distinct, first = np.unique(hashes, return_index=True)
        # Both sides are sorted: searching costs a batch's size, where `isin` and `union1d` would
        # sort all that was seen again for every batch.
        places = np.searchsorted(self._seen, distinct)
        known = np.zeros(len(distinct), dtype=bool)
        inside = places < len(self._seen)
        known[inside] = self._seen[places[inside]] == distinct[inside]
        self._seen = np.insert(self._seen, places[~known], distinct[~known])
        new = np.zeros(len(hashes), dtype=bool)
        new[first[~known]] = True
        return new


class LabelledLog:
    """The examples of some logs, made while the logs are read; iterate once.

    Iterating fails at the end if the logs as a whole cannot be used. Memory grows by eight bytes a
    row.

    Parameters
    ----------
    sources : sequence of LogSource
    reading : Reading
    quarantine : Path
        File for the bad records, a JSON object for each.
    engine : Engine, optional
        Reads the files; by default this process does.

    Attributes
    ----------
    name : str
        The files' names.
    rules : LabelRules
        The rules that can label records of at least one of the logs.
    account : LogAccount
    redacted : Counter
        Personal data replaced in queries so far, by kind.
    corrected : int
        Examples corrected so far.

    Raises
    ------
    UsageError
        If a file or a mapped column does not exist, the columns of one log make no label, or a
        correction matches no example.
    LogError
        If a file cannot be read, too many records are bad, or personal data is refused.
    """

    def __init__(
        self,
        sources: Sequence[LogSource],
        reading: Reading,
        quarantine: Path,
        engine: Engine | None = None,
    ) -> None:
        self.name = ", ".join(source.path.name for source in sources)
        self._logs = [_log(source, reading) for source in sources]
        usable = {rule for log in self._logs for rule in log.rules.rules}
        rules = tuple(rule for rule in reading.rules.rules if rule in usable)
        self.rules = replace(reading.rules, rules=rules)
        self.account = LogAccount(quarantine, reading.max_bad_share)
        self.redacted: Counter[str] = Counter()
        self._reading, self._engine = reading, engine or LocalEngine()
        table = reading.corrections
        self._corrector = Corrector(read_corrections(table) if table else Corrections("", ()))
        self._ids = SeenHashes()

    @property
    def corrected(self) -> int:
        """Examples corrected so far."""
        return self._corrector.corrected

    def __iter__(self) -> Iterator[ExampleBatch]:
        with self.account as account:
            for batch in self._engine.batches(_example_batches, self._logs):
                if account.add(batch):
                    yield self._checked(batch)
        self._ids = SeenHashes()  # frees eight bytes a row for the second pass
        # Only now, as shares and unused corrections are known at the end.
        account.check(self.name)
        self._corrector.check_all_used()
        if self._reading.redaction == "fail":
            check_nothing_personal(self.redacted, self.name)

    def _checked(self, batch: "pa.RecordBatch") -> ExampleBatch:
        for kind in KINDS:
            self.redacted[kind] += int(batch.column(_redacted(kind)).to_numpy().sum())
        examples = Examples.of_table(batch)
        hashes = {name: batch.column(name).to_numpy() for name in ("ids", "groups", "views")}
        truncated = batch.column("truncated").to_numpy(zero_copy_only=False)
        rows = ExampleBatch(examples, hashes["groups"], hashes["views"], truncated)
        new = self._ids.first_of(hashes["ids"])
        if not new.all():
            for row in np.flatnonzero(~new).tolist():
                # Without this a log that is given twice would be two copies of every example.
                self.account.reject(batch, row, f"id used before: {examples.id[row]}")
            rows = rows.where(new)
        return replace(rows, examples=self._corrector.apply(rows.examples))


@dataclass(frozen=True)
class _Log:
    source: LogSource
    columns: ColumnMap
    rules: LabelRules
    redaction: Redaction


def _log(source: LogSource, reading: Reading) -> _Log:
    columns = source.columns()
    return _Log(source, columns, _usable_rules(reading, columns), reading.redaction)


def _usable_rules(reading: Reading, columns: ColumnMap) -> LabelRules:
    try:
        return reading.rules.served_by(columns)
    except UsageError:
        if reading.needs_labels:
            raise
        return replace(reading.rules, rules=())


def _example_batches(log: _Log) -> Iterator["pa.RecordBatch"]:
    make = partial(_example, log)
    hide = str if log.redaction == "off" else _without_personal_data
    return log_batches(log.source, log.columns, make, _table, hide)


def _example(
    log: _Log, values: Mapping[str, object], default_id: str
) -> tuple[Example, Mapping[str, int]]:
    example = example_from(values, log.rules, default_id, log.source.pair)
    if log.redaction == "off":
        return example, {}
    query, counts = redact(example.query)
    return replace(example, query=query), counts


def _without_personal_data(text: str) -> str:
    return redact(text)[0]


def _table(rows: list[tuple[Example, Mapping[str, int]]]) -> "pa.Table":
    import pyarrow as pa

    # After redaction, so that rows are grouped by the text that is written.
    batch = ExampleBatch.of(Examples.of([example for example, _ in rows]))
    table = batch.examples.table()
    columns = {
        "ids": np.array([hashed(name) for name in batch.examples.id.tolist()], dtype=np.uint64),
        "groups": batch.groups,
        "views": batch.views,
        "truncated": batch.truncated,
        **{_redacted(k): np.array([counts.get(k, 0) for _, counts in rows]) for k in KINDS},
    }
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column))
    return table


def _redacted(kind: str) -> str:
    return f"redacted_{kind}"
