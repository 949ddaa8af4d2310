"""From a router log to examples with roles, and an account of every line, in constant memory.

Two passes. The first reads, labels and stages examples, and keeps a few numbers of each in memory;
from these the groups and roles follow. The second writes the examples with their group and role.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from querytier.data.atomic import atomic_folder
from querytier.data.columns import ColumnMap
from querytier.data.corrections import Corrections, Corrector, read_corrections
from querytier.data.examples import (
    BadRecordError,
    Example,
    Examples,
    Fingerprint,
    example_from,
)
from querytier.data.labels import LabelRule, label_rule
from querytier.data.ledger import Ledger, SeenHashes
from querytier.data.logs import MappedLog
from querytier.data.near_duplicates import near_duplicate_links
from querytier.data.redaction import Redaction, Redactor
from querytier.data.roles import FEWEST_ROWS_TO_CERTIFY, ROLES, RoleShares
from querytier.data.sources import LogSource
from querytier.data.text_view import VIEW_VERSION, hashed, text_view, view_fingerprint
from querytier.errors import LogError

__all__ = [
    "FEWEST_OF_EACH_CLASS",
    "FEWEST_ROWS",
    "DataSummary",
    "examples_log",
    "prepare",
    "read_unsplit",
]

FEWEST_ROWS = 200
FEWEST_OF_EACH_CLASS = 10
_ROWS_AT_ONCE = 10_000

Hashes = NDArray[np.uint64]
Roles = NDArray[np.object_]


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
    passed_over : dict of str to int
        Records that are none of a router's, by reason; not among `rows`.
    roles : dict of str to int
        Examples by role.
    shares : dict of str to float
        Shares of the usable rows: `needs_frontier` (mean label), `truncated` (queries that the text
        view cuts) and, for scored logs, `cheap_ok`, `frontier_ok`, `both_fail`, `cheap_wins`.
    near_duplicates : int or None
        Links between near duplicates that joined groups; None where they were not searched.
    redacted : dict of str to int
        Personal data replaced in queries, by kind.
    label_rule : LabelRule
    label_sources : dict of str to int
        Examples by source of their label.
    view_version : int
    view_sha256 : str
    fingerprint : str
        Of the examples with their groups and roles, whatever their order.
    """

    source: str
    rows: int
    usable: int
    quarantined: dict[str, int]
    passed_over: dict[str, int]
    roles: dict[str, int]
    shares: dict[str, float]
    near_duplicates: int | None
    redacted: dict[str, int]
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
    source: LogSource,
    columns: ColumnMap | None,
    out: Path,
    *,
    ok_threshold: float,
    shares: RoleShares,
    seed: int,
    max_bad_share: float,
    near_duplicate_threshold: float | None,
    near_duplicate_rows: int,
    temporal: bool,
    redaction: Redaction,
    corrections: Path | None = None,
) -> DataSummary:
    """Read a log, label it, give roles; write examples, summary and quarantine file.

    Parameters
    ----------
    source : LogSource
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
    near_duplicate_threshold : float or None
        Examples at least this similar, in (0, 1], share a group; None joins equal views only.
    near_duplicate_rows : int
        Longer logs are not searched for near duplicates: their queries would not fit in memory.
    temporal : bool
        Whether the newest groups are the test role, instead of those that a hash picks.
    redaction : {"off", "on", "fail"}
        What happens to personal data in queries, before anything is written.
    corrections : Path or None
        The table of an audit, with corrected labels filled in.

    Raises
    ------
    UsageError
        If the file or a mapped column does not exist, or the columns make no label.
    LogError
        If the file cannot be read, or too many records are bad, or too few are usable, or they
        hold one class only, or too few groups to fill the roles.
    """
    out.mkdir(parents=True, exist_ok=True)
    redactor = Redactor(redaction)
    quarantine = out / "quarantine.jsonl"
    log, rule = examples_log(
        source, columns, quarantine, ok_threshold, max_bad_share, redactor=redactor
    )
    rows = read_corrections(corrections) if corrections else Corrections("", ())
    corrector = Corrector(rows)
    with atomic_folder(out / "data") as folder:
        staged = folder / "staged.parquet"
        ledger = Ledger(ok_threshold)
        _stage(map(corrector.apply, log), ledger, staged)
        redactor.check(source.path)
        corrector.check_all_used()
        _check_enough(log, ledger)
        links = None
        if near_duplicate_threshold is not None and len(ledger) <= near_duplicate_rows:
            links = near_duplicate_links(_views(staged), near_duplicate_threshold)
        groups = ledger.groups(links)
        roles = ledger.roles(groups, shares, seed, temporal=temporal)
        _check_roles(log, groups, roles)
        fingerprint = _write_examples(staged, groups, roles, folder / "examples.parquet")
        staged.unlink()
        summary = _summary(
            log, rule, ledger, roles, fingerprint, links=links, redacted=redactor.counts
        )
        summary.write(folder / "summary.json")
    return summary


def read_unsplit(
    source: LogSource,
    columns: ColumnMap | None,
    quarantine: Path,
    ok_threshold: float,
    max_bad_share: float,
    *,
    redactor: Redactor | None = None,
) -> tuple[Examples, DataSummary]:
    """Read the examples of a log into memory, all in the test role; parameters as in `prepare`."""
    log, rule = examples_log(
        source, columns, quarantine, ok_threshold, max_bad_share, redactor=redactor
    )
    ledger, rows = Ledger(ok_threshold), []
    for example in log:
        ledger.add(example)
        rows.append(example)
    groups = ledger.groups()
    roles = ledger.roles(groups, {"test": 1.0}, seed=0)
    examples = Examples.of(rows).with_roles(groups, roles)
    return examples, _summary(log, rule, ledger, roles, examples.fingerprint())


def examples_log(
    source: LogSource,
    columns: ColumnMap | None,
    quarantine: Path,
    ok_threshold: float,
    max_bad_share: float,
    *,
    redactor: Redactor | None = None,
) -> tuple[MappedLog[Example], LabelRule]:
    """Return a log that yields labelled examples, and the label rule that its columns allow.

    Parameters and errors as in `prepare`. An id that comes again is a bad record.
    """
    redactor = redactor or Redactor("off")
    columns = columns or source.columns()
    rule = label_rule(columns, ok_threshold)
    ids = SeenHashes()

    def make(values: Mapping[str, object], default_id: str) -> Example:
        example = example_from(values, rule, default_id)
        example = replace(example, query=redactor.redacted(example.query))
        if ids.before(hashed(example.id)):
            raise BadRecordError(f"id used before: {example.id}")
        return example

    log = MappedLog(source, columns, make, quarantine, max_bad_share, redactor.hidden)
    return log, rule


def _stage(log: Iterable[Example], ledger: Ledger, path: Path) -> None:
    """Write the examples as they come, without final groups and roles."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, Examples.schema()) as writer:
        for batch in _batches(log):
            for example in batch:
                ledger.add(example)
            writer.write_table(Examples.of(batch).table())


def _write_examples(staged: Path, groups: Hashes, roles: Roles, path: Path) -> str:
    """Write the staged examples with group and role; return their fingerprint."""
    import pyarrow.parquet as pq

    start, fingerprint = 0, Fingerprint()
    with pq.ParquetFile(staged) as file, pq.ParquetWriter(path, Examples.schema()) as writer:
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            rows = slice(start, start + batch.num_rows)
            examples = Examples.of_table(batch).with_roles(groups[rows], roles[rows])
            writer.write_table(examples.table())
            fingerprint.add(examples)
            start = rows.stop
    return fingerprint.hexdigest()


def _views(staged: Path) -> list[str]:
    import pyarrow.parquet as pq

    queries = pq.read_table(staged, columns=["query"]).column("query")
    return [text_view(query) for query in queries.to_pylist()]


def _batches(log: Iterable[Example]) -> Iterator[list[Example]]:
    from tqdm import tqdm

    examples = iter(tqdm(log, desc="prepare", unit="line", disable=None))
    while batch := list(islice(examples, _ROWS_AT_ONCE)):
        yield batch


def _summary(
    log: MappedLog[Example],
    rule: LabelRule,
    ledger: Ledger,
    roles: Roles,
    fingerprint: str,
    *,
    links: NDArray[np.intp] | None = None,
    redacted: Mapping[str, int] | None = None,
) -> DataSummary:
    return DataSummary(
        source=log.source.path.name,
        rows=log.usable + log.quarantined.total(),
        usable=log.usable,
        quarantined=dict(log.quarantined),
        passed_over=dict(log.passed_over),
        roles={role: int((roles == role).sum()) for role in ROLES},
        shares=ledger.shares(),
        near_duplicates=None if links is None else len(links),
        redacted=dict(redacted or {}),
        label_rule=rule,
        label_sources=dict(ledger.label_sources),
        view_version=VIEW_VERSION,
        view_sha256=view_fingerprint(),
        fingerprint=fingerprint,
    )


def _check_enough(log: MappedLog[Example], ledger: Ledger) -> None:
    if len(ledger) < FEWEST_ROWS:
        raise LogError(
            f"{log.source.path} has {len(ledger)} usable rows (and {log.quarantined.total()} in "
            f"quarantine); at least {FEWEST_ROWS} labelled rows are needed to train and to judge a "
            "classifier"
        )
    positive, negative = ledger.positive, ledger.negative
    if min(positive, negative) < FEWEST_OF_EACH_CLASS:
        what = "too few of one class" if min(positive, negative) else "one class only"
        raise LogError(
            f"{log.source.path} holds {what}: {positive} rows need the frontier model, "
            f"{negative} do not; at least {FEWEST_OF_EACH_CLASS} of each are needed. Check "
            "--ok-threshold and which column is the cheap score"
        )


def _check_roles(log: MappedLog[Example], groups: Hashes, roles: Roles) -> None:
    wanted = ROLES if len(roles) >= FEWEST_ROWS_TO_CERTIFY else ("train", "test")
    empty = [role for role in wanted if not (roles == role).any()]
    if empty:
        raise LogError(
            f"{log.source.path}: no row for the role {', '.join(empty)}: its "
            f"{len(np.unique(groups))} groups are too few or too large, and none is split; map a "
            "finer group, or try another prepare.seed"
        )
