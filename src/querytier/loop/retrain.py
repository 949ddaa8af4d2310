"""The loop: new logs in, a better or safely unchanged champion out.

A round prepares the new logs, audits their labels, merges them with the record, says how they
differ, trains, exports, evaluates, and lets the gate decide who serves. Each step is done once: a
round that was cut short goes on where it ended, and comes to the same verdict.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from querytier.data.ingest.sources import LogSource
from querytier.errors import UsageError
from querytier.files import write_json
from querytier.loop.fresh_data import (
    MERGE,
    FreshMerge,
    compare_drift,
    merge_fresh,
    record_of,
    since_date,
    write_merge,
)
from querytier.loop.round_decision import (
    json_of,
    merge_lines,
    nothing_new,
    verdict_of,
    write_verdict,
)
from querytier.loop.round_gate import GATE, judge
from querytier.loop.round_inputs import inputs_of, same_inputs
from querytier.loop.rounds import Loop, Round
from querytier.pipeline.evaluate import evaluate_stage
from querytier.pipeline.export import export_stage
from querytier.pipeline.params import Params
from querytier.pipeline.prepare import prepare_stage
from querytier.pipeline.train import train_stage
from querytier.tracking.registry import Registry
from querytier.tracking.tracker import Tracker

__all__ = ["foresee", "retrain"]

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
        ended = _ended(loop, params, tracker, say)
        before = loop.complete()[-1] if loop.complete() else None
        _serve_champion(loop, tracker.registry())
        champion = _standing(loop, tracker.registry())
        inputs = inputs_of(sources, params, start, champion, before)
        if before and ended and same_inputs(before.inputs, inputs):
            return ended
        if before and not force and same_inputs(before.inputs, inputs):
            return nothing_new(folder, champion, "these logs were the last round's", {})
        round_ = loop.opened(inputs)
        found = _merged(round_, sources, params, start, before, say)
        fewest = params.retrain.fewest_fresh_rows if before else 1
        if len(found["added"]) < fewest and not force:
            shutil.rmtree(round_.folder)
            why = (
                f"{len(found['added'])} new labelled rows; a round needs {fewest} "
                "(retrain.fewest_fresh_rows): name these logs again with the next"
            )
            return nothing_new(folder, champion, why, found)
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
    lines = merge_lines(merged.to_dict())
    fewest = params.retrain.fewest_fresh_rows if before else 1
    if len(merged.merged.added) < fewest:
        return [*lines, f"would end with nothing_new: a round needs {fewest} new labelled rows"]
    serves = before and (before.verdict or {}).get("serves")
    against = f"be judged against model {serves}" if serves else "be judged by itself"
    number = (before.number if before else 0) + 1
    return [*lines, f"would train round {number:04d}, register a challenger, which would {against}"]


class _Steps:
    """The steps of one round, each done once."""

    def __init__(  # noqa: PLR0917
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
                    f"{loop.folder}; give the loop a store of its own, or move the alias "
                    "`champion` to a version that a round made"
                )

    def take(self, found: Record) -> Record:
        """Take the steps that are left, and return the verdict."""
        round_, out = self._round, self._round.folder
        if self._champion is not None:
            round_.once("drift", self._drift)
        self._say(f"round {round_.number:04d}: train")
        round_.once("train", lambda: train_stage(out, self._params, self._tracker))
        self._say(f"round {round_.number:04d}: export")
        round_.once("export", lambda: export_stage(out, self._params, self._tracker))
        self._say(f"round {round_.number:04d}: evaluate")
        round_.once("evaluate", self._evaluate)
        round_.once("gate", self._gate)
        round_.once("promote", self._promote)
        verdict = verdict_of(round_, self._champion, found, self._version())
        _serve_champion(self._loop, self._tracker.registry())
        write_verdict(verdict, self._loop.folder)
        write_verdict(verdict, out)
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
            metrics = json_of(self._round.folder / "metrics.json")
            alone = {**metrics["gate"], "fresh": None, "frozen": None}
            write_json(self._round.folder / GATE, alone)
        else:
            judge(self._round, self._champion, self._params, self._tracker)

    def _promote(self) -> None:
        gate = json_of(self._round.folder / GATE)
        registry, passed = self._tracker.registry(), bool(gate["passed"])
        registry.judge(self._version(), passed, gate["reason"], promoted=passed)

    def _version(self) -> str:
        found = self._tracker.registry().version_of(self._round.model_version)
        assert found is not None, "evaluate registers"
        return found.number


def _merged(  # noqa: PLR0917
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
    account = json_of(round_.folder / "data" / MERGE)
    for line in merge_lines(account):
        say(line)
    return account


def _ended(loop: Loop, params: Params, tracker: Tracker, say: Say) -> Record | None:
    """End a round that was cut short once its gate had spoken: its model may be serving."""
    verdict = None
    for one in loop.rounds():
        if one.verdict is None and (one.folder / "done" / "gate").exists():
            account = json_of(one.folder / "data" / MERGE)
            verdict = _Steps(loop, one, one.inputs["champion"], params, tracker, say).take(account)
    return verdict


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
