"""What a run says in a terminal: the table, and decisions beside those of the keyword heuristic."""

from collections.abc import Mapping, Sequence
from typing import Any

from querytier.eval.heuristics import KEYWORD_THRESHOLD, keyword_score, keyword_tier
from querytier.eval.report import COLUMNS, table_cells
from querytier.serve import Router

__all__ = ["print_decisions", "print_table"]

_SHOWN = ("auroc", "apgr", "cpt50", "cpt80", "ece", "recall", "quality_retained", "cost_saved")
_NARROWEST = 120


def print_table(metrics: Mapping[str, Any]) -> None:
    """Print the rows of `metrics.json`, columns without any value left out."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = metrics["rows"]
    columns = [
        column
        for column in COLUMNS
        if column.key in _SHOWN and any(table_cells(row, [column])[0].text != "–" for row in rows)
    ]
    rate = metrics["operating_point"]["frontier_rate"]
    table = Table(
        title=f"{metrics['source']}: {metrics['n']['evaluated']} held-out rows, "
        f"all at frontier rate {rate:.1%}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("row", no_wrap=True)
    for column in columns:
        table.add_column(column.title, justify="right", min_width=9)
    for row in rows:
        cells = table_cells(row, columns)
        texts = [f"{cell.text}\n{cell.interval}".strip() for cell in cells]
        table.add_row(row["name"], *texts, style="bold" if row is rows[0] else None)
    Console(width=max(_NARROWEST, Console().width)).print(table)


def print_decisions(queries: Sequence[str], router: Router) -> None:
    """Print for each query what the keyword heuristic and the classifier decide."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Two decisions, heuristic beside classifier", title_justify="left")
    for title in ("query", "keyword heuristic", "classifier"):
        table.add_column(title)
    for query in queries:
        decision = router.decide(query)
        score = "no score" if decision.p_frontier is None else f"{decision.p_frontier:.3f}"
        table.add_row(
            query,
            f"{keyword_tier(query)}\nscore {keyword_score(query):.4f}, above {KEYWORD_THRESHOLD}?",
            f"{decision.tier}\np_frontier {score}, threshold {decision.threshold:.3f}",
        )
    Console(width=max(_NARROWEST, Console().width)).print(table)
