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

if TYPE_CHECKING:
    import datasets

__all__ = ["BadRecordError", "Example", "Examples", "example_from", "query_of", "text_of"]

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
        If the query is empty to the classifier, a number is none or out of range, or the label
        cannot be made.
    """
    query = query_of(values)
    numbers = {name: _number(values, name) for name in _NUMBER_FIELDS}
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
    id, query, group, domain, language, label_source, role : ndarray of object, shape (n,)
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
        """Read what `write_parquet` wrote."""
        import datasets
        import pyarrow.parquet as pq

        table = datasets.Dataset(pq.read_table(path).cast(_features().arrow_schema))
        columns: dict[str, Any] = {
            name: np.array(list(table[name]), dtype=kind) for name, kind in _KINDS.items()
        }
        return cls(**columns)

    def write_parquet(self, path: Path) -> None:
        """Write one row an example, with explicit features."""
        import pyarrow.parquet as pq

        pq.write_table(self.dataset().data.table, path)

    def dataset(self) -> "datasets.Dataset":
        """Return the examples as a `datasets.Dataset` with explicit features."""
        import datasets

        columns = {field.name: getattr(self, field.name).tolist() for field in fields(self)}
        return datasets.Dataset.from_dict(columns, features=_features())

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
        """Return the sha256 of all rows, whatever their order."""
        columns = [getattr(self, field.name).tolist() for field in fields(self)]
        rows = sorted(json.dumps(row) for row in zip(*columns, strict=True))
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _features() -> "datasets.Features":
    import datasets

    types: dict[type[object], str] = {object: "string", np.float64: "float64"}
    return datasets.Features({name: datasets.Value(types[kind]) for name, kind in _KINDS.items()})


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


def _number(values: Mapping[str, object], name: str) -> float:
    """Return a field as a number; NaN where the record has none."""
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


_TRUTH = {"true": 1.0, "false": 0.0}


def _storable(text: str) -> str:
    """Replace lone surrogates, which no file takes, by U+FFFD; the text view drops both."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
