"""The templates and style of all pages; and the report, for three readers, in three formats.

The report as HTML, as Markdown for a pull request, and the model card come from `metrics.json`.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from querytier.eval.certificates.wording import certificate_lines, promise_sentence
from querytier.eval.intervals import Estimate
from querytier.eval.report.table import (
    COLUMNS,
    columns_with_values,
    compared_with_baselines,
    headline,
    table_cells,
)

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["render", "render_markdown", "render_model_card", "render_report"]

Metrics = Mapping[str, Any]

_SHORT = ("auroc", "apgr", "recall", "quality_retained", "cost_saved")
_SHORT_ROWS = ("classifier", "champion", "keyword_heuristic", "length", "domain_prior")


def render(template: str, **values: Any) -> str:
    """Return a page or a text from a template of the folder `templates`.

    HTML templates extend `_page.html.jinja`, which includes the style of all pages.
    """
    return _environment().get_template(template).render(**values)


def render_report(metrics: Metrics, plots: Mapping[str, str], artifact: str) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    metrics : mapping
        The content of `metrics.json`.
    plots : mapping of str to str
        `<svg>` elements: gain, reliability, scores.
    artifact : str
        The artifact's folder, for the lines on how to deploy.
    """
    return _rendered("report.html.jinja", metrics, plots=plots, artifact=artifact)


def render_markdown(metrics: Metrics) -> str:
    """Return the short report, for a pull request."""
    return _rendered("report.md.jinja", metrics, _SHORT, _SHORT_ROWS)


def render_model_card(metrics: Metrics) -> str:
    """Return the model card with its results, in the form that model hubs read."""
    return _rendered("model_card.md.jinja", metrics, _SHORT)


def _rendered(
    template: str,
    metrics: Metrics,
    keys: Iterable[str] = COLUMNS,
    names: Iterable[str] | None = None,
    **values: Any,
) -> str:
    """Return one format of the report, with these columns and rows of the table."""
    shown = columns_with_values(metrics, keys)
    return render(
        template,
        metrics=metrics,
        headline=headline(metrics),
        promise=promise_sentence(metrics["certificate"]),
        certified=certificate_lines(metrics["certificate"]),
        compared=compared_with_baselines(metrics),
        columns=[COLUMNS[key] for key in shown],
        table=[
            {
                "name": row["name"],
                "fitted_on": row["fitted_on"],
                "cells": table_cells(row, shown),
            }
            for row in metrics["rows"]
            if names is None or row["name"] in names
        ],
        notes=_notes(metrics),
        **values,
    )


def _notes(metrics: Metrics) -> list[str]:
    """Return why columns of the classifier's row have no value."""
    row = metrics["rows"][0]
    reasons = {row[key].get("reason") for key in ("apgr", "auroc")} | set(row["reasons"].values())
    return sorted(reason for reason in reasons if reason)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape

    folder = files("querytier.eval.report") / "templates"
    environment = Environment(
        # Queries and names of slices come from the log: HTML has to escape them.
        autoescape=select_autoescape(["html.jinja"]),
        # A misspelt name in a template is an error, not an empty place on the page.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Not a PackageLoader: it looks for the folder on disk, and a zipped wheel is not a folder.
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
    )
    environment.filters |= {
        "estimate": lambda found: Estimate.from_dict(found).text(),
        "percent": lambda found: Estimate.from_dict(found).text(".1%"),
        "share": lambda value: "n/a" if value is None else f"{value:.1%}",
        "stacked": _stacked,
        # A line break in the name of a slice would end a row of a Markdown table.
        "line": lambda text: " ".join(text.split()),
    }
    return environment


def _stacked(text: str) -> "Markup":
    """Return an estimate's text for a narrow cell: the interval below the value."""
    from markupsafe import Markup

    value, bracket, interval = text.partition("(")
    interval = interval.replace(" to ", "\N{NO-BREAK SPACE}to ")  # two lines at most, not three
    below = Markup('<small class="interval">{}</small>').format(bracket + interval)
    return Markup("{}{}").format(value.rstrip(), below if bracket else "")
