"""The page on a recalibration: self-contained HTML and Markdown from `recalibration.json`."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

__all__ = ["render_markdown", "render_page"]

Record = Mapping[str, Any]

_ROWS = (
    ("risk", "needed frontier, of those sent cheap"),
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
    from jinja2 import Environment

    template = files("querytier.eval.report").joinpath("templates/recalibration.html.jinja").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(record=record, table=list(_table(record)))


def render_markdown(record: Record) -> str:
    """Return the same, short, for a pull request."""
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
        yield title, _text(record["before"][key]), _text(record["after"][key])


def _text(found: Mapping[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return "–"
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
