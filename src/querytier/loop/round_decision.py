"""What a round decided: promoted, kept or nothing_new, with the reasons, as JSON and as a page."""

from pathlib import Path
from typing import Any

from querytier.data.ingest.preparing import read_prepared
from querytier.eval.report.round_page import render_verdict
from querytier.files import atomic_file, stamp, write_json
from querytier.loop.gate import GATE
from querytier.loop.rounds import DECISION, Round

__all__ = ["PAGE", "merge_lines", "nothing_new", "round_decision", "write_round_decision"]

PAGE = "verdict.html"

Record = dict[str, Any]


def round_decision(round_: Round, champion: Round | None, merged: Record, number: str) -> Record:
    """Return the decision of a round whose gate has run.

    Parameters
    ----------
    round_, champion : Round
        The champion's round; None if there was no champion.
    merged : dict
        The content of `merge.json`: numbers of rows recorded, used and left out.
    number : str
        The registered version of the challenger.
    """
    gate = round_.read(GATE)
    promoted = bool(gate["passed"])
    data = read_prepared(round_.folder)[1]
    # For the page, which compares needs_frontier now with the time when the champion was made.
    earlier = None if champion is None else read_prepared(champion.folder)[1]
    return {
        **stamp(),
        "verdict": "promoted" if promoted else "kept",
        "reason": gate["reason"],
        "round": round_.folder.name,
        "challenger": {"model_version": round_.model_version, "version": number},
        "champion": champion
        and {"model_version": champion.model_version, "round": champion.folder.name},
        "serves": round_.model_version if promoted else champion and champion.model_version,
        "data": {
            **_counts(merged),
            "splits": data.splits,
            "needs_frontier": data.shares["needs_frontier"],
            "needs_frontier_before": earlier and earlier.shares["needs_frontier"],
            "rows_before": earlier and earlier.usable,
            "fingerprint": data.fingerprint,
        },
        "drift": round_.read("drift.json") or None,
        "gate": gate,
        "certificate": round_.read("model/manifest.json")["certificate"],
    }


def nothing_new(folder: Path, champion: Record | None, reason: str, merged: Record) -> Record:
    """Write and return the decision on logs with too few new rows."""
    decision = {
        **stamp(),
        "verdict": "nothing_new",
        "reason": reason,
        "champion": champion and {"model_version": champion["model_version"], "round": None},
        "serves": champion and champion["model_version"],
        "data": _counts(merged) or None,
        **dict.fromkeys(("round", "challenger", "drift", "gate", "certificate")),
    }
    write_round_decision(decision, folder)
    return decision


def merge_lines(merged: Record) -> list[str]:
    """Return what happened to the rows, in sentences that leave out zero counts."""
    counts = merged["counts"]
    reasons = {
        "in quarantine": sum(merged["quarantined"].values()),
        "without a label": sum(merged["unlabelled"].values()),
        "before --since": merged["before_since"],
        "without a time, which --since needs": merged["undated_since"],
        "held back by the label audit": merged["audit"]["held_back"],
        "recorded before": counts["repeated"],
        "with the id of another query": counts["id_reused"],
        "similar to rows of two splits": counts["straddling"],
    }
    left_out = "; ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
    rest = f" (left out: {left_out})" if left_out else ""
    read = f"data: {merged['read']} rows read, {counts['added']} new ones recorded{rest}"
    used = (
        f"data: {counts['recorded']} recorded before, {counts['used']} in use now; "
        f"{counts['outside_window']} outside the window, {counts['decayed']} with less weight for "
        f"their age, {len(counts['capped_groups'])} groups and {len(counts['capped_sources'])} "
        "sources capped"
    )
    uncapped = [f"data: not capped: {why}" for why in counts["caps_left_out"]]
    return [read, used, *uncapped, *merged["audit"]["lines"]]


def write_round_decision(decision: Record, folder: Path) -> None:
    """Write the page, then the JSON: a round with the JSON is complete."""
    with atomic_file(folder / PAGE) as scratch:
        at_round = folder.name == decision["round"]  # links in the page are relative
        scratch.write_text(render_verdict(decision, at_round=at_round), "utf-8")
    write_json(folder / DECISION, decision)


def _counts(merged: Record) -> Record:
    """Return the counts without the ids of the added rows, which can be thousands."""
    return {name: value for name, value in merged.items() if name != "added"}
