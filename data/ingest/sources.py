"""A log file and how to read it: format, columns, pair of models, and a second file."""

from collections import Counter
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
        None means plain if `paths` are given, and otherwise the format of the first readable
        record.
    pair : ModelPair or None
        Required if the log has scores of many models; otherwise it gives the tier that answered.
    scores : Path or None
        Judgements of the log's answers in a separate file: the scores of a Langfuse export,
        OpenTelemetry's log records, or the outcomes of our own decisions.
    paths : mapping of str to str
        Columns by field, as in `ColumnMap`. For a plain log they are the whole map; for another
        format they take precedence over the columns with the fields' own names.
    id_prefix : str
        Start of the ids that are made from line numbers, so that those of several files differ.
    parts : tuple of Path
        If our own decisions are in several files, all of them, in order: outcomes of no decision
        are reported once, with the last.
    """

    path: Path
    format: Format | None = None
    pair: ModelPair | None = None
    scores: Path | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    id_prefix: str = ""
    parts: tuple[Path, ...] = ()

    def records(self) -> Iterator[Record]:
        """Yield the log's records: those of a plain log unchanged, others with canonical fields.

        OpenTelemetry's log records come first, wherever they are in the file: it is read twice, so
        that evaluations are known before the spans that they judge.

        Raises
        ------
        UsageError
            If a file does not exist, or the format needs a pair of models and none is given.
        LogError
            If a file cannot be read.
        """
        schema = self.recognised()
        in_order = _log_records_first if schema is Format.OTEL else read_records
        return self._canonical(in_order(self.path), schema)

    def recognised(self) -> Format:
        """Return the given format, or else that of the first readable record."""
        if self.format is not None:
            return self.format
        if self.paths:
            # A map names the file's own columns, which conversion would rename.
            return Format.PLAIN
        for record in read_records(self.path):
            if record.fields is not None:
                return recognise(record.fields)
        return Format.PLAIN

    def columns(self) -> ColumnMap:
        """Return the whole column map; if none is given, from the first 1,000 records.

        Raises
        ------
        LogError
            If none is given, and the log has no readable record.
        UsageError
            If the map has no query.
        """
        schema = self.recognised()
        if self.paths and schema is Format.PLAIN:
            return ColumnMap(self.paths)
        if schema is Format.QUERYTIER:
            # Fields of outcomes may first appear in any record, so all of them are mapped.
            return same_name_columns(dict.fromkeys(DECISION_FIELDS), self.paths)
        names: dict[str, object] = {}
        problems: Counter[str] = Counter()
        readable = self._readable(schema, problems)
        for fields in islice(readable, _RECORDS_TO_LOOK_AT):
            names |= fields
        if not names and problems:
            counts = "; ".join(f"{why}: {count}" for why, count in problems.most_common(3))
            raise LogError(
                f"{self.path} has no readable record ({counts}); docs/LOGS.md describes the formats"
            )
        if not names:
            raise LogError(f"{self.path} has no records; give the path of a router log")
        return same_name_columns(names, self.paths)

    def _readable(self, schema: Format, problems: Counter[str]) -> Iterator[dict[str, object]]:
        """Yield the fields of the readable records, and count the problems of the others."""
        for record in self._canonical(read_records(self.path), schema):
            if record.fields is None:
                problems[str(record.problem)] += 1
            else:
                yield record.fields

    def _canonical(self, records: Iterator[Record], schema: Format) -> Iterator[Record]:
        scores = read_records(self.scores) if self.scores else None
        return canonical_records(records, schema, self.pair, scores, self._elsewhere())

    def _elsewhere(self) -> Iterator[Record] | None:
        """Return the records of the other parts; None if another part is the last."""
        if self.parts and self.parts[-1] != self.path:
            return None
        others = (path for path in self.parts if path != self.path)
        return chain.from_iterable(map(read_records, others))


def same_name_columns(
    fields: Mapping[str, object], paths: Mapping[str, str] | None = None
) -> ColumnMap:
    """Return a map of every field to the column of the same name, unless `paths` name another.

    The conversation is the group, if there is no other.

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
    """Yield the records of a file of OpenTelemetry, log records (evaluations) before spans."""
    records = read_records(path)
    yield from (record for record in records if record.fields and are_log_records(record.fields))
    for record in read_records(path):
        if not (record.fields and are_log_records(record.fields)):
            yield record
