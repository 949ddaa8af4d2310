"""Examples: labelled queries, one by one while a log is read and as columns afterwards."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from querytier.data.labels import LabelRule, cheap_fails_frontier_succeeds
from querytier.data.text_view import text_view
from querytier.data.timestamps import utc_time

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = [
    "BadRecordError",
    "Example",
    "Examples",
    "Fingerprint",
    "example_from",
    "number_of",
    "query_of",
    "text_of",
]

Floats = NDArray[np.float64]
Strings = NDArray[np.object_]


class BadRecordError(ValueError):
    """A record makes no example; the message is the reason given in the quarantine file."""


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled query.

    Attributes
    ----------
    id, query, group, domain, language, label_source : str
        Empty where the log does not tell; `query` never is.
    needs_frontier : float
        The label, in [0, 1].
    weight : float
        How much the example counts in training; above 0.
    cheap_score, frontier_score : float
        Quality of the two answers; NaN where the log does not tell.
    cheap_cost, frontier_cost : float
        Cost of the two answers, in any one currency; NaN where the log does not tell.
    time : str
        When the query was asked, as `utc_time` gives it; empty where the log does not tell.
    role : str
        One of `querytier.data.roles.ROLES`; empty until roles are given.
    """

    id: str
    query: str
    needs_frontier: float
    weight: float
    group: str
    domain: str
    language: str
    label_source: str
    cheap_score: float
    frontier_score: float
    cheap_cost: float
    frontier_cost: float
    time: str = ""
    role: str = ""


_KINDS: dict[str, type[object]] = {
    field.name: object if field.type is str else np.float64 for field in fields(Example)
}
_NUMBER_FIELDS = tuple(name for name, kind in _KINDS.items() if kind is np.float64)


def example_from(values: Mapping[str, object], rule: LabelRule, default_id: str) -> Example:
    """Make an example of a log record's mapped values.

    Parameters
    ----------
    values : mapping of str to object
        By field name, as `ColumnMap.values` gives them.
    rule : LabelRule
        How the label is made.
    default_id : str
        The id where the record has none.

    Raises
    ------
    BadRecordError
        If the query is empty to the classifier, a number is none or out of range, the time is none,
        or the label cannot be made.
    """
    query = query_of(values)
    numbers = {name: number_of(values, name) for name in _NUMBER_FIELDS}
    weight = 1.0 if math.isnan(numbers["weight"]) else numbers["weight"]
    if weight <= 0:
        raise BadRecordError(f"weight is not above 0: {weight}")
    return Example(
        id=text_of(values, "id") or default_id,
        query=query,
        needs_frontier=_label(numbers, rule),
        weight=weight,
        group=text_of(values, "group"),
        domain=text_of(values, "domain"),
        language=text_of(values, "language"),
        label_source=text_of(values, "label_source") or rule.name,
        cheap_score=numbers["cheap_score"],
        frontier_score=numbers["frontier_score"],
        cheap_cost=numbers["cheap_cost"],
        frontier_cost=numbers["frontier_cost"],
        time=_time(values),
    )


def query_of(values: Mapping[str, object]) -> str:
    """Return the query of a log record's mapped values.

    Raises
    ------
    BadRecordError
        If there is none, or it is not text, or the text view leaves nothing of it.
    """
    query = values.get("query")
    if query is None:
        raise BadRecordError("query missing")
    if not isinstance(query, str):
        raise BadRecordError("query is not text")
    if not text_view(query):
        raise BadRecordError("query empty")
    return _storable(query)


def text_of(values: Mapping[str, object], name: str) -> str:
    """Return a field of a log record's mapped values as text; empty where the record has none."""
    value = values.get(name, "")
    if isinstance(value, str):
        return _storable(value)
    return _storable(json.dumps(value, default=str, sort_keys=True))


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples as columns of equal length n.

    Attributes
    ----------
    id, query, group, domain, language, label_source, time, role : ndarray of object, shape (n,)
        Texts, as in `Example`.
    needs_frontier, weight, cheap_score, frontier_score, cheap_cost, frontier_cost : ndarray of \
float64, shape (n,)
        Numbers, as in `Example`; NaN where the log does not tell.
    """

    id: Strings
    query: Strings
    needs_frontier: Floats
    weight: Floats
    group: Strings
    domain: Strings
    language: Strings
    label_source: Strings
    cheap_score: Floats
    frontier_score: Floats
    cheap_cost: Floats
    frontier_cost: Floats
    time: Strings
    role: Strings

    def __len__(self) -> int:
        return len(self.id)

    @classmethod
    def of(cls, rows: list[Example]) -> Self:
        """Turn rows into columns."""
        columns: dict[str, Any] = {
            name: np.array([getattr(row, name) for row in rows], dtype=kind)
            for name, kind in _KINDS.items()
        }
        return cls(**columns)

    @classmethod
    def read_parquet(cls, path: Path) -> Self:
        """Read the examples that `table` gave to a Parquet file."""
        import pyarrow.parquet as pq

        return cls.of_table(pq.read_table(path))

    @classmethod
    def of_table(cls, table: "pa.Table | pa.RecordBatch") -> Self:
        """Take the columns of an Arrow table or batch."""
        columns: dict[str, Any] = {
            name: np.array(table.column(name).to_pylist(), dtype=kind)
            for name, kind in _KINDS.items()
        }
        return cls(**columns)

    def table(self) -> "pa.Table":
        """Return the examples as an Arrow table of `schema`."""
        import pyarrow as pa

        columns = {name: getattr(self, name) for name in _KINDS}
        return pa.Table.from_pydict(columns, schema=self.schema())

    @staticmethod
    def schema() -> "pa.Schema":
        """Return the Arrow schema of examples, with the features of `datasets` in its metadata."""
        import datasets

        types: dict[type[object], str] = {object: "string", np.float64: "float64"}
        features = {name: datasets.Value(types[kind]) for name, kind in _KINDS.items()}
        return datasets.Features(features).arrow_schema

    def dataset(self) -> "datasets.Dataset":
        """Return the examples as a `datasets.Dataset` with explicit features."""
        import datasets

        return datasets.Dataset(self.table())

    def with_roles(self, groups: NDArray[np.uint64], roles: Strings) -> Self:
        """Return the examples with other groups, written as 16 hexadecimal digits, and roles."""
        names = np.array([f"{group:016x}" for group in groups.tolist()], dtype=object)
        return replace(self, group=names, role=roles)

    def where(self, mask: NDArray[np.bool_]) -> Self:
        """Return the rows for which `mask`, of shape (n,), holds."""
        return replace(
            self, **{field.name: getattr(self, field.name)[mask] for field in fields(self)}
        )

    def of_role(self, *roles: str) -> Self:
        """Return the rows whose role is among `roles`."""
        return self.where(np.isin(self.role.astype(str), roles))

    @property
    def scored(self) -> bool:
        """Whether every row has both scores."""
        return not bool(np.isnan(self.cheap_score + self.frontier_score).any())

    @property
    def priced(self) -> bool:
        """Whether every row has both costs."""
        return not bool(np.isnan(self.cheap_cost + self.frontier_cost).any())

    def fingerprint(self) -> str:
        """Return the fingerprint of all rows, whatever their order."""
        fingerprint = Fingerprint()
        fingerprint.add(self)
        return fingerprint.hexdigest()


class Fingerprint:
    """The sum of the rows' sha256, modulo 2**256: the same in any order, and in any batches."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, examples: Examples) -> None:
        """Take in more rows."""
        columns = [getattr(examples, name).tolist() for name in _KINDS]
        for row in zip(*columns, strict=True):
            digest = hashlib.sha256(json.dumps(row).encode()).digest()
            self._sum = (self._sum + int.from_bytes(digest)) % 2**256

    def hexdigest(self) -> str:
        """Return the fingerprint in 64 hexadecimal digits."""
        return f"{self._sum:064x}"


def _label(numbers: Mapping[str, float], rule: LabelRule) -> float:
    if rule.name == "explicit":
        label = numbers["needs_frontier"]
        if math.isnan(label):
            raise BadRecordError("needs_frontier missing")
        if not 0 <= label <= 1:
            raise BadRecordError(f"needs_frontier outside [0, 1]: {label}")
        return label
    for name in ("cheap_score", "frontier_score"):
        if math.isnan(numbers[name]):
            raise BadRecordError(f"{name} missing")
    return cheap_fails_frontier_succeeds(
        numbers["cheap_score"], numbers["frontier_score"], rule.ok_threshold
    )


def number_of(values: Mapping[str, object], name: str) -> float:
    """Return a field of a log record's mapped values as a number; NaN where the record has none.

    Raises
    ------
    BadRecordError
        If it is not a finite number; text that reads as one, true and false are numbers.
    """
    value = values.get(name)
    if value is None:
        return math.nan
    try:
        number = float(value) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):
        number = _TRUTH.get(str(value).strip().lower())
    if number is None:
        raise BadRecordError(f"{name} is not a number: {_shown(value)}")
    if not math.isfinite(number):
        raise BadRecordError(f"{name} is not finite: {number}")
    return number


def _time(values: Mapping[str, object]) -> str:
    """Return the time in UTC; empty where the record has none."""
    value = values.get("time", "")
    if isinstance(value, str) and not value.strip():
        return ""
    try:
        return utc_time(value)
    except ValueError:
        raise BadRecordError(f"time is not a timestamp: {_shown(value)}") from None


_TRUTH = {"true": 1.0, "false": 0.0}


def _storable(text: str) -> str:
    """Replace lone surrogates, which no file takes, by U+FFFD; the text view drops both."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
