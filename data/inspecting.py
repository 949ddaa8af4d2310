"""What a log holds, before anything is made of it: fields, label rules, shares, first rows."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from querytier.data.canonical import is_passed_over
from querytier.data.columns import ColumnMap, leaf_paths
from querytier.data.examples import BadRecordError, number_of, query_of
from querytier.data.formats import Format
from querytier.data.reading import Record
from querytier.data.sources import LogSource, same_name_columns
from querytier.data.strata import Strata

__all__ = ["FieldCount", "Inspection", "Readiness", "inspect_log"]

LABEL_RULES = {
    "explicit": ("needs_frontier",),
    "cheap_fails_frontier_succeeds": ("cheap_score", "frontier_score"),
}
_FIRST_ROWS = 10
_EXAMPLE_VALUES = 3


@dataclass(frozen=True)
class FieldCount:
    """How often a field has a value, and the first distinct ones.

    Attributes
    ----------
    field, column : str
    present : int
    values : list of str
    """

    field: str
    column: str
    present: int
    values: list[str]


@dataclass(frozen=True)
class Readiness:
    """Whether a label rule could make labels of this log.

    Attributes
    ----------
    rule : str
    missing : list of str
        Fields that the column map would have to name.
    usable : int
        Records that have all it needs.
    """

    rule: str
    missing: list[str]
    usable: int


@dataclass(frozen=True)
class Inspection:
    """What a log holds.

    Attributes
    ----------
    source : str
    format : str
    rows : int
        Records, bad ones among them.
    bad : dict of str to int
        Records that could not be read, or have no query, by reason.
    passed_over : dict of str to int
        Records that are none of a router's (tool calls, further models), by reason.
    fields : list of FieldCount
    unmapped : list of str
        Columns that no field is mapped to.
    rules : list of Readiness
    cheap_ok, frontier_ok, needs_frontier, both_fail, cheap_wins : float or None
        Shares of the records with both scores (`needs_frontier`: its mean, where it is given).
    first : list of dict
        The mapped values of the first ten records.
    """

    source: str
    format: str
    rows: int
    bad: dict[str, int]
    passed_over: dict[str, int]
    fields: list[FieldCount]
    unmapped: list[str]
    rules: list[Readiness]
    cheap_ok: float | None
    frontier_ok: float | None
    needs_frontier: float | None
    both_fail: float | None
    cheap_wins: float | None
    first: list[dict[str, object]]

    def record(self) -> dict[str, Any]:
        """Return the inspection for JSON."""
        return asdict(self)


def inspect_log(source: LogSource, columns: ColumnMap | None, ok_threshold: float) -> Inspection:
    """Count what a log holds, in one pass and constant memory.

    Parameters
    ----------
    source : LogSource
    columns : ColumnMap or None
        None maps every field to the column of its own name.
    ok_threshold : float
        A score of at least this much counts as success.

    Raises
    ------
    UsageError, LogError
        If the file does not exist or cannot be read.
    """
    counts = _Counts(columns, ok_threshold)
    schema = source.format or source.recognised()
    counts.take(replace(source, format=schema).records())
    return counts.inspection(source.path.name, schema)


class _Counts:
    def __init__(self, columns: ColumnMap | None, ok_threshold: float) -> None:
        self._columns = columns
        self._strata = Strata(ok_threshold)
        self._rows = 0
        self._bad: Counter[str] = Counter()
        self._passed_over: Counter[str] = Counter()
        self._present: Counter[str] = Counter()
        self._values: dict[str, dict[str, None]] = {}
        self._paths: dict[str, None] = {}
        self._usable: Counter[str] = Counter()
        self._label_sum = 0.0
        self._first: list[dict[str, object]] = []

    def take(self, records: Iterable[Record]) -> None:
        for record in records:
            self._rows += 1
            if record.fields is None:
                kind = (record.problem or "").split(":", 1)[0]
                counts = self._passed_over if is_passed_over(record) else self._bad
                counts[kind] += 1
                continue
            self._paths |= dict.fromkeys(leaf_paths(record.fields))
            if self._columns is None and "query" in record.fields:
                self._columns = same_name_columns(record.fields)
            try:
                if self._columns is not None:
                    self._take_values(self._columns.values(record.fields))
            except BadRecordError as error:
                self._bad[str(error).split(":", 1)[0]] += 1

    def _take_values(self, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            self._present[name] += 1
            shown = self._values.setdefault(name, {})
            if len(shown) < _EXAMPLE_VALUES:
                shown[_shown(value)] = None
        if len(self._first) < _FIRST_ROWS:
            self._first.append({name: _shown(value) for name, value in values.items()})
        query_of(values)
        for rule, fields in LABEL_RULES.items():
            self._usable[rule] += all(name in values for name in fields)
        self._take_outcome(values)

    def _take_outcome(self, values: Mapping[str, object]) -> None:
        if "needs_frontier" in values:
            self._label_sum += number_of(values, "needs_frontier")
        if not ("cheap_score" in values and "frontier_score" in values):
            return
        cheap, frontier = number_of(values, "cheap_score"), number_of(values, "frontier_score")
        self._strata.add(cheap, frontier)

    def inspection(self, source: str, schema: Format) -> Inspection:
        paths = self._columns.paths if self._columns else {}
        given = self._usable["explicit"]
        shares = self._strata.shares()
        label = self._label_sum / given if given else shares.get("needs_frontier")
        return Inspection(
            source=source,
            format=schema.value,
            rows=self._rows,
            bad=dict(self._bad),
            passed_over=dict(self._passed_over),
            fields=[
                FieldCount(name, path, self._present[name], list(self._values.get(name, {})))
                for name, path in paths.items()
            ],
            unmapped=[path for path in self._paths if path not in paths.values()],
            rules=[
                Readiness(rule, [name for name in fields if name not in paths], self._usable[rule])
                for rule, fields in LABEL_RULES.items()
            ],
            cheap_ok=shares.get("cheap_ok"),
            frontier_ok=shares.get("frontier_ok"),
            needs_frontier=label,
            both_fail=shares.get("both_fail"),
            cheap_wins=shares.get("cheap_wins"),
            first=self._first,
        )


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
