"""The verb `querytier off-policy`: estimate an artifact's outcome on a router's own log."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from querytier.cli.log_options import LogOptions, takes_log_options
from querytier.cli.options import Artifact, Logs, OutFolder, console, plain_table, say

if TYPE_CHECKING:
    from rich.table import Table

    from querytier.eval.off_policy.page import PolicyRow

__all__ = ["off_policy"]

_ESTIMATES = ("doubly\nrobust", "\nSNIPS", "\nIPS", "artifact\nminus row")
_WEIGHTS = ("effective\ngroups", "largest\nweight")


@takes_log_options
def off_policy(logs: Logs, artifact: Artifact, out: OutFolder, reading: LogOptions) -> None:
    """Estimate an artifact's quality and cost from one-sided logs. Exit code 1 if impossible.

    In a one-sided log, only one tier answered each query.
    """
    from querytier.pipeline.off_policy import compare_policies

    settings = reading.params()
    comparison = compare_policies(reading.sources(logs, settings), artifact, out, settings)
    _print(comparison.write(out))
    say(f"page: {out / 'off_policy.html'}; JSON: {out / 'off_policy.json'}")
    if comparison.refusal is not None:
        raise typer.Exit(1)


def _print(record: Mapping[str, Any]) -> None:
    """Print the tables of `off_policy.json`, the rows left out, and the headline."""
    from querytier.data.ingest.log_batches import counts_text
    from querytier.eval.off_policy.page import headline, policy_rows

    rows, n = policy_rows(record), record["n"]
    title = f"{record['source']}, {n['evaluated']:,} decisions: mean outcome"
    console().print(_table(title, rows, "outcome", _WEIGHTS))
    if "cost" in rows[0].cells:
        console().print(_table("Cost of 1,000 queries", rows, "cost", ()))
    left_out = {
        "without a tier": n["without_tier"],
        "without an outcome or feedback": n["without_outcome"],
        "not written by a router": n["passed_over"],
    }
    if any(left_out.values()):
        counts = {name: count for name, count in left_out.items() if count}
        say(f"left out of {n['rows']} rows: {counts_text(counts)}")
    if n["quarantined"]:
        say(f"in quarantine.jsonl: {counts_text(record['quarantined'])}")
    if n["outcome_from_feedback"]:
        say(f"outcomes taken from feedback: {n['outcome_from_feedback']}")
    for row in rows:
        if row.reason is not None:
            say(f"cannot evaluate {row.name}: {row.reason}")
    say(headline(record))


def _table(title: str, rows: "list[PolicyRow]", column: str, weights: Sequence[str]) -> "Table":
    table = plain_table(title)
    table.add_column("policy", no_wrap=True)
    for header in ("frontier\nrate", *_ESTIMATES, *weights):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        # The interval is printed below its value: on one line, the table would be too wide.
        cells = [cell.replace(" (", "\n(") for cell in row.cells[column]]
        if row.reason is not None:
            cells[0] = "cannot evaluate"
        counts = (row.effective_groups, row.largest_weight) if weights else ()
        table.add_row(row.name, row.frontier_rate, *cells, *counts)
    return table
