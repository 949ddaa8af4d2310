"""The rows of `metrics.json` as cells of a table, and as words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from querytier.eval.intervals import Estimate, undefined

__all__ = [
    "COLUMNS",
    "Column",
    "beside_baselines",
    "columns_with_values",
    "headline",
    "row_estimate",
    "table_cells",
]

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
_LEARNED = ("tfidf_lr", "knn", "domain_prior")
_LEADS = {"lead": "auroc", "apgr_lead": "apgr"}


def table_cells(row: Metrics, columns: Sequence[Column] = COLUMNS) -> list[str]:
    """Return the cells of a row of `metrics.json`: values with intervals, `n/a` without a value.

    Examples
    --------
    >>> row = {"auroc": {"value": 0.7, "low": 0.65, "high": 0.75}}
    >>> table_cells(row, [Column("auroc", "AUROC")])
    ['0.700 (0.650 to 0.750)']
    """
    return [row_estimate(row, column.key).text() for column in columns]


def headline(metrics: Metrics) -> str:
    """Return the report in one paragraph, for whoever reads nothing else."""
    classifier = metrics["rows"][0]
    rate = metrics["operating_point"]["frontier_rate"]
    cheap = f"The classifier sends {1 - rate:.0%} of the queries to the cheap model"
    if classifier["recall"] is None:
        return f"{cheap}. None of these rows needs the frontier model: there was nothing to catch."
    caught = (
        f"catches {row_estimate(classifier, 'recall').text('.0%')} of what needs the frontier "
        f"model (a coin at the same rate catches {rate:.0%})"
    )
    if not metrics["mean_scores"]:
        return (
            f"{cheap} and {caught}. The log has labels but no scores of answers: what that does to "
            "quality and cost is not known."
        )
    if classifier["apgr"]["value"] is None:
        return f"{_no_gap(metrics)} {cheap} and {caught}. {_saving(metrics)}"
    keyword = next(row for row in metrics["rows"] if row["name"] == "keyword_heuristic")
    kept = (
        f"keeps {_percent(classifier, 'quality_retained')} of always-frontier's quality "
        f"({_percent(keyword, 'quality_retained')} with the keyword heuristic at the same rate)"
    )
    return f"{cheap}, {kept}, and {caught}. {_saving(metrics)}"


def _no_gap(metrics: Metrics) -> str:
    """Say what to do where the frontier model is not shown to be the better one."""
    means = {name: estimate["value"] for name, estimate in metrics["mean_scores"].items()}
    better = (
        "worse" if means["always_frontier"] < means["always_cheap"] else "not shown to be better"
    )
    return (
        f"On these rows the frontier model is {better}: the mean score is "
        f"{means['always_cheap']:.3f} with the cheap model alone, {means['always_frontier']:.3f} "
        f"with the frontier model alone and {means['as_routed']:.3f} as routed. There is no gap "
        "to recover; look first whether everything can go to the cheap model."
    )


def _saving(metrics: Metrics) -> str:
    row, costs = metrics["rows"][0], metrics["mean_costs"]
    if row["cost_saved"] is None or not costs:
        return "What it saves in money is not known: the log has no costs."
    routed, frontier = (1000 * costs[name]["value"] for name in ("as_routed", "always_frontier"))
    money = metrics["prices"]["currency"] if metrics["prices"] else "in the log's currency"
    spent = f"a thousand queries cost {routed:.3g} instead of {frontier:.3g} {money}"
    saved = row_estimate(row, "cost_saved")
    if row["cost_saved"] < 0:
        return f"It costs {saved.scaled(-1).text('.1%')} more than always-frontier: {spent}."
    return f"It saves {saved.text('.1%')} of always-frontier's cost: {spent}."


def beside_baselines(metrics: Metrics) -> str:
    """Say which of the learned baselines the classifier is not shown to be better than."""
    metric = "apgr" if metrics["rows"][0]["apgr"]["value"] is not None else "auroc"
    learned = [row for row in metrics["rows"] if row["name"] in _LEARNED]
    leads = {row["name"]: row["behind_classifier"].get(metric) for row in learned}
    level = [
        name
        for name, lead in leads.items()
        if lead and lead["value"] is not None and lead["low"] <= 0
    ]
    if not leads:
        return ""
    if not level:
        return f"By {metric.upper()} it is better than {', '.join(leads)}, beyond chance."
    return (
        f"By {metric.upper()} it is not shown to be better than {', '.join(level)}: the interval "
        "of its lead holds 0."
    )


def columns_with_values(metrics: Metrics, columns: Sequence[Column] = COLUMNS) -> list[Column]:
    """Return the columns in which any row has a value."""
    return [
        column
        for column in columns
        if any(row_estimate(row, column.key).value is not None for row in metrics["rows"])
    ]


def row_estimate(row: Metrics, key: str) -> Estimate:
    """Return a row's value of a column with its interval."""
    if key in _LEADS:
        lead = row["behind_classifier"].get(_LEADS[key])
        return Estimate.from_dict(lead) if lead else undefined("the classifier itself")
    value = row.get(key)
    if isinstance(value, Mapping):
        return Estimate.from_dict(value)
    return Estimate.from_dict({"value": value, **row["intervals"][key]})


def _percent(row: Metrics, key: str) -> str:
    return "an unknown share" if row[key] is None else row_estimate(row, key).text(".1%")
