"""What a round says: what became of the rows, the verdict, and the page."""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from querytier.data.ingest.preparing import read_prepared
from querytier.eval.report.round_page import render_verdict
from querytier.files import atomic_file, write_json
from querytier.loop.round_gate import GATE
from querytier.loop.rounds import VERDICT, Round

__all__ = ["PAGE", "json_of", "merge_lines", "nothing_new", "verdict_of", "write_verdict"]

PAGE = "verdict.html"

Record = dict[str, Any]


def verdict_of(round_: Round, champion: Round | None, found: Record, number: str) -> Record:
    """Return the verdict on a round whose gate was asked.

    Parameters
    ----------
    round_, champion : Round
        The champion's round; None where there was no champion.
    found : dict
        What became of the rows.
    number : str
        The registered version of the challenger.
    """
    gate, out = json_of(round_.folder / GATE), round_.folder
    promoted = bool(gate["passed"])
    _, data = read_prepared(out)
    serves = round_.model_version if promoted else champion and champion.model_version
    earlier = None if champion is None else read_prepared(champion.folder)[1]
    drift = out / "drift.json"
    return {
        **_stamp("promoted" if promoted else "kept", gate["reason"]),
        "round": round_.folder.name,
        "challenger": {"model_version": round_.model_version, "version": number},
        "champion": champion
        and {"model_version": champion.model_version, "round": champion.folder.name},
        "serves": serves,
        "data": {
            **{name: value for name, value in found.items() if name != "added"},
            "splits": data.splits,
            "needs_frontier": data.shares["needs_frontier"],
            "needs_frontier_before": earlier and earlier.shares["needs_frontier"],
            "rows_before": earlier and earlier.usable,
            "fingerprint": data.fingerprint,
        },
        "drift": json_of(drift) if drift.is_file() else None,
        "gate": gate,
        "certificate": json_of(out / "model" / "manifest.json")["certificate"],
    }


def nothing_new(folder: Path, champion: Record | None, why: str, found: Record) -> Record:
    """Write and return the verdict on logs that bring too little, in the loop's folder."""
    verdict = {
        **_stamp("nothing_new", why),
        "round": None,
        "challenger": None,
        "champion": champion and {"model_version": champion["model_version"], "round": None},
        "serves": champion and champion["model_version"],
        "data": {name: value for name, value in found.items() if name != "added"} or None,
        "drift": None,
        "gate": None,
        "certificate": None,
    }
    write_verdict(verdict, folder)
    return verdict


def merge_lines(found: Record) -> list[str]:
    """Say what became of the rows, the parts without any left out."""
    counts = found["counts"]
    gone = {
        "in quarantine": sum(found["quarantined"].values()),
        "without a label": sum(found["unlabelled"].values()),
        "before --since": found["before_since"],
        "without a time for --since": found["undated_since"],
        "held back by the label audit": found["audit"]["held_back"],
        "recorded before": counts["repeated"],
        "with an id of another query": counts["id_reused"],
        "tying two splits together": counts["straddling"],
    }
    left = "; ".join(f"{count} {name}" for name, count in gone.items() if count)
    not_taken = f" (not: {left})" if left else ""
    read = f"data: {found['read']} rows read, {counts['added']} new ones recorded{not_taken}"
    used = (
        f"data: {counts['recorded']} recorded before, {counts['used']} in use now; "
        f"{counts['outside_window']} outside the window, {counts['decayed']} count less for age, "
        f"{len(counts['capped_groups'])} groups and {len(counts['capped_sources'])} sources capped"
    )
    lines = [read, used]
    lines += [f"data: not capped: {why}" for why in counts["caps_left_out"]]
    return [*lines, *found["audit"]["lines"]]


def write_verdict(verdict: Record, folder: Path) -> None:
    """Write the page, then the verdict: a round that has one is complete."""
    with atomic_file(folder / PAGE) as scratch:
        at_round = folder.name == verdict["round"]
        scratch.write_text(render_verdict(verdict, at_round=at_round), "utf-8")
    write_json(folder / VERDICT, verdict)


def json_of(path: Path) -> Record:
    """Read a JSON object."""
    content: Record = json.loads(path.read_text("utf-8"))
    return content


def _stamp(verdict: str, reason: str) -> Record:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    head = {"querytier": version("querytier"), "created": now}
    return {**head, "verdict": verdict, "reason": reason}
