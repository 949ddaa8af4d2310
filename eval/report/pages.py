"""The report: one HTML page for three readers, Markdown for a pull request, a model card.

All three are made of `metrics.json` and fetch nothing.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from querytier.eval.certificates.wording import certificate_lines, promise_sentence
from querytier.eval.report.table import (
    Column,
    beside_baselines,
    columns_with_values,
    headline,
    percent,
    table_cells,
)

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_markdown", "render_model_card", "render_report"]

Metrics = Mapping[str, Any]

_SHORT = (
    Column("auroc", "AUROC"),
    Column("apgr", "APGR"),
    Column("recall", "recall"),
    Column("quality_retained", "quality retained"),
    Column("cost_saved", "cost saved"),
)
_SHORT_ROWS = ("classifier", "champion", "keyword_heuristic", "length", "domain_prior")


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
    columns = columns_with_values(metrics)
    return _rendered(
        "report.html.jinja",
        metrics,
        plots=plots,
        artifact=artifact,
        columns=columns,
        table=_table(metrics, columns),
        notes=_notes(metrics),
    )


def render_markdown(metrics: Metrics) -> str:
    """Return the short report, for a pull request."""
    columns = columns_with_values(metrics, _SHORT)
    table = [row for row in _table(metrics, columns) if row["name"] in _SHORT_ROWS]
    return _rendered("report.md.jinja", metrics, columns=columns, table=table)


def render_model_card(metrics: Metrics) -> str:
    """Return the model card with its results, as model hubs read it."""
    columns = columns_with_values(metrics, _SHORT)
    return _rendered(
        "model_card.md.jinja", metrics, columns=columns, table=_table(metrics, columns)
    )


def _rendered(template: str, metrics: Metrics, **values: Any) -> str:
    environment = _environment()
    shared = {
        "metrics": metrics,
        "headline": headline(metrics),
        "promise": promise_sentence(metrics["certificate"]),
        "certified": certificate_lines(metrics["certificate"]),
        "beside": beside_baselines(metrics),
    }
    return environment.get_template(template).render(**shared, **values)


def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape

    folder = files("querytier.eval.report") / "templates"
    environment = Environment(
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
    )
    environment.filters |= {"percent": percent, "share": _share, "number": _number, "line": _line}
    return environment


def _table(metrics: Metrics, columns: list[Column]) -> list[dict[str, Any]]:
    return [
        {"name": row["name"], "fitted_on": row["fitted_on"], "cells": table_cells(row, columns)}
        for row in metrics["rows"]
    ]


def _notes(metrics: Metrics) -> list[str]:
    """Return why columns of the classifier's row have no value."""
    row = metrics["rows"][0]
    reasons = {row[key].get("reason") for key in ("apgr", "auroc")} | set(row["reasons"].values())
    return sorted(reason for reason in reasons if reason)


def _share(value: float | None) -> str:
    """Return a share in per cent."""
    return "–" if value is None else f"{value:.1%}"


def _line(text: str) -> str:
    """Return text of a log on one line."""
    return " ".join(text.split())


def _number(estimate: Metrics) -> str:
    """Return an estimate with its interval."""
    if estimate["value"] is None:
        return "–"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
