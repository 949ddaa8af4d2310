"""A log file and what it takes to read it: its format, the pair of models, a second file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from querytier.data.columns import ColumnMap
from querytier.data.evaluations import are_log_records
from querytier.data.formats import Format, canonical_records, recognise
from querytier.data.model_pair import ModelPair
from querytier.data.reading import Record, read_records
from querytier.errors import LogError

__all__ = ["LogSource", "same_name_columns"]


@dataclass(frozen=True)
class LogSource:
    """A log file.

    Attributes
    ----------
    path : Path
    format : Format or None
        None is told by the first readable record.
    pair : ModelPair or None
        Needed where the log holds many models' scores; elsewhere it tells the tier that answered.
    scores : Path or None
        Langfuse's scores, the second file of its export; or OpenTelemetry's log records.
    """

    path: Path
    format: Format | None = None
    pair: ModelPair | None = None
    scores: Path | None = None

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
        schema = self.format or self.recognised()
        in_order = _log_records_first if schema is Format.OTEL else read_records
        return self._canonical(in_order(self.path), schema)

    def recognised(self) -> Format:
        """Return the format of the first readable record; plain where there is none."""
        for record in read_records(self.path):
            if record.fields is not None:
                return recognise(record.fields)
        return Format.PLAIN

    def columns(self) -> ColumnMap:
        """Return `same_name_columns` of the first readable record.

        Raises
        ------
        LogError
            If the log has no readable record.
        UsageError
            If it has no query.
        """
        schema = self.format or self.recognised()
        for record in self._canonical(read_records(self.path), schema):
            if record.fields is not None:
                return same_name_columns(record.fields)
        raise LogError(f"{self.path} has no readable record; is it a router log?")

    def _canonical(self, records: Iterator[Record], schema: Format) -> Iterator[Record]:
        scores = read_records(self.scores) if self.scores else None
        return canonical_records(records, schema, self.pair, scores)


def same_name_columns(fields: Mapping[str, object]) -> ColumnMap:
    """Map every field to the column of its own name; a conversation is a group without another.

    Raises
    ------
    UsageError
        If there is no query.
    """
    columns = ColumnMap.same_names(fields)
    if "group" not in columns.paths and "conversation" in fields:
        return ColumnMap({**columns.paths, "group": "conversation"})
    return columns


def _log_records_first(path: Path) -> Iterator[Record]:
    """Yield the records of a file of OpenTelemetry, those before its spans that may judge them."""
    records = read_records(path)
    yield from (record for record in records if record.fields and are_log_records(record.fields))
    for record in read_records(path):
        if not (record.fields and are_log_records(record.fields)):
            yield record
