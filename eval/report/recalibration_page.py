"""The page on a recalibration: self-contained HTML and Markdown from `recalibration.json`."""

from collections.abc import Iterator, Mapping
from typing import Any

from querytier.eval.intervals import Estimate
from querytier.eval.report.pages import render

__all__ = ["render_markdown", "render_page"]

Record = Mapping[str, Any]

_ROWS = (
    ("risk", "share of queries sent cheap that needed frontier"),
    ("frontier_rate", "sent to the frontier model"),
    ("brier", "Brier score"),
    ("ece", "ECE"),
    ("auroc", "AUROC of the ranking"),
)


def render_page(record: Record) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    record : mapping
        The content of `recalibration.json`.
    """
    return render("recalibration.html.jinja", record=record, table=list(_table(record)))


def render_markdown(record: Record) -> str:
    """Return a short form as Markdown, for a pull request."""
    lines = [
        f"## Recalibrated: model {record['model_version']}, from {record['from']['model_version']}",
        "",
        *(f"- {line}" for line in record["lines"]),
        "",
        "| on the certification rows | old | new |",
        "|---|---|---|",
        *(f"| {' | '.join(cells)} |" for cells in _table(record)),
    ]
    return "\n".join(lines) + "\n"


def _table(record: Record) -> Iterator[tuple[str, str, str]]:
    for key, title in _ROWS:
        # If no query was sent cheap, there is no risk to measure.
        sides = (record[side][key] or {"value": None} for side in ("before", "after"))
        before, after = (Estimate.from_dict(found).text() for found in sides)
        yield title, before, after
