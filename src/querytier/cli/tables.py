"""The output of several verbs in a terminal: data, results, decisions, inspections."""

from collections.abc import Mapping, Sequence
from typing import Any

from querytier.cli.options import console, plain_table, say
from querytier.data.formats.recognise import Format
from querytier.data.ingest.data_summary import FEWEST_ROWS, DataSummary, OneSided
from querytier.data.ingest.inspecting import Inspection
from querytier.data.ingest.log_batches import counts_text
from querytier.eval.rankings import KEYWORD_THRESHOLD, keyword_score, keyword_tier
from querytier.eval.report.table import COLUMNS, columns_with_values, table_cells
from querytier.serve import Router

__all__ = ["print_data", "print_decisions", "print_inspection", "print_table"]

_SHOWN = ("auroc", "apgr", "cpt50", "recall", "quality_retained", "cost_saved")
_STRATA = ("needs_frontier", "cheap_ok", "frontier_ok", "both_fail", "cheap_wins")


def print_data(data: DataSummary) -> None:
    """Print how many rows of the logs are usable, unlabelled, skipped and in quarantine."""
    # In the order of the splits' use; `counts_text` would put the largest first.
    splits = ", ".join(f"{name} {count}" for name, count in data.splits.items())
    lines = [
        f"{data.source}: {data.usable} usable of {data.rows} rows ({splits})",
        _titled_shares("shares", data.shares),
        _titled("labels by", data.label_sources),
        _titled_shares("needs_frontier by split", data.needs_frontier),
        _titled("without a label, in unlabelled.parquet", data.unlabelled),
        *_one_sided(data.one_sided),
        _titled("redacted", data.redacted),
        _titled("skipped", data.passed_over),
        _titled("in quarantine.jsonl", data.quarantined),
    ]
    if data.near_duplicates is None:
        lines.append("no search for near duplicates: more rows than near_duplicate_rows")
    elif data.near_duplicates:
        lines.append(f"{data.near_duplicates} links between near duplicates joined their groups")
    for line in filter(None, lines):
        say(line)


def _one_sided(answered: OneSided) -> list[str]:
    """Return lines about rows that one tier answered, which off-policy evaluation can use."""
    count = sum(answered.tiers.values())
    if not count:
        return []
    lines = [
        f"one-sided: {counts_text(answered.tiers)}; {answered.outcomes} with an outcome",
        _titled("policies", answered.policies),
    ]
    if answered.propensities < count:
        lines.append(
            f"propensities are missing in {count - answered.propensities} of {count} "
            "one-sided rows: off-policy evaluation needs them, and they are not assumed"
        )
    return lines


def _titled_shares(title: str, shares: Mapping[str, float]) -> str:
    shown = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    return f"{title}: {shown}" if shares else ""


def _titled(title: str, counts: Mapping[str, int]) -> str:
    return f"{title}: {counts_text(counts)}" if counts else ""


def print_table(metrics: Mapping[str, Any]) -> None:
    """Print the rows of `metrics.json`; columns without any value are left out."""
    rows = metrics["rows"]
    columns = columns_with_values(metrics, _SHOWN)
    rate = metrics["operating_point"]["frontier_rate"]
    table = plain_table(
        f"{metrics['source']}: {metrics['n']['evaluated']} held-out rows, "
        f"all at frontier rate {rate:.1%}"
    )
    table.add_column("row", no_wrap=True)
    for column in columns:
        table.add_column(COLUMNS[column], justify="right", min_width=9)
    for row in rows:
        texts = [cell.replace(" (", "\n(") for cell in table_cells(row, columns)]
        table.add_row(row["name"], *texts, style="bold" if row is rows[0] else None)
    console().print(table)


def print_decisions(queries: Sequence[str], router: Router) -> None:
    """Print the decisions of the keyword heuristic and of the classifier."""
    from rich.markup import escape

    title = "Decisions of the keyword heuristic and of the classifier"
    table = plain_table(title, "query", "keyword heuristic", "classifier")
    for query in queries:
        decision = router.decide(query)
        score = "no score" if decision.p_frontier is None else f"{decision.p_frontier:.3f}"
        table.add_row(
            escape(query),
            f"{keyword_tier(query)}\nscore {keyword_score(query):.4f}, above {KEYWORD_THRESHOLD}?",
            f"{decision.tier}\np_frontier {score}, threshold {decision.threshold:.3f}",
        )
    console().print(table)


def print_inspection(inspection: Inspection, logs: str, options: str) -> None:
    """Print the fields, label rules and first rows of a log, and the next command."""
    from rich.markup import escape

    terminal = console()
    bad = sum(inspection.bad.values())
    terminal.print(
        f"{inspection.source}: {inspection.format}, {inspection.rows:,} records, {bad:,} bad",
        markup=False,
    )
    for reason, count in {**inspection.bad, **inspection.passed_over}.items():
        terminal.print(f"  {reason}: {count:,}", markup=False)
    fields = plain_table("Fields", "field", "column", "present", "values")
    for field in inspection.fields:
        share = f"{field.present / max(inspection.rows, 1):.1%}"
        fields.add_row(field.field, field.column, share, escape(" | ".join(field.values)))
    terminal.print(fields)
    if inspection.unmapped:
        terminal.print(f"columns without a field: {', '.join(inspection.unmapped)}\n", markup=False)
    rules = plain_table("Label rules", "rule", "would label", "missing from the map")
    for rule in inspection.rules:
        rules.add_row(rule.rule, f"{rule.usable:,}", ", ".join(rule.missing) or "nothing")
    terminal.print(rules)
    terminal.print(f"labelled by the first rule that applies: {inspection.labelled:,}")
    shares = {name: getattr(inspection, name) for name in _STRATA}
    known = [f"{name} {share:.1%}" for name, share in shares.items() if share is not None]
    terminal.print(f"shares: {', '.join(known) or 'none without labels or scores'}", markup=False)
    answered = sum(inspection.tiers.values())
    if answered:
        terminal.print(
            f"one-sided: {counts_text(inspection.tiers)}; "
            f"{inspection.propensities:,} of {answered:,} have a propensity (off-policy evaluation "
            "needs it)",
            markup=False,
        )
    terminal.print()
    for number, values in enumerate(inspection.first, start=1):
        line = "  ".join(f"{name}={value}" for name, value in values.items())
        terminal.print(f"{number:>2}  {line}", markup=False, soft_wrap=True)
    terminal.print(f"\nnext: {_next_step(inspection, logs, options)}", markup=False, soft_wrap=True)


def _next_step(inspection: Inspection, logs: str, options: str) -> str:
    """Return the next step after an inspection."""
    if not inspection.fields:
        return f"querytier data inspect {logs} --map query=COLUMN, with one of the columns above"
    if inspection.labelled == 0 and inspection.format == Format.QUERYTIER:
        return (
            "add --scores outcomes.jsonl, with outcomes of these decisions; without any, this "
            "log can be scored but not trained on"
        )
    if inspection.labelled == 0:
        ways = ", or ".join(
            " and ".join(f"{name}=COLUMN" for name in rule.missing)
            for rule in inspection.rules
            if rule.missing
        )
        return f"add {ways} to --map; without them, this log can be scored but not trained on"
    if inspection.labelled < FEWEST_ROWS:
        return f"label more records: {inspection.labelled} are usable, {FEWEST_ROWS} are needed"
    return f"querytier run {logs}{options} --out runs/first"
