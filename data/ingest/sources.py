"""A log file and what it takes to read it: format, columns, the pair of models, a second file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from querytier.data.column_map import ColumnMap
from querytier.data.formats.decision_log import DECISION_FIELDS
from querytier.data.formats.otel_evaluations import are_log_records
from querytier.data.formats.reading import Record, read_records
from querytier.data.formats.recognise import Format, canonical_records, recognise
from querytier.data.model_pair import ModelPair
from querytier.errors import LogError

__all__ = ["LogSource", "same_name_columns"]

_RECORDS_TO_LOOK_AT = 1000


@dataclass(frozen=True)
class LogSource:
    """A log file.

    Attributes
    ----------
    path : Path
    format : Format or None
        None is plain where `paths` name the file's own columns, and else told by the first
        readable record.
    pair : ModelPair or None
        Needed where the log holds many models' scores; elsewhere it tells the tier that answered.
    scores : Path or None
        Judgements of the log's answers in a file of their own: the scores of a Langfuse export,
        OpenTelemetry's log records, or the outcomes of our own decisions.
    paths : mapping of str to str
        Columns by field, as `ColumnMap` has them. Of a plain log they are the whole map; of another
        format they go before the columns of the fields' own names.
    id_prefix : str
        Begins the ids that are made of line numbers; keeps those of several files apart.
    parts : tuple of Path
        Where our own decisions are in several files, all of them, in order: outcomes that judge
        none of their decisions are told once, by the last.
    """

    path: Path
    format: Format | None = None
    pair: ModelPair | None = None
    scores: Path | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    id_prefix: str = ""
    parts: tuple[Path, ...] = ()

    def records(self) -> Iterator[Record]:
        """Yield the log's records: those of a plain log as they are, others in canonical fields.

        OpenTelemetry's log records come first, wherever they stand: the file is read twice, so that
        their evaluations are there before the spans that they judge.

        Raises
        ------
        UsageError
            If a file does not exist, or the format needs a pair of models that is not given.
        LogError
            If a file cannot be read.
        """
        schema = self.recognised()
        in_order = _log_records_first if schema is Format.OTEL else read_records
        return self._canonical(in_order(self.path), schema)

    def recognised(self) -> Format:
        """Return the format: the one given, or that of the first readable record."""
        if self.format is not None:
            return self.format
        if self.paths:
            return Format.PLAIN
        for record in read_records(self.path):
            if record.fields is not None:
                return recognise(record.fields)
        return Format.PLAIN

    def columns(self) -> ColumnMap:
        """Return the whole column map; without one, of the columns of the first 1,000 records.

        Raises
        ------
        LogError
            If it takes a readable record, and the log has none.
        UsageError
            If the map has no query.
        """
        schema = self.recognised()
        if self.paths and schema is Format.PLAIN:
            return ColumnMap(self.paths)
        if schema is Format.QUERYTIER:
            return same_name_columns(dict.fromkeys(DECISION_FIELDS), self.paths)
        names: dict[str, object] = {}
        records = self._canonical(read_records(self.path), schema)
        readable = (record.fields for record in records if record.fields is not None)
        for fields in islice(readable, _RECORDS_TO_LOOK_AT):
            names |= fields
        if not names:
            raise LogError(f"{self.path} has no readable record; is it a router log?")
        return same_name_columns(names, self.paths)

    def _canonical(self, records: Iterator[Record], schema: Format) -> Iterator[Record]:
        scores = read_records(self.scores) if self.scores else None
        return canonical_records(records, schema, self.pair, scores, self._elsewhere())

    def _elsewhere(self) -> Iterator[Record] | None:
        """Return the records of the other parts; None where another part is the last."""
        if self.parts and self.parts[-1] != self.path:
            return None
        others = (path for path in self.parts if path != self.path)
        return chain.from_iterable(map(read_records, others))


def same_name_columns(
    fields: Mapping[str, object], paths: Mapping[str, str] | None = None
) -> ColumnMap:
    """Map every field to the column of its own name, where `paths` name no other.

    A conversation is a group without another.

    Raises
    ------
    UsageError
        If there is no query.
    """
    named = {**ColumnMap.paths_of_same_names(fields), **(paths or {})}
    if "group" not in named and "conversation" in fields:
        named["group"] = "conversation"
    return ColumnMap(named)


def _log_records_first(path: Path) -> Iterator[Record]:
    """Yield the records of a file of OpenTelemetry, those before its spans that may judge them."""
    records = read_records(path)
    yield from (record for record in records if record.fields and are_log_records(record.fields))
    for record in read_records(path):
        if not (record.fields and are_log_records(record.fields)):
            yield record
