"""Inspection of a log before it is prepared: fields, label rules, shares, first rows."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from querytier.data.column_map import ColumnMap, leaf_paths
from querytier.data.example import example_from, outcomes_in
from querytier.data.formats.canonical import is_passed_over
from querytier.data.formats.reading import Record
from querytier.data.formats.recognise import Format
from querytier.data.ingest.running_counts import OutcomeCounts
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import RULE_FIELDS, LabelRules, RuleName, label_of
from querytier.data.values import BadRecordError
from querytier.errors import LogError, UsageError

__all__ = ["FieldCount", "Inspection", "Readiness", "inspect_log"]

_FIRST_ROWS = 10
_EXAMPLE_VALUES = 3


@dataclass(frozen=True)
class FieldCount:
    """The number of values of a field, and the first distinct ones.

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
    """Whether a label rule can label the records of a log.

    Attributes
    ----------
    rule : str
    missing : list of str
        Fields that the rule needs and the column map does not name.
    usable : int
        Number of records that the rule can label.
    """

    rule: str
    missing: list[str]
    usable: int


@dataclass(frozen=True)
class Inspection:
    """The fields, labels and shares of a log.

    Attributes
    ----------
    source : str
    format : str
    rows : int
        Number of records, bad ones included.
    bad : dict of str to int
        Records that cannot be read, or have no query, by reason.
    passed_over : dict of str to int
        Records that do not concern the router (tool calls, other models), by reason.
    fields : list of FieldCount
    unmapped : list of str
        Columns that are mapped to no field.
    rules : list of Readiness
    tiers : dict of str to int
        Records that name the tier that answered, by tier.
    propensities : int
        Number of these that state the probability with which the tier was chosen.
    labelled : int
        Number of records that the rules, in their order, can label.
    needs_frontier : float or None
        Mean of these labels.
    cheap_ok, frontier_ok, both_fail, cheap_wins : float or None
        Shares of the records with both scores.
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
    tiers: dict[str, int]
    propensities: int
    labelled: int
    cheap_ok: float | None
    frontier_ok: float | None
    needs_frontier: float | None
    both_fail: float | None
    cheap_wins: float | None
    first: list[dict[str, object]]

    def to_dict(self) -> dict[str, Any]:
        """Return the inspection for JSON."""
        return asdict(self)


def inspect_log(source: LogSource, rules: LabelRules) -> Inspection:
    """Return the fields, labels and shares of a log, in one pass and constant memory.

    Parameters
    ----------
    source : LogSource
    rules : LabelRules
        What counts as success; each rule is also tried by itself.

    Raises
    ------
    UsageError, LogError
        If the file does not exist or cannot be read.
    """
    counts = _Counts(source, rules)
    schema = source.recognised()
    counts.add(replace(source, format=schema).records())
    return counts.inspection(schema)


class _Counts:
    def __init__(self, source: LogSource, rules: LabelRules) -> None:
        self._source = source
        self._columns = _columns_of(source)
        self._rules = rules
        self._single_rules = {rule: replace(rules, rules=(rule,)) for rule in rules.rules}
        self._outcomes = OutcomeCounts()
        self._rows = 0
        self._bad: Counter[str] = Counter()
        self._passed_over: Counter[str] = Counter()
        self._present: Counter[str] = Counter()
        self._values: dict[str, dict[str, None]] = {}
        self._paths: dict[str, None] = {}
        self._usable: Counter[str] = Counter()
        self._tiers: Counter[str] = Counter()
        self._propensities = 0
        self._label_sum = 0.0
        self._labels = 0
        self._first: list[dict[str, object]] = []

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            self._rows += 1
            if record.fields is None:
                kind = (record.problem or "").split(":", 1)[0]
                counts = self._passed_over if is_passed_over(record) else self._bad
                counts[kind] += 1
                continue
            self._paths |= dict.fromkeys(leaf_paths(record.fields))
            try:
                if self._columns is not None:
                    self._add_values(self._columns.values(record.fields))
            except BadRecordError as error:
                self._bad[str(error).split(":", 1)[0]] += 1

    def _add_values(self, values: Mapping[str, object]) -> None:
        for name, value in values.items():
            self._present[name] += 1
            shown = self._values.setdefault(name, {})
            if len(shown) < _EXAMPLE_VALUES:
                shown[_shown(value)] = None
        if len(self._first) < _FIRST_ROWS:
            self._first.append({name: _shown(value) for name, value in values.items()})
        example = example_from(values, self._rules, "", self._source.pair)
        if not math.isnan(example.needs_frontier):
            self._labels += 1
            self._label_sum += example.needs_frontier
        if not math.isnan(example.cheap_score + example.frontier_score):
            self._outcomes.add(example.cheap_score, example.frontier_score, example.ok_threshold)
        if example.tier:
            self._tiers[example.tier] += 1
            self._propensities += not math.isnan(example.propensity)
        outcomes = outcomes_in(values, self._source.pair)
        for rule, alone in self._single_rules.items():
            label, _ = label_of(outcomes, alone, alone.success_at(example.source))
            self._usable[rule] += not math.isnan(label)

    def inspection(self, schema: Format) -> Inspection:
        paths = self._columns.paths if self._columns else {}
        shares = self._outcomes.shares()
        label = self._label_sum / self._labels if self._labels else None
        return Inspection(
            source=self._source.path.name,
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
                Readiness(rule, _missing(rule, paths), self._usable[rule])
                for rule in self._single_rules
            ],
            tiers=dict(self._tiers),
            propensities=self._propensities,
            labelled=self._labels,
            cheap_ok=shares.get("cheap_ok"),
            frontier_ok=shares.get("frontier_ok"),
            needs_frontier=label,
            both_fail=shares.get("both_fail"),
            cheap_wins=shares.get("cheap_wins"),
            first=self._first,
        )


def _columns_of(source: LogSource) -> ColumnMap | None:
    """Return the column map; None if there is no query to map."""
    # An inspection without a query still lists the columns, from which a map can be written.
    try:
        return source.columns()
    except (LogError, UsageError):
        return None


def _missing(rule: RuleName, paths: Mapping[str, str]) -> list[str]:
    """Return the fewest fields that would have to be mapped for a rule."""
    ways = ([name for name in names if name not in paths] for names in RULE_FIELDS[rule])
    return min(ways, key=len)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
