"""A log file and what it takes to read it: format, columns, the pair of models, a second file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from querytier.data.columns import ColumnMap
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
        None is plain where `paths` name the file's own columns, and else told by the first
        readable record.
    pair : ModelPair or None
        Needed where the log holds many models' scores; elsewhere it tells the tier that answered.
    scores : Path or None
        Judgements of the log's answers, from a second file of an export.
    paths : mapping of str to str
        Columns by field, as `ColumnMap` has them. Of a plain log they are the whole map; of another
        format they go before the columns of the fields' own names.
    id_prefix : str
        Begins the ids that are made of line numbers; keeps those of several files apart.
    """

    path: Path
    format: Format | None = None
    pair: ModelPair | None = None
    scores: Path | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    id_prefix: str = ""

    def records(self) -> Iterator[Record]:
        """Yield the log's records: those of a plain log as they are, others in canonical fields.

        Raises
        ------
        UsageError
            If a file does not exist, or the format needs a pair of models that is not given.
        LogError
            If a file cannot be read.
        """
        records = read_records(self.path)
        scores = read_records(self.scores) if self.scores else None
        return canonical_records(records, self.recognised(), self.pair, scores)

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
        """Return the whole column map.

        Raises
        ------
        LogError
            If it takes a readable record, and the log has none.
        UsageError
            If the map has no query.
        """
        if self.paths and self.recognised() is Format.PLAIN:
            return ColumnMap(self.paths)
        for record in self.records():
            if record.fields is not None:
                return same_name_columns(record.fields, self.paths)
        raise LogError(f"{self.path} has no readable record; is it a router log?")


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
