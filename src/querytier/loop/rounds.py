"""The folder of a loop: its rounds, their inputs, and the lock between processes.

::

    LOOP/lock                    held while a round runs
    LOOP/mlflow.db               every run and version, unless MLFLOW_TRACKING_URI is set
    LOOP/champion                link to the champion's artifact
    LOOP/verdict.json, .html     the decision of the last call
    LOOP/rounds/0001/            laid out like a folder of `querytier run --out`, and:
        inputs.json              the inputs of the round
        fresh/                   the new logs, prepared
        data/record.parquet      every example recorded so far
        done/STEP                marks of the steps that are complete
        verdict.json, .html      written last: a round without it is resumed
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from querytier.classifier.artifact import file_sha256
from querytier.data.ingest.sources import LogSource
from querytier.errors import QuerytierError
from querytier.files import write_json
from querytier.pipeline.params import Params

__all__ = ["DECISION", "Loop", "LoopBusyError", "Round", "inputs_of", "same_inputs"]

DECISION = "verdict.json"
_INPUTS = "inputs.json"

Record = dict[str, Any]


class LoopBusyError(QuerytierError):
    """Another process runs a round in the same folder."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    @property
    def number(self) -> int:
        """Number of the round, from 1."""
        return int(self.folder.name)

    @property
    def decision(self) -> Record | None:
        """The decision of the round; None until it is complete."""
        return self.read(DECISION) or None

    @property
    def inputs(self) -> Record:
        """The inputs of the round."""
        return self.read(_INPUTS)

    @property
    def model_version(self) -> str:
        """The artifact's model version; empty before it is exported."""
        return str(self.read("model/manifest.json").get("model_version", ""))

    def read(self, name: str) -> Record:
        """Return the content of a JSON file of the round; empty if there is no such file."""
        return _read(self.folder / name)

    def is_done(self, step: str) -> bool:
        """Return whether a step is complete."""
        return (self.folder / "done" / step).exists()

    def once(self, step: str, action: Callable[[], object]) -> None:
        """Run a step, unless it is complete.

        The mark follows the action, so an interrupted step runs again from its beginning: every
        action has to give the same result when it is repeated.
        """
        if not self.is_done(step):
            action()
            mark = self.folder / "done" / step
            mark.parent.mkdir(exist_ok=True)
            mark.touch()


@dataclass(frozen=True, slots=True)
class Loop:
    """The folder given to `querytier retrain --out`.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    def rounds(self) -> list[Round]:
        """Return all rounds, oldest first."""
        folders = (self.folder / "rounds").glob("[0-9]*")
        return sorted((Round(path) for path in folders if path.is_dir()), key=lambda r: r.number)

    def last_complete(self) -> Round | None:
        """Return the last round that has a decision."""
        complete = [one for one in self.rounds() if one.decision]
        return complete[-1] if complete else None

    def open_round(self, inputs: Mapping[str, Any]) -> Round:
        """Return the round made from these inputs: the unfinished one, or a new one.

        An unfinished round with other inputs is deleted, because its steps do not fit.
        """
        for one in self.rounds():
            if one.decision:
                continue
            if one.inputs == inputs:
                return one
            shutil.rmtree(one.folder)
        last = self.last_complete()
        new = Round(self.folder / "rounds" / f"{last.number + 1 if last else 1:04d}")
        new.folder.mkdir(parents=True)
        write_json(new.folder / _INPUTS, inputs)
        return new

    def made_by(self, model_version: str) -> Round | None:
        """Return the last round that exported an artifact; None if none did."""
        found = [one for one in self.rounds() if one.model_version == model_version]
        return found[-1] if found else None

    def serve(self, model_version: str) -> None:
        """Point `LOOP/champion` at an artifact, if a round of this loop made it.

        A link cannot be changed in place; renaming a new one over it is atomic, so a service that
        watches the link never finds it missing.
        """
        made, scratch = self.made_by(model_version), self.folder / ".champion.partial"
        if made is None:
            return
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(Path("rounds") / made.folder.name / "model")
        scratch.replace(self.folder / "champion")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder.

        The operating system releases the lock when the process ends, however it ends; a lock that
        is only a file would survive a kill and block the next scheduled round.

        Raises
        ------
        LoopBusyError
            If another process holds the lock; the message says which.
        """
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        # The holder is described in a second file: filelock owns the content of the first.
        path, holder = self.folder / "lock", self.folder / "lock.json"
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            other = _read(holder)
            raise LoopBusyError(
                f"{self.folder} is locked: process {other.get('process', 'unknown')} on "
                f"{other.get('machine', 'an unknown machine')} has been running a round since "
                f"{other.get('since', 'an unknown time')}; wait until it ends, or end it: the next "
                "call resumes its round"
            ) from None
        try:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            holding = {"process": os.getpid(), "machine": platform.node(), "since": now}
            write_json(holder, holding)
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def inputs_of(
    sources: Sequence[LogSource],
    params: Params,
    since: str | None,
    champion: Record | None,
    before: Round | None,
) -> Record:
    """Return the inputs of a round: logs by content, parameters, champion, previous round.

    Paths are not included, because a scheduler may copy the same logs to another folder.
    """
    scores = {source.scores for source in sources if source.scores}
    content = params.model_dump(mode="json")
    del content["prepare"]["logs"]  # paths
    return {
        "logs": _fingerprint_of([*{source.path for source in sources}, *scores]),
        "files": sorted({source.path.name for source in sources}),
        "read_as": sorted({f"{source.format} {source.pair}" for source in sources}),
        "since": since,
        "params": content,
        "champion": champion,
        "after": before.number if before else 0,
        "querytier": version("querytier"),
    }


def same_inputs(before: Record, now: Record) -> bool:
    """Return whether two rounds read the same logs in the same way, whoever was champion."""
    parts = ("logs", "read_as", "since", "params", "querytier")
    return all(before.get(name) == now[name] for name in parts)


def _fingerprint_of(paths: Sequence[Path]) -> str:
    """Return the sha256 of files' names and contents, whatever their order."""
    lines = sorted(f"{path.name} {file_sha256(path)}" for path in paths)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _read(path: Path) -> Record:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
