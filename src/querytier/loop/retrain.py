"""The loop: train on new logs, and replace the champion only if the gate passes.

A round prepares the new logs, audits their labels, merges them with the record, compares them with
the champion's data, trains, exports, evaluates, and lets the gate decide which one serves. Each
step runs once: an interrupted round resumes with the step that it was in, and reaches the same
decision.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from querytier.data.ingest.sources import LogSource
from querytier.errors import UsageError
from querytier.files import write_json
from querytier.loop.fresh_data import (
    MERGED,
    compare_drift,
    merge_fresh,
    record_of,
    since_date,
    write_merge,
)
from querytier.loop.gate import GATE, run_round_gate
from querytier.loop.round_decision import (
    merge_lines,
    nothing_new,
    round_decision,
    write_round_decision,
)
from querytier.loop.rounds import Loop, Round, inputs_of, same_inputs
from querytier.pipeline.evaluate import evaluate_stage
from querytier.pipeline.export import export_stage
from querytier.pipeline.params import Params
from querytier.pipeline.prepare import prepare_stage
from querytier.pipeline.train import train_stage
from querytier.tracking.registry import Registry
from querytier.tracking.tracker import Tracker

__all__ = ["preview", "retrain"]

Report = Callable[[str], None]
Record = dict[str, Any]


def retrain(
    sources: Sequence[LogSource],
    folder: Path,
    params: Params,
    *,
    since: str | None = None,
    force: bool = False,
    report: Report = lambda _: None,
) -> Record:
    """Run a round of the loop, or resume an interrupted one.

    Parameters
    ----------
    sources : sequence of LogSource
        The new logs; rows that are already recorded are ignored.
    folder : Path
        The folder of the loop.
    params : Params
    since : str, optional
        Leave out rows before this date, and rows without a time.
    force : bool
        Train even if there are too few new rows.
    report : callable
        Called with one line of text for each step.

    Returns
    -------
    dict
        The content of `verdict.json`: `verdict` is "promoted", "kept" or "nothing_new".

    Raises
    ------
    LoopBusyError
        If another process runs a round in the folder.
    UsageError, LogError, TrainingError, ExportError, ArtifactError
        As the stages raise them; the next call resumes the round.
    """
    start = since_date(since)
    _check_files(sources)
    loop = Loop(folder)
    with loop.locked():
        tracker = Tracker(folder)
        finished = _finish_interrupted(loop, params, tracker, report)
        before = loop.last_complete()
        # A rollback since the last round has moved the alias, but not this link if it was called
        # for another project folder.
        _serve_champion(loop, tracker.registry())
        champion = _current_champion(loop, tracker.registry())
        inputs = inputs_of(sources, params, start, champion, before)
        if before and same_inputs(before.inputs, inputs):
            if finished:
                return finished
            if not force:
                return nothing_new(folder, champion, "these logs were the last round's", {})
        # Before the round is opened: if the champion is from elsewhere, no log is read in vain.
        champion_round = _champion_round(loop, champion)
        round_ = loop.open_round(inputs)
        steps = _RoundSteps(loop, round_, champion_round, params, tracker, report)
        merged = steps.merge(sources, start, before)
        # The first round has no champion to keep instead, so it trains on whatever there is.
        fewest = params.retrain.fewest_fresh_rows if before else 1
        if len(merged["added"]) < fewest and not force:
            # Delete the round: its rows are then not recorded, and count as new in the next call.
            shutil.rmtree(round_.folder)
            reason = (
                f"{len(merged['added'])} new labelled rows; a round needs {fewest} "
                "(retrain.fewest_fresh_rows): name these logs again with the next ones"
            )
            return nothing_new(folder, champion, reason, merged)
        return steps.finish(merged)


def preview(
    sources: Sequence[LogSource], folder: Path, params: Params, since: str | None = None
) -> list[str]:
    """Return lines that describe what a round would do; write nothing to the loop's folder."""
    start, before = since_date(since), Loop(folder).last_complete()
    _check_files(sources)
    with TemporaryDirectory() as scratch:
        prepare_stage(sources, Path(scratch), params)
        fresh = merge_fresh(Path(scratch), record_of(before), start, params)
    lines = merge_lines(fresh.to_dict())
    fewest = params.retrain.fewest_fresh_rows if before else 1
    if len(fresh.merged.added) < fewest:
        return [*lines, f"would end with nothing_new: a round needs {fewest} new labelled rows"]
    serves = before and (before.decision or {}).get("serves")
    rival = f"compared with model {serves}" if serves else "checked by itself"
    number = (before.number if before else 0) + 1
    return [*lines, f"would train round {number:04d} and register a challenger, {rival}"]


@dataclass(frozen=True)
class _RoundSteps:
    """The steps of one round; a step that is complete does not run again."""

    loop: Loop
    round: Round
    champion: Round | None
    params: Params
    tracker: Tracker
    report: Report

    def merge(
        self, sources: Sequence[LogSource], since: str | None, before: Round | None
    ) -> Record:
        """Prepare and merge the new logs; return the content of `merge.json`."""
        fresh, params = self.round.folder / "fresh", self.params
        self._step("prepare", lambda: prepare_stage(sources, fresh, params))
        self.round.once(
            "merge",
            lambda: write_merge(merge_fresh(fresh, record_of(before), since, params), self.round),
        )
        merged = self.round.read(MERGED)
        for line in merge_lines(merged):
            self.report(line)
        return merged

    def finish(self, merged: Record) -> Record:
        """Run the steps after the merge, and return the round's decision."""
        out, params, tracker = self.round.folder, self.params, self.tracker
        champion = self.champion
        if champion is not None:
            self.round.once(
                "drift", lambda: compare_drift(self.round, champion, params, self.report)
            )
        self._step("train", lambda: train_stage(out, params, tracker))
        self._step("export", lambda: export_stage(out, params, tracker))
        self._step("evaluate", self._evaluate)
        self.round.once("gate", self._gate)
        self.round.once("promote", self._promote)
        decision = round_decision(self.round, champion, merged, self._version())
        _serve_champion(self.loop, tracker.registry())
        # The round's own copy comes last: it marks the round as complete.
        write_round_decision(decision, self.loop.folder)
        write_round_decision(decision, out)
        return decision

    def _step(self, name: str, action: Callable[[], object]) -> None:
        self.report(f"round {self.round.number:04d}: {name}")
        self.round.once(name, action)

    def _evaluate(self) -> None:
        """Evaluate and register, unless an interrupted attempt has done both."""
        # A second registration of the same artifact would add another version to the registry.
        registered = self.tracker.registry().version_of(self.round.model_version)
        if registered is None or not (self.round.folder / "metrics.json").is_file():
            evaluate_stage(self.round.folder, self.params, self.tracker)

    def _gate(self) -> None:
        if self.champion is None:
            checked = self.round.read("metrics.json")["gate"]
            write_json(self.round.folder / GATE, {**checked, "fresh": None, "frozen": None})
        else:
            run_round_gate(self.round, self.champion, self.params, self.tracker)

    def _promote(self) -> None:
        gate, registry = self.round.read(GATE), self.tracker.registry()
        registry.record_gate(self._version(), passed=bool(gate["passed"]), reason=gate["reason"])

    def _version(self) -> str:
        found = self.tracker.registry().version_of(self.round.model_version)
        assert found is not None, "evaluate registers"
        return found.number


def _finish_interrupted(
    loop: Loop, params: Params, tracker: Tracker, report: Report
) -> Record | None:
    """Finish a round that was interrupted after its gate, whatever the logs of this call are.

    Its challenger may serve already. An unfinished round with other inputs would be deleted later,
    which must not happen to the artifact that serves.
    """
    decision = None
    for one in loop.rounds():
        if not one.decision and one.is_done("gate"):
            champion = _champion_round(loop, one.inputs["champion"])
            steps = _RoundSteps(loop, one, champion, params, tracker, report)
            decision = steps.finish(one.read(MERGED))
    return decision


def _current_champion(loop: Loop, registry: Registry) -> Record | None:
    """Return the champion that a round is compared with, as its inputs record it.

    If an interrupted round has just promoted its own artifact, that is the champion before it.
    """
    champion = registry.champion()
    if champion is None:
        return None
    for one in loop.rounds():
        if not one.decision and one.model_version == champion.model_version:
            return one.inputs["champion"]  # type: ignore[no-any-return]
    return {"model_version": champion.model_version, "version": champion.number}


def _champion_round(loop: Loop, champion: Record | None) -> Round | None:
    """Return the round that made the champion: its folder has the data to compare with."""
    if champion is None:
        return None
    made = loop.made_by(champion["model_version"])
    if made is None:
        raise UsageError(
            f"the champion, model {champion['model_version']}, was not made by a round of "
            f"{loop.folder}; use a separate store for the loop, or move the alias "
            "`champion` to a version that a round made"
        )
    return made


def _serve_champion(loop: Loop, registry: Registry) -> None:
    champion = registry.champion()
    if champion is not None:
        loop.serve(champion.model_version)


def _check_files(sources: Sequence[LogSource]) -> None:
    for source in sources:
        if not source.path.is_file():
            raise UsageError(f"there is no such log: {source.path}")
