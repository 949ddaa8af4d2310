"""The page on a round of the loop: self-contained HTML from `verdict.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from querytier.eval.intervals import Estimate
from querytier.eval.report.pages import render

__all__ = ["ServedRow", "headline", "next_steps", "render_verdict", "served_rows"]

Record = Mapping[str, Any]

_WHAT = {
    "quality": ("quality as served", ".4f"),
    "frontier_rate": ("share sent to the frontier tier", ".1%"),
    "cost": ("mean cost of a query", "#.3g"),
    "brier": ("Brier score (lower is better)", ".4f"),
}


@dataclass(frozen=True, slots=True)
class ServedRow:
    """A line of the table of champion and challenger.

    Attributes
    ----------
    what, champion, challenger : str
    """

    what: str
    champion: str
    challenger: str


def headline(verdict: Record) -> str:
    """Return what happened, in a sentence.

    Examples
    --------
    >>> headline({"verdict": "nothing_new", "serves": "ab12", "reason": "3 new rows"})
    'Nothing new: 3 new rows. Model ab12 goes on serving.'
    """
    serves = verdict["serves"]
    if verdict["verdict"] == "nothing_new":
        after = f"Model {serves} goes on serving." if serves else "No model serves yet."
        return f"Nothing new: {verdict['reason']}. {after}"
    challenger, champion = verdict["challenger"], verdict["champion"]
    ours = f"model {challenger['model_version']}"
    if verdict["verdict"] == "promoted":
        place = f" in place of model {champion['model_version']}" if champion else ", the first"
        return f"Promoted: {ours} is the champion now{place}."
    if champion:
        return f"Kept: model {serves} goes on serving; {ours} did not pass the gate."
    return f"Kept: {ours} did not pass the gate, and there is no champion yet."


def served_rows(part: Record | None) -> list[ServedRow]:
    """Return the table of champion and challenger on one part of the rows."""
    served = part and part["served"]
    if not served:
        return []
    return [
        ServedRow(
            title,
            Estimate.from_dict(served["champion"][what]).text(spec),
            Estimate.from_dict(served["challenger"][what]).text(spec),
        )
        for what, (title, spec) in _WHAT.items()
        if what in served["champion"]
    ]


def next_steps(verdict: Record) -> list[str]:
    """Say what to do next; where nothing has to be done, that."""
    steps = []
    data, gate, drift = verdict["data"], verdict["gate"], verdict["drift"]
    if data and data["audit"]["held_back"]:
        steps.append(
            f"{data['audit']['held_back']} fresh rows are held back: look at held_back.jsonl, and "
            "release a source that is right with audit_fresh.trusted_sources"
        )
    if drift and drift["drifted"]:
        steps.append("traffic has drifted: look at drift.html, and certify anew")
    if verdict["verdict"] == "kept" and gate["fresh"]:
        steps += _after_keeping(gate["fresh"], gate["frozen"])
    if verdict["certificate"] and verdict["certificate"]["status"] == "refused":
        steps.append(f"no promise is made: {verdict['certificate']['reason']}")
    if verdict["verdict"] == "promoted":
        steps.append(
            "a service that was started with --artifact LOOP/champion serves the new champion "
            "after its next reload"
        )
    return steps or ["nothing: call retrain again when there are new logs"]


def _after_keeping(fresh: Record, frozen: Record) -> list[str]:
    """Say what to do where the champion was kept."""
    steps = []
    failed = [check["name"] for check in fresh["checks"] if not check["passed"]]
    if not fresh["checks"]:
        steps.append("nothing: the rows are recorded, and count as fresh in the next round, too")
    elif failed and all(name.startswith("superior") for name in failed):
        steps.append("nothing: no worse is not better; rows stay fresh, so that evidence adds up")
    elif failed:
        steps.append(
            f"on fresh rows the challenger may be worse ({', '.join(failed)}): look at its report; "
            "more labels or train.budget standard may help"
        )
    if not frozen["passed"]:
        steps.append(
            "on frozen rows it loses what the champion knew: look for wrong labels among the new "
            "rows, or shorten retrain.window_days where the old ones no longer hold"
        )
    return steps


def render_verdict(verdict: Record, *, at_round: bool) -> str:
    """Return the page as HTML that fetches nothing.

    Parameters
    ----------
    verdict : mapping
        The content of `verdict.json`.
    at_round : bool
        Whether the page lies in the round's folder, and not in the loop's: links are relative.
    """
    gate = verdict["gate"] or {}
    parts = {name: gate.get(name) for name in ("fresh", "frozen")}
    return render(
        "round.html.jinja",
        verdict=verdict,
        found=_found,
        beside="" if at_round else f"rounds/{verdict['round']}/",
        headline=headline(verdict),
        parts={name: part for name, part in parts.items() if part},
        tables={name: served_rows(part) for name, part in parts.items()},
        steps=next_steps(verdict),
    )


def _found(check: Record) -> str:
    return Estimate(check["estimate"], check["low"], check["high"]).text(".4f")
