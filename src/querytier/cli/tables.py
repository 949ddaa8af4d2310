"""What a run says in a terminal: the table, and decisions beside those of the keyword heuristic."""

from collections.abc import Mapping, Sequence
from typing import Any

from querytier.cli.log_options import say
from querytier.data.formats.recognise import Format
from querytier.data.ingest.data_summary import FEWEST_ROWS, DataSummary, OneSided
from querytier.data.ingest.inspecting import Inspection
from querytier.data.ingest.log_batches import counts_text
from querytier.eval.rankings import KEYWORD_THRESHOLD, keyword_score, keyword_tier
from querytier.eval.report.table import COLUMNS, columns_with_values, table_cells
from querytier.serve import Router

__all__ = ["print_data", "print_decisions", "print_inspection", "print_table"]

_SHOWN = ("auroc", "apgr", "cpt50", "recall", "quality_retained", "cost_saved")
_NARROWEST = 130
_STRATA = ("needs_frontier", "cheap_ok", "frontier_ok", "both_fail", "cheap_wins")


def print_data(data: DataSummary) -> None:
    """Print what became of logs."""
    lines = [
        f"{data.source}: {data.usable} usable of {data.rows} rows ({_in_order(data.splits)})",
        _titled_shares("shares", data.shares),
        _titled("labels by", data.label_sources),
        _titled_shares("needs_frontier by split", data.needs_frontier),
        _titled("without a label, in unlabelled.parquet", data.unlabelled),
        *_one_sided(data.one_sided),
        _titled("redacted", data.redacted),
        _titled("passed over", data.passed_over),
        _titled("in quarantine.jsonl", data.quarantined),
    ]
    if data.near_duplicates is None:
        lines.append("near duplicates were not searched: more rows than near_duplicate_rows")
    elif data.near_duplicates:
        lines.append(f"{data.near_duplicates} links between near duplicates joined their groups")
    for line in filter(None, lines):
        say(line)


def _one_sided(answered: OneSided) -> list[str]:
    """Say what is known of answers by one tier, and what off-policy evaluation would miss."""
    count = sum(answered.tiers.values())
    if not count:
        return []
    lines = [
        f"one-sided: {counts_text(answered.tiers)}; outcomes known of {answered.outcomes}",
        _titled("policies", answered.policies),
    ]
    if answered.propensities < count:
        lines.append(
            f"propensities missing on {count - answered.propensities} of {count} one-sided rows: "
            "off-policy evaluation needs them, and they are not assumed"
        )
    return lines


def _in_order(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _titled_shares(title: str, shares: Mapping[str, float]) -> str:
    shown = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    return f"{title}: {shown}" if shares else ""


def _titled(title: str, counts: Mapping[str, int]) -> str:
    return f"{title}: {counts_text(counts)}" if counts else ""


def print_table(metrics: Mapping[str, Any]) -> None:
    """Print the rows of `metrics.json`, columns without any value left out."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = metrics["rows"]
    columns = columns_with_values(metrics, [column for column in COLUMNS if column.key in _SHOWN])
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
        texts = [cell.replace(" (", "\n(") for cell in table_cells(row, columns)]
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


def print_inspection(inspection: Inspection, logs: str, options: str) -> None:
    """Print what a log holds, and what to do next."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=max(_NARROWEST, Console().width), highlight=False)
    bad = sum(inspection.bad.values())
    console.print(
        f"{inspection.source}: {inspection.format}, {inspection.rows:,} records, {bad:,} bad",
        markup=False,
    )
    for reason, count in {**inspection.bad, **inspection.passed_over}.items():
        console.print(f"  {reason}: {count:,}", markup=False)
    fields = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Fields", title_justify="left")
    for title in ("field", "column", "present", "values"):
        fields.add_column(title)
    for found in inspection.fields:
        share = f"{found.present / max(inspection.rows, 1):.1%}"
        fields.add_row(found.field, found.column, share, escape(" | ".join(found.values)))
    console.print(fields)
    if inspection.unmapped:
        console.print(f"columns without a field: {', '.join(inspection.unmapped)}\n", markup=False)
    rules = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Label rules", title_justify="left")
    for title in ("rule", "would label", "missing in the map"):
        rules.add_column(title)
    for rule in inspection.rules:
        rules.add_row(rule.rule, f"{rule.usable:,}", ", ".join(rule.missing) or "nothing")
    console.print(rules)
    console.print(f"labelled by the first rule that can: {inspection.labelled:,}")
    shares = {name: getattr(inspection, name) for name in _STRATA}
    known = [f"{name} {share:.1%}" for name, share in shares.items() if share is not None]
    console.print(f"shares: {', '.join(known) or 'none without labels or scores'}", markup=False)
    answered = sum(inspection.tiers.values())
    if answered:
        console.print(
            f"one-sided: {counts_text(inspection.tiers)}; propensities known of "
            f"{inspection.propensities:,} of {answered:,} (off-policy evaluation needs them)",
            markup=False,
        )
    console.print()
    for number, values in enumerate(inspection.first, start=1):
        line = "  ".join(f"{name}={value}" for name, value in values.items())
        console.print(f"{number:>2}  {line}", markup=False, soft_wrap=True)
    console.print(f"\nnext: {_next_step(inspection, logs, options)}", markup=False, soft_wrap=True)


def _next_step(inspection: Inspection, logs: str, options: str) -> str:
    """Return the one thing to do after an inspection."""
    if not inspection.fields:
        return f"querytier data inspect {logs} --map query=COLUMN, with one of the columns above"
    if inspection.labelled == 0 and inspection.format == Format.QUERYTIER:
        return (
            "add --scores outcomes.jsonl, with outcomes of these decisions; without any this log "
            "can be scored, not learned from"
        )
    if inspection.labelled == 0:
        ways = ", or ".join(
            " and ".join(f"{name}=COLUMN" for name in rule.missing)
            for rule in inspection.rules
            if rule.missing
        )
        return f"add {ways} to --map; without them this log can be scored, not learned from"
    if inspection.labelled < FEWEST_ROWS:
        return f"label more records: {inspection.labelled} are usable, {FEWEST_ROWS} are needed"
    return f"querytier run {logs}{options} --out runs/first"
