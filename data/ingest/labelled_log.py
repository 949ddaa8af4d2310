"""Router logs as batches of examples, with what groups and counts need of each row beside them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from querytier.data.column_map import ColumnMap
from querytier.data.example import Example, example_from
from querytier.data.examples import Examples
from querytier.data.ingest.corrections import Corrections, Corrector, read_corrections
from querytier.data.ingest.engines import Engine, LocalEngine
from querytier.data.ingest.log_batches import LogAccount, log_batches
from querytier.data.ingest.redaction import KINDS, Redaction, check_nothing_personal, redact
from querytier.data.ingest.seen_hashes import SeenHashes
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.data.text_view import hashed, is_truncated, text_view
from querytier.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ExampleBatch", "LabelledLog", "Reading"]

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Reading:
    """How logs become examples.

    Attributes
    ----------
    rules : LabelRules
        Those that a log's columns cannot serve are left out.
    max_bad_share : float
        Above this share of bad records, in [0, 1], the reading fails.
    redaction : {"off", "on", "fail"}
        What happens to personal data in queries, before anything is written.
    corrections : Path or None
        The table of an audit, with corrected labels filled in.
    labels_asked : bool
        Whether a log whose columns make no label is refused.
    """

    rules: LabelRules = field(default_factory=LabelRules)
    max_bad_share: float = 0.2
    redaction: Redaction = "off"
    corrections: Path | None = None
    labels_asked: bool = True


@dataclass(frozen=True)
class ExampleBatch:
    """Examples, and what groups and counts need of each.

    Attributes
    ----------
    examples : Examples
    groups, views : ndarray of uint64, shape (n,)
        Hashes of each row's group (without one, of its view) and of its text view.
    truncated : ndarray of bool, shape (n,)
        Whether the text view cuts the query.
    """

    examples: Examples
    groups: Hashes
    views: Hashes
    truncated: NDArray[np.bool_]

    def where(self, mask: NDArray[np.bool_]) -> "ExampleBatch":
        """Return the rows for which `mask`, of shape (n,), holds."""
        return ExampleBatch(
            self.examples.where(mask), self.groups[mask], self.views[mask], self.truncated[mask]
        )


class LabelledLog:
    """The examples of some logs, made while they are read; iterate once.

    At the end it fails where the logs as a whole are no good; until then memory does not grow
    with them, but for eight bytes a row.

    Parameters
    ----------
    sources : sequence of LogSource
    reading : Reading
    quarantine : Path
        Gets a JSON object a bad record.
    engine : Engine
        What reads the files.

    Attributes
    ----------
    name : str
        The files' names.
    rules : LabelRules
        Those that any of the logs can serve.
    account : LogAccount
    redacted : Counter
        Personal data replaced in queries so far, by kind.
    corrected : int
        Examples corrected so far.

    Raises
    ------
    UsageError
        If a file or a mapped column does not exist, the columns of one make no label, or a
        correction fits no example.
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
        served = {rule for log in self._logs for rule in log.rules.rules}
        rules = tuple(rule for rule in reading.rules.rules if rule in served)
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
                if account.take(batch):
                    yield self._taken(batch)
        self._ids = SeenHashes()
        account.check(self.name)
        self._corrector.check_all_used()
        if self._reading.redaction == "fail":
            check_nothing_personal(self.redacted, self.name)

    def _taken(self, batch: "pa.RecordBatch") -> ExampleBatch:
        for kind in KINDS:
            self.redacted[kind] += int(batch.column(_redacted(kind)).to_numpy().sum())
        examples = Examples.of_table(batch)
        hashes = {name: batch.column(name).to_numpy() for name in ("ids", "groups", "views")}
        truncated = batch.column("truncated").to_numpy(zero_copy_only=False)
        found = ExampleBatch(examples, hashes["groups"], hashes["views"], truncated)
        new = self._ids.first_of(hashes["ids"])
        if not new.all():
            for row in np.flatnonzero(~new).tolist():
                self.account.reject(batch, row, f"id used before: {examples.id[row]}")
            found = found.where(new)
        return replace(found, examples=self._corrector.apply(found.examples))


@dataclass(frozen=True)
class _Log:
    source: LogSource
    columns: ColumnMap
    rules: LabelRules
    redaction: Redaction


def _log(source: LogSource, reading: Reading) -> _Log:
    columns = source.columns()
    return _Log(source, columns, _served(reading, columns), reading.redaction)


def _served(reading: Reading, columns: ColumnMap) -> LabelRules:
    try:
        return reading.rules.served_by(columns)
    except UsageError:
        if reading.labels_asked:
            raise
        return replace(reading.rules, rules=())


def _example_batches(log: _Log) -> Iterator["pa.RecordBatch"]:
    off = log.redaction == "off"
    make = partial(_example, log)
    return log_batches(log.source, log.columns, make, _table, str if off else _hidden)


def _example(
    log: _Log, values: Mapping[str, object], default_id: str
) -> tuple[Example, Mapping[str, int]]:
    example = example_from(values, log.rules, default_id, log.source.pair)
    if log.redaction == "off":
        return example, {}
    query, counts = redact(example.query)
    return replace(example, query=query), counts


def _hidden(text: str) -> str:
    return redact(text)[0]


def _table(rows: list[tuple[Example, Mapping[str, int]]]) -> "pa.Table":
    import pyarrow as pa

    examples = [example for example, _ in rows]
    views = [hashed(text_view(example.query)) for example in examples]
    groups = [
        hashed(example.group) if example.group else view
        for example, view in zip(examples, views, strict=True)
    ]
    beside = {
        "ids": pa.array([hashed(example.id) for example in examples], pa.uint64()),
        "groups": pa.array(groups, pa.uint64()),
        "views": pa.array(views, pa.uint64()),
        "truncated": pa.array([is_truncated(example.query) for example in examples]),
        **{_redacted(k): pa.array([found.get(k, 0) for _, found in rows]) for k in KINDS},
    }
    table = Examples.of(examples).table()
    for name, column in beside.items():
        table = table.append_column(name, column)
    return table


def _redacted(kind: str) -> str:
    return f"redacted_{kind}"
