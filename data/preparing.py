"""From a router log to examples with roles, and an account of every line."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from querytier.data.atomic import atomic_folder
from querytier.data.columns import ColumnMap, leaf_paths
from querytier.data.examples import BadRecordError, Example, Examples, example_from
from querytier.data.labels import LabelRule, label_rule
from querytier.data.reading import Record, read_records
from querytier.data.roles import FEWEST_ROWS_TO_CERTIFY, ROLES, RoleShares, with_roles
from querytier.data.text_view import VIEW_VERSION, is_truncated, view_fingerprint
from querytier.errors import LogError, UsageError

__all__ = [
    "FEWEST_OF_EACH_CLASS",
    "FEWEST_ROWS",
    "DataSummary",
    "mapped_rows",
    "prepare",
    "read_examples",
    "summarise",
]

FEWEST_ROWS = 200
FEWEST_OF_EACH_CLASS = 10
_SHOWN_COLUMNS = 12

Row = TypeVar("Row")
Maker = Callable[[Mapping[str, object], str], Row]


@dataclass(frozen=True)
class DataSummary:
    """What became of a log.

    Attributes
    ----------
    source : str
        The log's file name.
    rows, usable : int
        Records read, and records that made an example.
    quarantined : dict of str to int
        Records that made none, by reason (without the value).
    roles : dict of str to int
        Examples by role.
    shares : dict of str to float
        Shares of the usable rows: `needs_frontier` (mean label), `truncated` (queries that the text
        view cuts) and, for scored logs, `cheap_ok`, `frontier_ok`, `both_fail`, `cheap_wins`.
    label_rule : LabelRule
    label_sources : dict of str to int
        Examples by source of their label.
    view_version : int
    view_sha256 : str
    fingerprint : str
        sha256 of the examples with their roles.
    """

    source: str
    rows: int
    usable: int
    quarantined: dict[str, int]
    roles: dict[str, int]
    shares: dict[str, float]
    label_rule: LabelRule
    label_sources: dict[str, int]
    view_version: int
    view_sha256: str
    fingerprint: str

    @classmethod
    def read(cls, path: Path) -> "DataSummary":
        """Read what `write` wrote."""
        content = json.loads(path.read_text())
        return cls(**{**content, "label_rule": LabelRule(**content["label_rule"])})

    def write(self, path: Path) -> None:
        """Write the summary as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def prepare(
    logs: Path,
    columns: ColumnMap | None,
    out: Path,
    *,
    ok_threshold: float,
    shares: RoleShares,
    seed: int,
    max_bad_share: float,
) -> DataSummary:
    """Read a log, label it, give roles; write examples, summary and quarantine file.

    Parameters
    ----------
    logs : Path
    columns : ColumnMap or None
        None maps every field to the column of its own name.
    out : Path
        Gets `data/examples.parquet`, `data/summary.json` and `quarantine.jsonl`.
    ok_threshold : float
        A score of at least this much counts as success.
    shares : dict
        Share of each role but "train".
    seed : int
        Seed of the roles.
    max_bad_share : float
        Above this share of bad records, in [0, 1], the run stops.

    Raises
    ------
    UsageError
        If the file or a mapped column does not exist, or the columns make no label.
    LogError
        If the file cannot be read, or too many records are bad, or too few are usable, or they
        hold one class only, or too few groups to fill the roles.
    """
    out.mkdir(parents=True, exist_ok=True)
    examples, quarantined, rule = read_examples(
        logs, columns, out / "quarantine.jsonl", ok_threshold, max_bad_share
    )
    _check_enough(logs, examples, sum(quarantined.values()))
    table = Examples.of(with_roles(examples, shares, seed))
    _check_roles(logs, table)
    summary = summarise(logs, table, quarantined, rule)
    with atomic_folder(out / "data") as folder:
        table.write_parquet(folder / "examples.parquet")
        summary.write(folder / "summary.json")
    return summary


def read_examples(
    logs: Path,
    columns: ColumnMap | None,
    quarantine: Path,
    ok_threshold: float,
    max_bad_share: float,
) -> tuple[list[Example], Counter[str], LabelRule]:
    """Read the labelled examples of a log; parameters and errors as in `prepare`.

    Returns
    -------
    examples : list of Example
        Without roles.
    quarantined : Counter
        Records that made no example, by reason.
    rule : LabelRule
    """
    columns = columns or _same_names(logs)
    rule = label_rule(columns, ok_threshold)

    ids: set[str] = set()

    def make(values: Mapping[str, object], default_id: str) -> Example:
        example = example_from(values, rule, default_id)
        if example.id in ids:
            raise BadRecordError(f"id used before: {example.id}")
        ids.add(example.id)
        return example

    examples, quarantined = mapped_rows(logs, columns, make, quarantine, max_bad_share)
    return examples, quarantined, rule


def mapped_rows(
    logs: Path, columns: ColumnMap, make: Maker[Row], quarantine: Path, max_bad_share: float
) -> tuple[list[Row], Counter[str]]:
    """Make a row of every record of a log; the records that make none go to the quarantine file.

    Parameters
    ----------
    logs : Path
    columns : ColumnMap
    make : callable
        Takes a record's mapped values and a default id, returns a row or raises `BadRecordError`.
    quarantine : Path
        Gets a JSON object a bad record: line, reason, raw text. Removed where there is none.
    max_bad_share : float
        Above this share of bad records, in [0, 1], the reading fails.

    Raises
    ------
    UsageError
        If the file does not exist, or a mapped column is in no record.
    LogError
        If the file cannot be read, or too many records are bad.
    """
    rows: list[Row] = []
    quarantined: Counter[str] = Counter()
    seen_columns: set[str] = set()
    known_columns: dict[str, None] = {}

    def row_of(record: Record) -> Row:
        if record.fields is None:
            raise BadRecordError(record.problem)
        seen_columns.update(columns.present(record.fields))
        if len(known_columns) < _SHOWN_COLUMNS:
            known_columns.update(dict.fromkeys(leaf_paths(record.fields)))
        return make(columns.values(record.fields), f"line-{record.line}")

    records = read_records(logs)
    with _QuarantineFile(quarantine) as write:
        for record in records:
            try:
                rows.append(row_of(record))
            except BadRecordError as error:
                quarantined[str(error).split(":", 1)[0]] += 1
                write(record, str(error))
    if known_columns:
        _check_columns(logs, columns, seen_columns, list(known_columns))
    _check_bad_share(logs, len(rows), quarantined, quarantine, max_bad_share)
    return rows, quarantined


def summarise(
    logs: Path, examples: Examples, quarantined: Mapping[str, int], rule: LabelRule
) -> DataSummary:
    """Count what a log holds."""
    return DataSummary(
        source=logs.name,
        rows=len(examples) + sum(quarantined.values()),
        usable=len(examples),
        quarantined=dict(quarantined),
        roles={role: int((examples.role == role).sum()) for role in ROLES},
        shares=_shares(examples, rule.ok_threshold),
        label_rule=rule,
        label_sources=dict(Counter(examples.label_source.tolist())),
        view_version=VIEW_VERSION,
        view_sha256=view_fingerprint(),
        fingerprint=examples.fingerprint(),
    )


def _shares(examples: Examples, ok_threshold: float) -> dict[str, float]:
    shares = {
        "needs_frontier": float(examples.needs_frontier.mean()),
        "truncated": float(np.mean([is_truncated(query) for query in examples.query])),
    }
    if examples.scored:
        cheap_ok = examples.cheap_score >= ok_threshold
        frontier_ok = examples.frontier_score >= ok_threshold
        shares["cheap_ok"] = float(cheap_ok.mean())
        shares["frontier_ok"] = float(frontier_ok.mean())
        shares["both_fail"] = float((~cheap_ok & ~frontier_ok).mean())
        shares["cheap_wins"] = float((cheap_ok & ~frontier_ok).mean())
    return shares


def _same_names(logs: Path) -> ColumnMap:
    for record in read_records(logs):
        if record.fields is not None:
            return ColumnMap.same_names(record.fields)
    raise LogError(f"{logs} has no readable record; is it a router log, one record a line?")


def _check_columns(logs: Path, columns: ColumnMap, seen: set[str], known: list[str]) -> None:
    unknown = [f"{name}={path}" for name, path in columns.paths.items() if name not in seen]
    if unknown:
        shown = ", ".join(known[:_SHOWN_COLUMNS]) + (", ..." if len(known) > _SHOWN_COLUMNS else "")
        raise UsageError(
            f"no record of {logs} has the mapped column {', '.join(unknown)}; its columns: {shown}"
        )


def _check_bad_share(
    logs: Path, usable: int, quarantined: Counter[str], quarantine: Path, max_bad_share: float
) -> None:
    bad, rows = quarantined.total(), usable + quarantined.total()
    if not usable:
        counts = _counts(quarantined) or "the file is empty"
        raise LogError(f"{logs} has no usable row among its {rows} ({counts}); see {quarantine}")
    if bad > max_bad_share * rows:
        raise LogError(
            f"{bad} of the {rows} records of {logs} are bad, a larger share than max_bad_share "
            f"{max_bad_share} ({_counts(quarantined)}); see {quarantine}, mend them or raise it"
        )


def _check_enough(logs: Path, examples: list[Example], bad: int) -> None:
    if len(examples) < FEWEST_ROWS:
        raise LogError(
            f"{logs} has {len(examples)} usable rows (and {bad} in quarantine); "
            f"at least {FEWEST_ROWS} labelled rows are needed to train and to judge a classifier"
        )
    positive = sum(example.needs_frontier > 0.5 for example in examples)
    negative = sum(example.needs_frontier < 0.5 for example in examples)
    fewest = min(positive, negative)
    if fewest < FEWEST_OF_EACH_CLASS:
        what = "one class only" if not fewest else "too few of one class"
        raise LogError(
            f"{logs} holds {what}: {positive} rows need the frontier model, {negative} do not; at "
            f"least {FEWEST_OF_EACH_CLASS} of each are needed. Check --ok-threshold and which "
            "column is the cheap score"
        )


def _check_roles(logs: Path, examples: Examples) -> None:
    roles = ROLES if len(examples) >= FEWEST_ROWS_TO_CERTIFY else ("train", "test")
    empty = [role for role in roles if not (examples.role == role).any()]
    if empty:
        groups = len(set(examples.group))
        raise LogError(
            f"{logs}: no row for the role {', '.join(empty)}: its {groups} groups are too few or "
            "too large, and none is split; map a finer group, or try another prepare.seed"
        )


def _counts(quarantined: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in quarantined.most_common())


class _QuarantineFile:
    """A file that appears with its first line; one of an earlier run does not stay."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Callable[[Record, str], None]:
        self._path.unlink(missing_ok=True)
        return self._write

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def _write(self, record: Record, reason: str) -> None:
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace")
        line = {"line": record.line, "reason": reason, "raw": record.raw}
        self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
