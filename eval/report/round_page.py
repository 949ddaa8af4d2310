"""The page on a round of the loop, from `verdict.json`."""

from collections.abc import Iterator, Mapping
from typing import Any

from querytier.eval.intervals import Estimate
from querytier.eval.report.pages import render

__all__ = ["headline", "next_steps", "render_verdict", "served_rows"]

Record = Mapping[str, Any]

_SERVED = {
    "quality": ("quality as served", ".4f"),
    "frontier_rate": ("share sent to the frontier tier", ".1%"),
    "cost": ("mean cost of a query", "#.3g"),
    "brier": ("Brier score (lower is better)", ".4f"),
}


def render_verdict(verdict: Record, *, at_round: bool) -> str:
    """Return the page as self-contained HTML.

    Parameters
    ----------
    verdict : mapping
        The content of `verdict.json`.
    at_round : bool
        Whether the page is written to the round's folder instead of the loop's; links are relative.
    """
    gate = verdict["gate"] or {}
    parts = {name: gate[name] for name in ("fresh", "frozen") if gate.get(name)}
    return render(
        "round.html.jinja",
        verdict=verdict,
        estimate_text=_estimate_text,
        beside="" if at_round else f"rounds/{verdict['round']}/",
        headline=headline(verdict),
        parts=parts,
        tables={name: served_rows(part) for name, part in parts.items()},
        steps=next_steps(verdict),
    )


def headline(verdict: Record) -> str:
    """Return what happened in one or two sentences.

    Examples
    --------
    >>> headline({"verdict": "nothing_new", "serves": "ab12", "reason": "3 new rows"})
    'Nothing new: 3 new rows. Model ab12 stays in service.'
    """
    serves = verdict["serves"]
    if verdict["verdict"] == "nothing_new":
        after = f"Model {serves} stays in service." if serves else "No model is in service yet."
        return f"Nothing new: {verdict['reason']}. {after}"
    challenger, champion = verdict["challenger"], verdict["champion"]
    ours = f"model {challenger['model_version']}"
    if verdict["verdict"] == "promoted":
        if champion:
            return f"Promoted: {ours} replaces model {champion['model_version']} as champion."
        return f"Promoted: {ours} is the first champion."
    if champion:
        return f"Kept: model {serves} stays in service; {ours} did not pass the gate."
    return f"Kept: {ours} did not pass the gate, and there is no champion yet."


def served_rows(part: Record) -> list[tuple[str, ...]]:
    """Return title, champion and challenger of each row of the table of one part of the rows."""
    served = part["served"] or {"champion": {}}
    return [
        (
            title,
            *(
                Estimate.from_dict(served[side][key]).text(spec)
                for side in ("champion", "challenger")
            ),
        )
        for key, (title, spec) in _SERVED.items()
        if key in served["champion"]
    ]


def next_steps(verdict: Record) -> list[str]:
    """Return what to do next, or a line that says that there is nothing to do."""
    return list(_steps(verdict)) or ["nothing: call retrain again when there are new logs"]


def _steps(verdict: Record) -> Iterator[str]:
    data, gate, drift = verdict["data"], verdict["gate"], verdict["drift"]
    if data and data["audit"]["held_back"]:
        yield (
            f"{data['audit']['held_back']} fresh rows are held back: look at held_back.jsonl, and "
            "release a source that is right with audit_fresh.trusted_sources"
        )
    # A certificate holds only for the traffic that it was granted on.
    if drift and drift["drifted"]:
        yield "traffic has drifted: look at drift.html, and certify again"
    if verdict["verdict"] == "kept" and gate["fresh"]:
        yield from _after_keeping(gate["fresh"], gate["frozen"])
    if verdict["certificate"] and verdict["certificate"]["status"] == "refused":
        yield f"no promise is made: {verdict['certificate']['reason']}"
    if verdict["verdict"] == "promoted":
        yield (
            "a service that was started with --artifact LOOP/champion serves the new champion "
            "after its next reload"
        )


def _after_keeping(fresh: Record, frozen: Record) -> Iterator[str]:
    """Yield what to do if the champion was kept."""
    failed = [check["name"] for check in fresh["checks"] if not check["passed"]]
    if not fresh["checks"]:
        yield "nothing: the rows are recorded, and count as fresh in the next round, too"
    elif failed and all(name.startswith("superior") for name in failed):
        yield "nothing: no worse does not mean better; rows stay fresh, so that evidence adds up"
    elif failed:
        yield (
            f"on fresh rows the challenger may be worse ({', '.join(failed)}): look at its report; "
            "more labels or train.budget standard may help"
        )
    if not frozen["passed"]:
        yield (
            "on frozen rows it is worse than the champion: look for wrong labels among the new "
            "rows, or shorten retrain.window_days if the old ones are no longer true"
        )


def _estimate_text(check: Record) -> str:
    return Estimate(check["estimate"], check["low"], check["high"]).text(".4f")
