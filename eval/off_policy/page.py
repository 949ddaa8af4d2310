"""The page of an off-policy evaluation, its table and its overlap plot, from `off_policy.json`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from querytier.eval.intervals import Estimate
from querytier.eval.off_policy.overlap import Overlap, OverlapBins
from querytier.eval.report.figures import COLOURS, INK, new_figure, svg_element
from querytier.eval.report.pages import render

__all__ = ["PolicyRow", "headline", "overlap_plot", "overlap_text", "policy_rows", "render_page"]

Record = Mapping[str, Any]

_ESTIMATORS = {"doubly_robust": "doubly robust", "snips": "SNIPS", "ips": "IPS"}
_QUERIES = 1000
# The cost of a single query has too many zeros to be readable.
_UNITS = {"outcome": (1, ".3f"), "cost": (_QUERIES, "#.3g")}
_CHEAP, _FRONTIER, _MISSING = INK, COLOURS["classifier"], COLOURS["keyword_heuristic"]


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A policy's line of the tables, as text.

    Attributes
    ----------
    name, frontier_rate : str
    cells : mapping of str to tuple of str
        For "outcome", and for "cost" if the log has costs: the doubly robust estimate, SNIPS, IPS,
        and the artifact's value minus this policy's. The logging router has a mean instead of three
        estimates, in the first cell.
    effective_groups, largest_weight : str
    reason : str or None
        Why the log cannot evaluate this policy.
    """

    name: str
    frontier_rate: str
    cells: Mapping[str, tuple[str, ...]]
    effective_groups: str
    largest_weight: str
    reason: str | None


def policy_rows(record: Record) -> list[PolicyRow]:
    """Return the table of `off_policy.json`: the logging router, then the policies."""
    logging, estimator, ours = record["logging"], _estimator(record), record["rows"][0]
    columns = _columns(record)
    first = {
        name: (_text(logging[name], name), "", "", _text(ours[name]["lead"][estimator], name))
        for name in columns
    }
    groups = _number(record["n"]["evaluated_groups"], ".0f")
    rate = f"{logging['frontier_rate']:.1%}"
    rows = [PolicyRow("logging router", rate, first, groups, "1.0", None)]
    for row in record["rows"]:
        leads = {name: row["behind_artifact"][name][estimator] for name in columns}
        cells = {
            name: (
                *(_text(row[name][one], name) for one in _ESTIMATORS),
                "" if row is ours else _text(leads[name], name),
            )
            for name in columns
        }
        overlap = row["overlap"]
        effective, largest = overlap["effective_groups"], overlap["largest_weight"]
        rows.append(
            PolicyRow(
                row["name"],
                f"{overlap['new_frontier_rate']:.1%}",
                cells,
                _number(effective, ".0f"),
                _number(largest, ".1f"),
                overlap["reason"],
            )
        )
    return rows


def headline(record: Record) -> str:
    """Return the result for the artifact in one or two sentences."""
    if record["cannot_claim"] is not None:
        return f"This log cannot evaluate the artifact: {record['cannot_claim']}."
    queries = f"On these {record['n']['evaluated']:,} logged queries"
    outcome = f"{queries} the artifact's mean outcome would be {_in_words(record, 'outcome')}"
    if "cost" not in _columns(record):
        return f"{outcome}. Its cost is unknown: {record['logging']['cost']['reason']}."
    return f"{outcome}. Its cost of {_QUERIES:,} queries would be {_in_words(record, 'cost')}."


def render_page(record: Record, plot: str | None) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    record : mapping
        The content of `off_policy.json`.
    plot : str or None
        The overlap plot, an `<svg>` element; None if propensities are missing.
    """
    return render(
        "off_policy.html.jinja",
        record=record,
        plot=plot,
        headline=headline(record),
        table=policy_rows(record),
        estimators=list(_ESTIMATORS.values()),
        estimator=_ESTIMATORS[_estimator(record)],
        has_cost="cost" in _columns(record),
        notes=sorted(set(_notes(record))),
    )


def overlap_plot(overlap: Overlap, bins: OverlapBins) -> str:
    """Draw the new policy's decisions over the logging policy's frontier probability.

    Frontier decisions are above the line, cheap ones below. Decisions that the logging policy could
    not make are drawn in red at its edge.

    Parameters
    ----------
    overlap : Overlap
    bins : OverlapBins
        Bins of the same log and policy.

    Returns
    -------
    str
        An `<svg>` element whose text alternative is `overlap_text`.
    """
    figure, axes = new_figure(6.4, 3.4)
    width = bins.edges[1] - bins.edges[0]
    frontier, cheap = bins.frontier.copy(), bins.cheap.copy()
    frontier[0] -= bins.frontier_without
    cheap[-1] -= bins.cheap_without
    style = dict(align="edge", width=width * 0.92, lw=0)
    axes.bar(bins.edges[:-1], frontier, color=_FRONTIER, label="new policy: frontier", **style)
    axes.bar(bins.edges[:-1], -cheap, color=_CHEAP, label="new policy: cheap", **style)
    if bins.frontier_without or bins.cheap_without:
        lost = [bins.frontier_without, -bins.cheap_without]
        starts, bottoms = [bins.edges[0], bins.edges[-2]], [frontier[0], -cheap[-1]]
        axes.bar(starts, lost, bottom=bottoms, color=_MISSING, label="without overlap", **style)
    axes.axhline(0, color=INK, lw=0.8)
    axes.set_xlim(-0.01, 1.01)
    axes.yaxis.set_major_formatter(lambda share, _: f"{abs(share):.0%}")
    axes.set_xlabel("probability of the frontier tier when the log was written")
    axes.set_ylabel("share of the rows")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return svg_element(figure, overlap_text(overlap))


def overlap_text(overlap: Overlap) -> str:
    """Return the content of the plot in words, for readers who cannot see it."""
    text = (
        "New policy's decisions by the logging policy's frontier probability: "
        f"{overlap.new_frontier_rate:.0%} frontier, {1 - overlap.new_frontier_rate:.0%} cheap"
    )
    if overlap.without_overlap is None or overlap.effective_groups is None:
        return f"{text}; overlap unknown"
    return (
        f"{text}; {overlap.without_overlap:.1%} without overlap; effective sample size "
        f"{overlap.effective_groups:.0f} of {overlap.groups} groups, largest weight "
        f"{overlap.largest_weight:.1f}"
    )


def _estimator(record: Record) -> str:
    """Return the estimator of the headline: doubly robust, or SNIPS if only SNIPS has a value."""
    outcome = record["rows"][0]["outcome"]
    only_snips = outcome["doubly_robust"]["value"] is None and outcome["snips"]["value"] is not None
    return "snips" if only_snips else "doubly_robust"


def _columns(record: Record) -> tuple[str, ...]:
    return ("outcome", "cost") if record["logging"]["cost"]["value"] is not None else ("outcome",)


def _text(content: Record, column: str) -> str:
    """Return an estimate with its interval as text, in the unit of its column.

    Examples
    --------
    >>> _text({"value": -7e-18, "low": -0.0002, "high": 0.0003}, "cost")
    '0.00 (-0.200 to 0.300)'
    """
    factor, spec = _UNITS[column]
    estimate = Estimate.from_dict(content).scaled(factor)
    # Equal estimates of two policies may differ in the last digit: 0, not -7.37e-15.
    value = round(estimate.value or 0.0, 9)
    if estimate.value is not None:
        estimate = replace(estimate, value=value)
    return estimate.text(_spec(value, spec))


def _number(value: float | None, spec: str) -> str:
    """Return a number as text.

    Examples
    --------
    >>> _number(None, ".1f"), _number(1234567.0, "#.3g"), _number(1.0, "#.3g")
    ('n/a', '1,234,567', '1.00')
    """
    return "n/a" if value is None else format(value, _spec(value, spec))


def _spec(value: float, spec: str) -> str:
    """Return the format of a number, without decimals from 100 on."""
    return ",.0f" if abs(value) >= 100 else spec


def _in_words(record: Record, column: str) -> str:
    """Return the artifact's value, the logging router's, and their difference."""
    valuation, (factor, spec) = record["rows"][0][column], _UNITS[column]
    estimator = _estimator(record)
    lead = valuation["lead"][estimator]
    logged = _number(factor * valuation["logged"]["value"], spec)
    chance = ", which may be chance" if lead["low"] <= 0 <= lead["high"] else ""
    return (
        f"{_text(valuation[estimator], column)}; the logging router's was {logged}, a difference "
        f"of {_text(lead, column)}{chance}"
    )


def _notes(record: Record) -> Iterator[str]:
    """Yield why an estimator has no value for a policy that the log can evaluate."""
    for row in record["rows"]:
        if row["overlap"]["reason"] is None:
            for column in ("outcome", "cost"):
                reasons = {row[column][name].get("reason") for name in _ESTIMATORS}
                yield from (f"{column}: {reason}" for reason in reasons if reason)
