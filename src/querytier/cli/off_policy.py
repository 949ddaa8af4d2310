"""What off-policy evaluation says in a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from querytier.cli.log_options import say
from querytier.data.ingest.log_batches import counts_text
from querytier.eval.off_policy.page import (
    PolicyCells,
    PolicyRow,
    headline,
    policy_rows,
)

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["print_policies"]

_NARROWEST = 140
_ESTIMATES = 3
_COLUMNS = (
    "frontier\nrate",
    "doubly\nrobust",
    "\nSNIPS",
    "\nIPS",
    "artifact\nminus row",
)
_WEIGHTS = ("effective\ngroups", "largest\nweight")


def print_policies(record: Mapping[str, Any]) -> None:
    """Print the tables of `off_policy.json`, what was left out, and what the log can say."""
    from rich.console import Console

    rows, decisions = policy_rows(record), record["n"]["evaluated"]
    console = Console(width=max(_NARROWEST, Console().width))
    title = f"{record['source']}, {decisions:,} decisions: mean outcome"
    outcomes = [(row, row.outcome) for row in rows]
    console.print(_table(title, outcomes, _COLUMNS + _WEIGHTS))
    costs = [(row, row.cost) for row in rows if row.cost is not None]
    if costs:
        console.print(_table("Cost of 1,000 queries", costs, _COLUMNS))
    _say_what_is_missing(record)
    for row in rows:
        if row.reason is not None:
            say(f"cannot claim {row.name}: {row.reason}")
    say(headline(record))


def _table(
    title: str, found: Iterable[tuple[PolicyRow, PolicyCells]], columns: Sequence[str]
) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("policy", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row, cells in found:
        table.add_row(row.name, *_texts(row, cells)[: len(columns)])
    return table


def _texts(row: PolicyRow, cells: PolicyCells) -> list[str]:
    """Return values over intervals; of the logging router its mean, once."""
    missing = [""] * (_ESTIMATES - len(cells.estimates))
    shown = [*cells.estimates, *missing, cells.lead]
    texts = [cell.replace(" (", "\n(") for cell in shown]
    if row.reason is not None:
        texts[0] = "cannot claim"
    return [row.frontier_rate, *texts, row.effective_groups, row.largest_weight]


def _say_what_is_missing(record: Mapping[str, Any]) -> None:
    n = record["n"]
    missing = {
        "without a tier": n["without_tier"],
        "without an outcome or feedback": n["without_outcome"],
        "none of a router's": n["passed_over"],
    }
    found = {name: count for name, count in missing.items() if count}
    if found:
        say(f"of {n['rows']} rows left out: {counts_text(found)}")
    if n["quarantined"]:
        say(f"in quarantine.jsonl: {counts_text(record['quarantined'])}")
    if n["outcome_from_feedback"]:
        say(f"outcomes that are feedback: {n['outcome_from_feedback']}")
