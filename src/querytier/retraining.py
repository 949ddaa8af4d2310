"""The loop: new logs in, a better or safely unchanged champion out.

A round prepares the new logs, audits their labels, merges them with the record, says how they
differ, trains, exports, evaluates, and lets the gate decide who serves. Each step is done once: a
round that was cut short goes on where it ended, and comes to the same verdict.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from querytier.data.atomic import atomic_file
from querytier.data.preparing import read_prepared
from querytier.data.sources import LogSource
from querytier.errors import UsageError
from querytier.eval.verdict_page import render_verdict
from querytier.params import Params
from querytier.registry import Registry
from querytier.round_data import (
    MERGE,
    FreshMerge,
    compare_drift,
    merge_fresh,
    record_of,
    since_date,
    write_merge,
)
from querytier.round_gate import GATE, judge
from querytier.rounds import VERDICT, Loop, Round, fingerprint_of, write_json
from querytier.stages import evaluate_stage, export_stage, prepare_stage, train_stage
from querytier.tracking import Tracker

__all__ = ["PAGE", "foresee", "retrain"]

PAGE = "verdict.html"

Say = Callable[[str], None]
Record = dict[str, Any]


def retrain(
    sources: Sequence[LogSource],
    folder: Path,
    params: Params,
    *,
    since: str | None = None,
    force: bool = False,
    say: Say = lambda _: None,
) -> Record:
    """Run a round of the loop, or go on with one that was cut short.

    Parameters
    ----------
    sources : sequence of LogSource
        The new logs; what of them is recorded already changes nothing.
    folder : Path
        The loop's.
    params : Params
    since : str, optional
        Rows before this date are left out, and those without a time.
    force : bool
        Train though there is nothing new.
    say : callable
        Hears what is done.

    Returns
    -------
    dict
        The content of `verdict.json`: `verdict` is "promoted", "kept" or "nothing_new".

    Raises
    ------
    LoopBusyError
        If another round is running there.
    UsageError, LogError, TrainingError, ExportError, ArtifactError
        As the stages; the round goes on from there when it is called again.
    """
    start = since_date(since)
    _check_files(sources)
    loop = Loop(folder)
    with loop.locked():
        tracker = Tracker(folder)
        before = loop.complete()[-1] if loop.complete() else None
        _serve_champion(loop, tracker.registry())
        champion = _standing(loop, tracker.registry())
        inputs = _inputs(sources, params, start, champion, before)
        if before and not force and _same(before.inputs, inputs):
            return _nothing_new(loop, champion, "these logs were the last round's", {})
        round_ = loop.opened(inputs)
        found = _merged(round_, sources, params, start, before, say)
        fewest = params.retrain.fewest_fresh_rows if before else 1
        if len(found["added"]) < fewest and not force:
            shutil.rmtree(round_.folder)
            why = (
                f"{len(found['added'])} new labelled rows; a round needs {fewest} "
                "(retrain.fewest_fresh_rows): name these logs again with the next"
            )
            return _nothing_new(loop, champion, why, found)
        return _Steps(loop, round_, champion, params, tracker, say).take(found)


def foresee(
    sources: Sequence[LogSource], folder: Path, params: Params, since: str | None = None
) -> list[str]:
    """Return what a round would do, in lines; nothing is written."""
    start, loop = since_date(since), Loop(folder)
    _check_files(sources)
    complete = loop.complete()
    before = complete[-1] if complete else None
    with TemporaryDirectory() as scratch:
        prepare_stage(sources, Path(scratch), params)
        merged = merge_fresh(Path(scratch), record_of(before), start, params)
    lines = merge_lines(merged.record())
    fewest = params.retrain.fewest_fresh_rows if before else 1
    if len(merged.merged.added) < fewest:
        return [*lines, f"would end with nothing_new: a round needs {fewest} new labelled rows"]
    serves = before and (before.verdict or {}).get("serves")
    against = f"be judged against model {serves}" if serves else "be judged by itself"
    number = (before.number if before else 0) + 1
    return [*lines, f"would train round {number:04d}, register a challenger, which would {against}"]


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
        "tying two roles together": counts["straddling"],
    }
    left = "; ".join(f"{count} {name}" for name, count in gone.items() if count)
    lines = [
        f"data: {found['read']} rows read, {counts['added']} new ones recorded"
        + (f" (not: {left})" if left else ""),
        f"data: {counts['recorded']} recorded before, {counts['used']} in use now; "
        f"{counts['outside_window']} outside the window, {counts['decayed']} count less for age, "
        f"{len(counts['capped_groups'])} groups and {len(counts['capped_sources'])} sources capped",
    ]
    lines += [f"data: not capped: {why}" for why in counts["caps_left_out"]]
    return lines + found["audit"]["lines"]


class _Steps:
    """The steps of one round, each done once."""

    def __init__(
        self,
        loop: Loop,
        round_: Round,
        champion: Record | None,
        params: Params,
        tracker: Tracker,
        say: Say,
    ) -> None:
        self._loop, self._round, self._params = loop, round_, params
        self._tracker, self._say = tracker, say
        self._champion = None
        if champion is not None:
            self._champion = loop.made_by(champion["model_version"])
            if self._champion is None:
                raise UsageError(
                    f"the champion, model {champion['model_version']}, was made by no round of "
                    f"{loop.folder}; give the loop a store of its own, or move the alias `champion` "
                    "to a version that a round made"
                )

    def take(self, found: Record) -> Record:
        """Take the steps that are left, and return the verdict."""
        round_, out = self._round, self._round.folder
        if self._champion is not None:
            round_.once("drift", self._drift)
        for step, stage in (("train", train_stage), ("export", export_stage)):
            self._say(f"round {round_.number:04d}: {step}")
            round_.once(step, lambda stage=stage: stage(out, self._params, self._tracker))
        self._say(f"round {round_.number:04d}: evaluate")
        round_.once("evaluate", self._evaluate)
        round_.once("gate", self._gate)
        round_.once("promote", self._promote)
        verdict = _verdict(round_, self._champion, found, self._version())
        _serve_champion(self._loop, self._tracker.registry())
        _write(verdict, self._loop.folder)
        _write(verdict, out)
        return verdict

    def _drift(self) -> None:
        assert self._champion is not None
        compare_drift(self._round, self._champion, self._params, self._say)

    def _evaluate(self) -> None:
        """Evaluate and register, unless an attempt that was cut short has registered it."""
        out = self._round.folder
        registered = self._tracker.registry().version_of(self._round.model_version)
        if registered is None or not (out / "metrics.json").is_file():
            evaluate_stage(out, self._params, self._tracker)

    def _gate(self) -> None:
        if self._champion is None:
            metrics = _json(self._round.folder / "metrics.json")
            write_json(
                self._round.folder / GATE, {**metrics["gate"], "fresh": None, "frozen": None}
            )
        else:
            judge(self._round, self._champion, self._params, self._tracker)

    def _promote(self) -> None:
        gate = _json(self._round.folder / GATE)
        registry, passed = self._tracker.registry(), bool(gate["passed"])
        registry.judge(self._version(), passed, gate["reason"], promoted=passed)

    def _version(self) -> str:
        found = self._tracker.registry().version_of(self._round.model_version)
        assert found is not None, "evaluate registers"
        return found.number


def _merged(
    round_: Round,
    sources: Sequence[LogSource],
    params: Params,
    since: str | None,
    before: Round | None,
    say: Say,
) -> Record:
    """Prepare and merge, and return the account of it."""
    fresh = round_.folder / "fresh"

    def merge() -> None:
        found: FreshMerge = merge_fresh(fresh, record_of(before), since, params)
        write_merge(found, round_)

    say(f"round {round_.number:04d}: prepare")
    round_.once("prepare", lambda: prepare_stage(sources, fresh, params))
    round_.once("merge", merge)
    account = _json(round_.folder / "data" / MERGE)
    for line in merge_lines(account):
        say(line)
    return account


def _standing(loop: Loop, registry: Registry) -> Record | None:
    """Return who was champion when the round began, be it that it was cut short after promotion."""
    champion = registry.champion()
    if champion is None:
        return None
    for one in loop.rounds():
        if one.verdict is None and one.model_version == champion.model_version:
            stood: Record | None = one.inputs["champion"]
            return stood
    return {"model_version": champion.model_version, "version": champion.number}


def _inputs(
    sources: Sequence[LogSource],
    params: Params,
    since: str | None,
    champion: Record | None,
    before: Round | None,
) -> Record:
    scores = {source.scores for source in sources if source.scores}
    content = params.model_dump(mode="json")
    del content["prepare"]["logs"]  # where files lie says nothing of what is in them
    return {
        "logs": fingerprint_of([*{source.path for source in sources}, *scores]),
        "files": sorted({source.path.name for source in sources}),
        "read_as": sorted({f"{source.format} {source.pair}" for source in sources}),
        "since": since,
        "params": content,
        "champion": champion,
        "after": before.number if before else 0,
        "querytier": version("querytier"),
    }


def _same(before: Record, now: Record) -> bool:
    """Tell whether a round would be made of what the last one was made of."""
    parts = ("logs", "read_as", "since", "params", "querytier")
    return all(before.get(name) == now[name] for name in parts)


def _verdict(round_: Round, champion: Round | None, found: Record, number: str) -> Record:
    gate, out = _json(round_.folder / GATE), round_.folder
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
            "roles": data.roles,
            "needs_frontier": data.shares["needs_frontier"],
            "needs_frontier_before": earlier and earlier.shares["needs_frontier"],
            "rows_before": earlier and earlier.usable,
            "fingerprint": data.fingerprint,
        },
        "drift": _json(drift) if drift.is_file() else None,
        "gate": gate,
        "certificate": _json(out / "model" / "manifest.json")["certificate"],
    }


def _nothing_new(loop: Loop, champion: Record | None, why: str, found: Record) -> Record:
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
    _write(verdict, loop.folder)
    return verdict


def _stamp(verdict: str, reason: str) -> Record:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    head = {"querytier": version("querytier"), "created": now}
    return {**head, "verdict": verdict, "reason": reason}


def _write(verdict: Record, folder: Path) -> None:
    """Write the page, then the verdict: a round that has one is complete."""
    with atomic_file(folder / PAGE) as scratch:
        at_round = folder.name == verdict["round"]
        scratch.write_text(render_verdict(verdict, at_round=at_round), "utf-8")
    write_json(folder / VERDICT, verdict)


def _serve_champion(loop: Loop, registry: Registry) -> None:
    """Let `LOOP/champion` be the artifact of the registry's champion."""
    champion = registry.champion()
    made = champion and loop.made_by(champion.model_version)
    if made:
        loop.serve(made)


def _check_files(sources: Sequence[LogSource]) -> None:
    for source in sources:
        if not source.path.is_file():
            raise UsageError(f"no such log: {source.path}")


def _json(path: Path) -> Record:
    content: Record = json.loads(path.read_text("utf-8"))
    return content
