"""The rows of `metrics.json` as cells of a table, and in words."""

from collections.abc import Iterable, Mapping
from typing import Any

from querytier.eval.intervals import Estimate, undefined

__all__ = [
    "COLUMNS",
    "columns_with_values",
    "compared_with_baselines",
    "headline",
    "row_estimate",
    "table_cells",
]

Metrics = Mapping[str, Any]

# Keys of a row of `metrics.json`, and the titles of their columns.
COLUMNS = {
    "auroc": "AUROC",
    "lead": "AUROC lead",
    "average_precision": "AP",
    "apgr": "APGR",
    "apgr_lead": "APGR lead",
    "cpt50": "CPT(50%)",
    "cpt80": "CPT(80%)",
    "brier": "Brier",
    "ece": "ECE",
    "recall": "recall",
    "quality_retained": "quality retained",
    "cost_saved": "cost saved",
}
_LEARNED = ("tfidf_lr", "knn", "domain_prior")
_LEADS = {"lead": "auroc", "apgr_lead": "apgr"}


def table_cells(row: Metrics, keys: Iterable[str] = COLUMNS) -> list[str]:
    """Return the cells of a row of `metrics.json`: values with intervals, or `n/a`.

    Examples
    --------
    >>> table_cells({"auroc": {"value": 0.7, "low": 0.65, "high": 0.75}}, ["auroc"])
    ['0.700 (0.650 to 0.750)']
    """
    return [row_estimate(row, key).text() for key in keys]


def columns_with_values(metrics: Metrics, keys: Iterable[str] = COLUMNS) -> list[str]:
    """Return the keys of the columns in which any row has a value."""
    return [
        key
        for key in keys
        if any(row_estimate(row, key).value is not None for row in metrics["rows"])
    ]


def row_estimate(row: Metrics, key: str) -> Estimate:
    """Return the value of a row in a column, with its interval."""
    if key in _LEADS:
        lead = row["behind_classifier"].get(_LEADS[key])
        return Estimate.from_dict(lead) if lead else undefined("the classifier itself")
    value = row.get(key)
    if isinstance(value, Mapping):
        return Estimate.from_dict(value)
    return Estimate.from_dict({"value": value, **row["intervals"][key]})


def headline(metrics: Metrics) -> str:
    """Return the report in one paragraph, for readers who read nothing else."""
    classifier = metrics["rows"][0]
    rate = metrics["operating_point"]["frontier_rate"]
    cheap = f"The classifier sends {1 - rate:.0%} of the queries to the cheap model"
    if classifier["recall"] is None:
        return f"{cheap}. None of these rows needs the frontier model: there is nothing to catch."
    caught = (
        f"catches {row_estimate(classifier, 'recall').text('.0%')} of what needs the frontier "
        f"model, against {rate:.0%} by a coin at that rate"
    )
    if not metrics["mean_scores"]:
        return (
            f"{cheap} and {caught}. The log has labels but no scores of answers, so the effect on "
            "quality and cost is not known."
        )
    # Without a gap, shares of the frontier's quality mislead: the cheap model alone may be better.
    if classifier["apgr"]["value"] is None:
        return f"{_no_gap(metrics)} {cheap} and {caught}. {_saving(metrics)}"
    keyword = next(row for row in metrics["rows"] if row["name"] == "keyword_heuristic")
    kept = (
        f"keeps {_quality(classifier)} of always-frontier's quality, against {_quality(keyword)} "
        "with the keyword heuristic at the same rate"
    )
    return f"{cheap}, {kept}, and {caught}. {_saving(metrics)}"


def compared_with_baselines(metrics: Metrics) -> str:
    """Say which learned baselines the classifier is and is not shown to be better than."""
    metric = "apgr" if metrics["rows"][0]["apgr"]["value"] is not None else "auroc"
    learned = [row for row in metrics["rows"] if row["name"] in _LEARNED]
    leads = {row["name"]: row["behind_classifier"].get(metric) for row in learned}
    # The interval of the lead, not two overlapping intervals: the lead is paired.
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
        "of its lead contains 0."
    )


def _no_gap(metrics: Metrics) -> str:
    """Say what to do if the frontier model is not shown to be the better one."""
    means = {name: estimate["value"] for name, estimate in metrics["mean_scores"].items()}
    better = (
        "worse" if means["always_frontier"] < means["always_cheap"] else "not shown to be better"
    )
    return (
        f"On these rows the frontier model is {better}: the mean score is "
        f"{means['always_cheap']:.3f} with the cheap model alone, {means['always_frontier']:.3f} "
        f"with the frontier model alone and {means['as_routed']:.3f} as routed. There is no gap "
        "to recover; check first whether everything can go to the cheap model."
    )


def _saving(metrics: Metrics) -> str:
    row, costs = metrics["rows"][0], metrics["mean_costs"]
    if row["cost_saved"] is None or not costs:
        return "The saving is not known: the log has no costs."
    routed, frontier = (1000 * costs[name]["value"] for name in ("as_routed", "always_frontier"))
    money = metrics["prices"]["currency"] if metrics["prices"] else "in the log's currency"
    spent = f"a thousand queries cost {routed:.3g} instead of {frontier:.3g} {money}"
    saved = row_estimate(row, "cost_saved")
    if row["cost_saved"] < 0:
        return f"It costs {saved.scaled(-1).text('.1%')} more than always-frontier: {spent}."
    return f"It saves {saved.text('.1%')} of always-frontier's cost: {spent}."


def _quality(row: Metrics) -> str:
    retained = row_estimate(row, "quality_retained")
    return "an unknown share" if retained.value is None else retained.text(".1%")
