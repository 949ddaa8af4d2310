"""The folder of the loop: its rounds, what each was made of, and the lock that keeps runs apart.

::

    LOOP/lock                    held while a round runs
    LOOP/mlflow.db               every run and version, unless MLFLOW_TRACKING_URI is set
    LOOP/champion                link to the artifact that is champion
    LOOP/verdict.json, .html     of the last call
    LOOP/rounds/0001/            laid out like what `querytier run --out` writes, and:
        inputs.json              what the round is made of
        fresh/                   the new logs, prepared
        data/record.parquet      every example taken in so far
        done/STEP                steps that are not repeated
        verdict.json, .html      written last: without it the round goes on where it ended
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from querytier.errors import QuerytierError
from querytier.files import write_json

__all__ = ["VERDICT", "Loop", "LoopBusyError", "Round", "fingerprint_of"]

VERDICT = "verdict.json"
_INPUTS = "inputs.json"


class LoopBusyError(QuerytierError):
    """Another round is running in the same folder."""


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
        """From 1."""
        return int(self.folder.name)

    @property
    def verdict(self) -> dict[str, Any] | None:
        """The verdict; None while the round is not complete."""
        return _read(self.folder / VERDICT)

    @property
    def inputs(self) -> dict[str, Any]:
        """What the round is made of."""
        return _read(self.folder / _INPUTS) or {}

    @property
    def model_version(self) -> str:
        """Of the artifact; empty where there is none yet."""
        manifest = _read(self.folder / "model" / "manifest.json") or {}
        return str(manifest.get("model_version", ""))

    def once(self, step: str, action: Callable[[], object]) -> None:
        """Do a step, unless it was completed before.

        A step that was cut short is done again from its beginning, so it has to be one that can be.
        """
        mark = self.folder / "done" / step
        if not mark.exists():
            action()
            mark.parent.mkdir(exist_ok=True)
            mark.touch()


@dataclass(frozen=True, slots=True)
class Loop:
    """What `--out` of `querytier retrain` is.

    Attributes
    ----------
    folder : Path
    """

    folder: Path

    def rounds(self) -> list[Round]:
        """Return all rounds, the oldest first."""
        folders = (self.folder / "rounds").glob("[0-9]*")
        return sorted((Round(path) for path in folders if path.is_dir()), key=lambda r: r.number)

    def complete(self) -> list[Round]:
        """Return the rounds that have a verdict, the oldest first."""
        return [one for one in self.rounds() if (one.folder / VERDICT).is_file()]

    def opened(self, inputs: Mapping[str, Any]) -> Round:
        """Return the round of these inputs: the one that was cut short, or a new one.

        One that was cut short and is made of something else is begun anew.
        """
        unfinished = [one for one in self.rounds() if not (one.folder / VERDICT).is_file()]
        for one in unfinished:
            if one.inputs == inputs:
                return one
            shutil.rmtree(one.folder)
        number = max((one.number for one in self.complete()), default=0) + 1
        new = Round(self.folder / "rounds" / f"{number:04d}")
        new.folder.mkdir(parents=True)
        write_json(new.folder / _INPUTS, inputs)
        return new

    def made_by(self, model_version: str) -> Round | None:
        """Return the last round that exported a model; None where none did."""
        found = [one for one in self.rounds() if one.model_version == model_version]
        return found[-1] if found else None

    def serve(self, round_: Round) -> None:
        """Point `LOOP/champion` to the artifact of a round, at once."""
        link, scratch = self.folder / "champion", self.folder / ".champion.partial"
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(Path("rounds") / round_.folder.name / "model")
        scratch.replace(link)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder; the lock goes with the process, however it ends.

        Raises
        ------
        LoopBusyError
            If another run holds it; the message says which.
        """
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        path, holder = self.folder / "lock", self.folder / "lock.json"
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            said = _read(holder) or {}
            raise LoopBusyError(
                f"{self.folder} is locked: process {said.get('process', 'unknown')} on "
                f"{said.get('machine', 'an unknown machine')} runs a round since "
                f"{said.get('since', 'an unknown time')}; wait for it, or end it: what it did is "
                "not lost"
            ) from None
        try:
            write_json(holder, _holder())
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def fingerprint_of(paths: Sequence[Path]) -> str:
    """Return the sha256 of files' names and contents, in any order, in 64 hexadecimal digits."""
    digests = []
    for path in paths:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digests.append(f"{path.name} {content}")
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def _holder() -> dict[str, Any]:
    import platform
    from datetime import UTC, datetime

    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"process": os.getpid(), "machine": platform.node(), "since": now}


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None
