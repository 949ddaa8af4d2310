"""The report: one self-contained HTML page from `metrics.json` and three pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

__all__ = ["COLUMNS", "Column", "headline", "render_report", "table_cells"]

Metrics = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table.

    Attributes
    ----------
    key : str
        In a row of `metrics.json`.
    title : str
    """

    key: str
    title: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A value as text, and its interval or nothing."""

    text: str
    interval: str


COLUMNS = (
    Column("auroc", "AUROC"),
    Column("lead", "AUROC lead"),
    Column("average_precision", "AP"),
    Column("apgr", "APGR"),
    Column("apgr_lead", "APGR lead"),
    Column("cpt50", "CPT(50%)"),
    Column("cpt80", "CPT(80%)"),
    Column("brier", "Brier"),
    Column("ece", "ECE"),
    Column("recall", "recall"),
    Column("quality_retained", "quality retained"),
    Column("cost_saved", "cost saved"),
)
_LEADS = {"lead": "auroc", "apgr_lead": "apgr"}


def table_cells(row: Metrics, columns: Sequence[Column] = COLUMNS) -> list[Cell]:
    """Return the cells of a row of `metrics.json`.

    Examples
    --------
    >>> row = {"auroc": {"value": 0.7, "low": 0.65, "high": 0.75}}
    >>> table_cells(row, [Column("auroc", "AUROC")])
    [Cell(text='0.700', interval='0.65–0.75')]
    """
    return [_cell(_estimate(row, column.key)) for column in columns]


def headline(metrics: Metrics) -> str:
    """Return the report in one paragraph, for whoever reads nothing else."""
    classifier = metrics["rows"][0]
    rate = metrics["operating_point"]["frontier_rate"]
    cheap = f"The classifier sends {1 - rate:.0%} of the queries to the cheap model"
    if classifier["recall"] is None:
        return f"{cheap}. None of these rows needs the frontier model: there was nothing to catch."
    caught = (
        f"catches {classifier['recall']:.0%} {_interval(_estimate(classifier, 'recall'), 0)} "
        f"of what needs the frontier model, where a coin at the same rate would catch {rate:.0%}"
    )
    if not metrics["mean_scores"]:
        return (
            f"{cheap} and {caught}. The log has labels but no scores of answers: what that does to "
            "quality and cost is not known."
        )
    keyword = next(row for row in metrics["rows"] if row["name"] == "keyword_heuristic")
    kept = (
        f"keeps {_percent(classifier, 'quality_retained')} of always-frontier's quality "
        f"({_percent(keyword, 'quality_retained')} with the keyword heuristic at the same rate)"
    )
    saved = classifier["cost_saved"]
    money = (
        f"It saves {_percent(classifier, 'cost_saved')} of always-frontier's cost."
        if saved is not None
        else "What it saves in money is not known: the log has no costs."
    )
    return f"{cheap}, {kept}, and {caught}. {money}"


def render_report(metrics: Metrics, plots: Mapping[str, str], artifact: str) -> str:
    """Return the report as HTML that fetches nothing.

    Parameters
    ----------
    metrics : mapping
        The content of `metrics.json`.
    plots : mapping of str to str
        `<svg>` elements: gain, reliability, scores.
    artifact : str
        The artifact's folder, for the deploy line.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(
        files("querytier.eval").joinpath("report.html.jinja").read_text("utf-8")
    )
    columns = [column for column in COLUMNS if _has_value(metrics, column)]
    length = next(row for row in metrics["rows"] if row["name"] == "length")
    return template.render(
        metrics=metrics,
        plots=plots,
        artifact=artifact,
        headline=headline(metrics),
        columns=columns,
        table=[
            {
                "name": row["name"],
                "fitted_on": row["fitted_on"],
                "cells": table_cells(row, columns),
            }
            for row in metrics["rows"]
        ],
        notes=_notes(metrics),
        length_auroc=length["auroc"]["value"],
        percent=_percent_of,
    )


def _has_value(metrics: Metrics, column: Column) -> bool:
    return any(_estimate(row, column.key)["value"] is not None for row in metrics["rows"])


def _notes(metrics: Metrics) -> list[str]:
    """Return why columns of the classifier's row have no value."""
    row = metrics["rows"][0]
    reasons = {row[key].get("reason") for key in ("apgr", "auroc")} | set(row["reasons"].values())
    return sorted(reason for reason in reasons if reason)


def _estimate(row: Metrics, key: str) -> Metrics:
    if key in _LEADS:
        lead: Metrics = row["behind_classifier"].get(_LEADS[key], {"value": None})
        return lead
    value = row.get(key)
    return value if isinstance(value, Mapping) else {"value": value, **row["intervals"][key]}


def _cell(estimate: Metrics) -> Cell:
    if estimate["value"] is None:
        return Cell("–", "")
    dash = "–" if estimate["low"] >= 0 else " to "
    interval = f"{estimate['low']:.2f}{dash}{estimate['high']:.2f}"
    return Cell(f"{estimate['value']:.3f}", interval)


def _percent(row: Metrics, key: str) -> str:
    if row[key] is None:
        return "an unknown share"
    return f"{row[key]:.1%} {_interval(_estimate(row, key), 1)}"


def _percent_of(estimate: Metrics) -> str:
    if estimate["value"] is None:
        return "–"
    return f"{estimate['value']:.1%} {_interval(estimate, 1)}"


def _interval(estimate: Metrics, digits: int) -> str:
    return f"({100 * estimate['low']:.{digits}f} to {100 * estimate['high']:.{digits}f})"
