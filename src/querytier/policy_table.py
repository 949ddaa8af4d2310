"""What off-policy evaluation says in a terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from querytier.data.data_summary import counted
from querytier.eval.off_policy_page import PolicyCell, headline, policy_rows
from querytier.log_options import say

__all__ = ["print_policies"]

_NARROWEST = 120
_ESTIMATES = 3


def print_policies(record: Mapping[str, Any]) -> None:
    """Print the table of `off_policy.json`, what was left out, and what the log can say."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = policy_rows(record)
    columns = ("outcome", "cost") if rows[0].cost else ("outcome",)
    table = Table(
        title=f"{record['source']}: {record['n']['evaluated']} logged decisions",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    table.add_column("policy", no_wrap=True)
    for title in ("frontier\nrate", *(f"{name}\n{it}" for name in columns for it in _TITLES)):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("effective\ngroups", "largest\nweight"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = [text for name in columns for text in _texts(getattr(row, name))]
        if row.reason is not None:
            cells[0] = "cannot claim"
        table.add_row(row.name, row.frontier_rate, *cells, row.effective_groups, row.largest_weight)
    Console(width=max(_NARROWEST, Console().width)).print(table)
    _say_what_is_missing(record)
    for row in rows:
        if row.reason is not None:
            say(f"cannot claim {row.name}: {row.reason}")
    say(headline(record))


_TITLES = ("robust", "SNIPS", "IPS")


def _texts(cells: Iterable[PolicyCell]) -> list[str]:
    """Return the estimates, values over intervals; of the logging router its mean, once."""
    texts = [f"{cell.text}\n{cell.interval}".strip() for cell in cells][:_ESTIMATES]
    return texts + [""] * (_ESTIMATES - len(texts))


def _say_what_is_missing(record: Mapping[str, Any]) -> None:
    n = record["n"]
    missing = {
        "without a tier": n["without_tier"],
        "without an outcome or feedback": n["without_outcome"],
        "none of a router's": n["passed_over"],
    }
    found = {name: count for name, count in missing.items() if count}
    if found:
        say(f"of {n['rows']} rows left out: {counted(found)}")
    if n["quarantined"]:
        say(f"in quarantine.jsonl: {counted(record['quarantined'])}")
    if n["outcome_from_feedback"]:
        say(f"outcomes that are feedback: {n['outcome_from_feedback']}")
