"""The page on off-policy evaluation: self-contained HTML from `off_policy.json` and one picture."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from querytier.eval.intervals import Estimate
from querytier.eval.report.pages import render

__all__ = ["PolicyCells", "PolicyRow", "headline", "policy_rows", "render_page"]

Record = Mapping[str, Any]

_COLUMNS = (
    ("doubly_robust", "doubly robust"),
    ("snips", "SNIPS"),
    ("ips", "IPS"),
)
_QUERIES = 1000


@dataclass(frozen=True, slots=True)
class PolicyCells:
    """A policy's mean outcome or cost.

    Attributes
    ----------
    estimates : tuple of str
        Doubly robust, SNIPS, IPS; of the logging router its mean alone.
    lead : str
        The artifact's value minus this policy's.
    """

    estimates: tuple[str, ...]
    lead: str


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A policy's line of the tables.

    Attributes
    ----------
    name, frontier_rate : str
    outcome : PolicyCells
    cost : PolicyCells or None
        None where the log has no costs.
    effective_groups, largest_weight : str
    reason : str or None
        Why the log can claim nothing about the policy.
    """

    name: str
    frontier_rate: str
    outcome: PolicyCells
    cost: PolicyCells | None
    effective_groups: str
    largest_weight: str
    reason: str | None


def policy_rows(record: Record) -> list[PolicyRow]:
    """Return the table of `off_policy.json`: the logging router, then the policies."""
    return [_logging_row(record), *(_row(row, record) for row in record["rows"])]


def headline(record: Record) -> str:
    """Return what the log says of the artifact, for whoever reads nothing else."""
    if record["cannot_claim"] is not None:
        return f"This log cannot say what the artifact would have got: {record['cannot_claim']}."
    rows = f"{record['n']['evaluated']:,}"
    outcome = _in_words(record, "outcome", 1, ".3f")
    quality = f"On these {rows} logged queries the artifact's mean outcome would be {outcome}"
    if not _has_cost(record):
        unknown = record["logging"]["cost"]["reason"]
        return f"{quality}. What it would have cost is not known: {unknown}."
    cost = _in_words(record, "cost", _QUERIES, "#.3g")
    return f"{quality}. Its cost of {_QUERIES:,} queries would be {cost}."


def render_page(record: Record, plot: str | None) -> str:
    """Return the page as HTML that fetches nothing.

    Parameters
    ----------
    record : mapping
        The content of `off_policy.json`.
    plot : str or None
        The overlap plot, an `<svg>` element; None where propensities are missing.
    """
    return render(
        "off_policy.html.jinja",
        record=record,
        plot=plot,
        headline=headline(record),
        table=policy_rows(record),
        columns=[title for _, title in _COLUMNS],
        estimator=dict(_COLUMNS)[_estimator(record)],
        has_cost=_has_cost(record),
        notes=sorted(set(_notes(record))),
    )


def _estimator(record: Record) -> str:
    """Return the estimator that is spoken of: the doubly robust one, or SNIPS where it has none."""
    found = record["rows"][0]["outcome"]
    only_snips = found["doubly_robust"]["value"] is None and found["snips"]["value"] is not None
    return "snips" if only_snips else "doubly_robust"


def _has_cost(record: Record) -> bool:
    return record["logging"]["cost"]["value"] is not None


def _logging_row(record: Record) -> PolicyRow:
    logging, ours = record["logging"], record["rows"][0]

    def cells(column: str) -> PolicyCells:
        cell, lead = _CELLS[column], ours[column]["lead"][_estimator(record)]
        return PolicyCells((cell(logging[column]),), cell(lead))

    return PolicyRow(
        "logging router",
        f"{logging['frontier_rate']:.1%}",
        cells("outcome"),
        cells("cost") if _has_cost(record) else None,
        _number(record["n"]["evaluated_groups"], "{:.0f}"),
        "1.0",
        None,
    )


def _row(row: Record, record: Record) -> PolicyRow:
    overlap, ours = row["overlap"], row is record["rows"][0]

    def cells(column: str) -> PolicyCells:
        cell, lead = _CELLS[column], row["behind_artifact"][column][_estimator(record)]
        estimates = tuple(cell(row[column][name]) for name, _ in _COLUMNS)
        return PolicyCells(estimates, "" if ours else cell(lead))

    return PolicyRow(
        row["name"],
        f"{overlap['new_frontier_rate']:.1%}",
        cells("outcome"),
        cells("cost") if _has_cost(record) else None,
        _number(overlap["effective_groups"], "{:.0f}"),
        _number(overlap["largest_weight"], "{:.1f}"),
        overlap["reason"],
    )


def _outcome(estimate: Record) -> str:
    return _estimate_text(estimate, 1, ".3f")


def _cost(estimate: Record) -> str:
    return _estimate_text(estimate, _QUERIES, "#.3g")


_CELLS = {"outcome": _outcome, "cost": _cost}


def _estimate_text(content: Record, factor: float, spec: str) -> str:
    """Write an estimate; a value from 100 on, and its interval, without decimals."""
    estimate = Estimate.from_dict(content).scaled(factor)
    return estimate.text(",.0f" if abs(estimate.value or 0.0) >= 100 else spec)


def _number(value: float | None, form: str) -> str:
    """Write a number; from 100 on without decimals.

    Examples
    --------
    >>> _number(None, "{:.1f}"), _number(1234567.0, "{:#.3g}"), _number(1.0, "{:#.3g}")
    ('n/a', '1,234,567', '1.00')
    """
    if value is None:
        return "n/a"
    return f"{value:,.0f}" if abs(value) >= 100 else form.format(value)


def _in_words(record: Record, column: str, factor: float, spec: str) -> str:
    """Say the artifact's value, the logging router's, and the difference."""
    found, estimator = record["rows"][0][column], _estimator(record)
    value, lead = found[estimator], found["lead"][estimator]
    logged = _number(factor * found["logged"]["value"], f"{{:{spec}}}")
    chance = ", which may be chance" if lead["low"] <= 0 <= lead["high"] else ""
    return (
        f"{_estimate_text(value, factor, spec)}; the logging router's was {logged}, a difference "
        f"of {_estimate_text(lead, factor, spec)}{chance}"
    )


def _notes(record: Record) -> Iterator[str]:
    """Yield why single estimates have no value where others have."""
    for row in record["rows"]:
        if row["overlap"]["reason"] is None:
            for column in ("outcome", "cost"):
                reasons = {row[column][name].get("reason") for name, _ in _COLUMNS}
                yield from (f"{column}: {reason}" for reason in reasons if reason)
