"""The page of `make bench-quality`: a summary, then one table per set."""

import os
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from real_runs import markdown_table

from querytier.eval.report.table import table_cells

__all__ = ["Measured", "Yardstick", "results_page"]

KEYS = (
    "apgr",
    "apgr_lead",
    "cpt50",
    "cpt80",
    "auroc",
    "lead",
    "average_precision",
    "brier",
    "ece",
)
SUMMARY = (
    "set",
    "published best",
    "domain prior",
    "TF-IDF",
    "classifier: APGR",
    "lead over the domain prior",
    "to reach",
    "ECE against its calibrated 95% level",
)
PREFACE = """## Quality on real outcomes

Written by `QUERYTIER_OUTCOMES=../shared/data make bench-quality` on {date}, {cores} cores,
Python {python}, in {minutes:.0f} minutes; budget {budget}.

Each row is scored by a classifier that has not seen its outcome: selection, fit and calibration are
repeated without each outer fold. Under cross-validation the features are fitted to the queries of
all rows, without labels. The label is needs_frontier; rows are ranked by the decision score within
their outer fold, because classifiers of different folds have different scales. In brackets the 95%
interval, bootstrap over groups; a lead is the classifier's value minus the row's, paired. AP is the
average precision.
"""
NOTES = """
APGR is 0.5 for random routing. "Published best" is the best router of Ong et al. 2024 (RouteLLM,
arXiv:2406.18665), which was trained on other data. A target is reached if the value reaches it,
whatever its interval. An ECE is within its level if a perfectly calibrated model with the same
probabilities shows as much in at least 5% of draws. If the training rows do not contain the domains
of the held-out rows, the prior is a constant.
"""


@dataclass(frozen=True)
class Yardstick:
    """A set's description and targets.

    Attributes
    ----------
    title, protocol, scores : str
        `scores` describes the scores if they are not plain grades.
    domains_known : bool
        Whether the domains of held-out rows are in the training rows.
    published : float or None
        The best APGR of Ong et al. 2024 (RouteLLM).
    to_reach : float or None
        Target APGR.
    """

    title: str
    protocol: str
    domains_known: bool = False
    published: float | None = None
    to_reach: float | None = None
    scores: str = ""


@dataclass(frozen=True)
class Measured:
    """The results on a set.

    Attributes
    ----------
    rows, groups : int
    needs_frontier : float
        Mean label.
    metrics : dict
        `rows` and `mean_scores`, as in `metrics.json`.
    chosen : Counter of str
        Number of outer folds that chose each recipe.
    ece_when_calibrated, seconds : float
    """

    rows: int
    groups: int
    needs_frontier: float
    metrics: dict[str, Any]
    chosen: Counter[str]
    ece_when_calibrated: float
    seconds: float

    def row(self, name: str) -> dict[str, Any]:
        """Return the row of that name."""
        row: dict[str, Any] = next(row for row in self.metrics["rows"] if row["name"] == name)
        return row


def results_page(
    measured: Mapping[str, tuple[Yardstick, Measured]], budget: str, seconds: float
) -> str:
    """Return the section of RESULTS.md."""
    preface = PREFACE.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        cores=os.cpu_count(),
        python=platform.python_version(),
        minutes=seconds / 60,
        budget=budget,
    )
    lines = [f"| {' | '.join(SUMMARY)} |", f"|{'---|' * len(SUMMARY)}"]
    lines += [f"| {' | '.join(summary_cells(*one))} |" for one in measured.values()]
    parts = [
        f"### {name}: {yardstick.title}\n\n{facts(yardstick, found)}\n"
        f"{markdown_table(found.metrics, KEYS)}"
        for name, (yardstick, found) in measured.items()
    ]
    return "\n".join([preface, *lines, NOTES, *parts])


def summary_cells(yardstick: Yardstick, found: Measured) -> list[str]:
    """Return the set's row of the summary."""
    classifier = found.row("classifier")
    prior = found.row("domain_prior" if yardstick.domains_known else "constant")
    return [
        yardstick.title,
        "n/a" if yardstick.published is None else f"{yardstick.published:.3f}",
        shown(prior, "apgr") + ("" if yardstick.domains_known else ", constant"),
        shown(found.row("tfidf_lr"), "apgr"),
        shown(classifier, "apgr"),
        shown(prior, "apgr_lead"),
        verdict(classifier["apgr"]["value"], yardstick.to_reach),
        calibration(found),
    ]


def shown(row: dict[str, Any], key: str) -> str:
    """Return a value with its interval."""
    return table_cells(row, [key])[0]


def verdict(value: float | None, to_reach: float | None) -> str:
    """Return the target, and whether it is reached."""
    if to_reach is None or value is None:
        return "n/a" if to_reach is None else f"{to_reach:.2f}: unknown"
    return f"{to_reach:.2f}: {'reached' if value >= to_reach else 'not reached'}"


def calibration(found: Measured) -> str:
    """Return the classifier's ECE and the level of a perfectly calibrated one."""
    ece = found.row("classifier")["ece"]
    within = "within" if ece <= found.ece_when_calibrated else "above"
    return f"{ece:.3f}, {within} {found.ece_when_calibrated:.3f}"


def facts(yardstick: Yardstick, found: Measured) -> str:
    """Return the lines above a set's table."""
    chosen = [f"{count} × {name}" for name, count in found.chosen.most_common()]
    means = [f"{name} {one['value']:.3f}" for name, one in found.metrics["mean_scores"].items()]
    reason = found.row("classifier")["apgr"].get("reason")
    lines = {
        "protocol": yardstick.protocol,
        "rows": f"{found.rows:,} in {found.groups:,} groups; "
        f"needs_frontier {found.needs_frontier:.1%}",
        "scores": yardstick.scores,
        "mean score": ", ".join(means),
        "no APGR": reason,
        "chosen by outer fold": ", ".join(chosen),
        "ECE against its calibrated 95% level": calibration(found),
        "minutes": f"{found.seconds / 60:.1f}",
    }
    return "".join(f"- {name}: {text}\n" for name, text in lines.items() if text)
