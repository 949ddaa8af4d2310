"""What both stories share: a folder, the verbs, the log of what happens, and what has to hold."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from population import CHEAP_COST, FRONTIER_COST, Population

__all__ = ["QUICK", "Stage", "Told", "staged"]

QUICK = """\
prepare: {label_rules: [cheap_fails_frontier_succeeds]}
train: {folds: 3, target_frontier_rate: 0.35}
export: {precision: fp32}
evaluate: {bootstrap: 200, latency_decisions: 20}
gate: {bootstrap: 500, latency_queries: 100, latency_margin: 2.0}
"""
_SHOWN = 24


@dataclass(frozen=True, slots=True)
class Told:
    """What a verb said.

    Attributes
    ----------
    code : int
    lines : list of str
    """

    code: int
    lines: list[str]


@dataclass
class Stage:
    """Where a story plays.

    Attributes
    ----------
    folder : Path
        Gets everything; the loop's own is `folder/loop`.
    """

    folder: Path
    params: str = QUICK
    _failed: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.with_params(self.params)

    def with_params(self, params: str) -> None:
        """Have the verbs read these parameters from now on."""
        (self.folder / "params.yaml").write_text(params)

    @property
    def loop(self) -> Path:
        """The folder of the rounds."""
        return self.folder / "loop"

    def say(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        print(f"{time.monotonic() - self._started:6.1f}s  {text}", flush=True)

    def check(self, what: str, *, holds: bool) -> None:
        """Print whether something holds that the story is about, and remember where it does not."""
        self.say(f"{'holds' if holds else 'DOES NOT HOLD'}: {what}")
        if not holds:
            self._failed.append(what)

    def end(self) -> int:
        """Return the exit code."""
        self.say("the story holds" if not self._failed else f"fell short: {self._failed}")
        return int(bool(self._failed))

    def querytier(self, verb: str, *arguments: object) -> Told:
        """Run a verb in a process of its own, and print what it says."""
        words = [verb, *map(str, arguments), "--params", str(self.folder / "params.yaml")]
        shown = " ".join(words).replace(f"{self.folder}/", "")
        self.say(f"$ querytier {shown}")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "querytier", *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        if done.returncode not in (0, 1):
            lines += done.stderr.splitlines()
        for line in lines[:_SHOWN]:
            self.say(f"    {line[:200]}")
        return Told(done.returncode, lines)

    def retrain(self, *arguments: object, loop: Path | None = None) -> dict[str, Any]:
        """Run `querytier retrain` in the loop, or in another one; return its verdict."""
        folder = loop or self.loop
        told = self.querytier("retrain", *arguments, "--out", folder)
        rounds = sorted((folder / "rounds").glob("*/verdict.json"))
        if told.code or not rounds:
            raise RuntimeError(f"retrain ended with {told.code}: {told.lines}")
        verdict: dict[str, Any] = json.loads(rounds[-1].read_text())
        return verdict

    def copied_loop(self) -> Path:
        """Return a copy of the loop, of which nothing is served."""
        return Path(shutil.copytree(self.loop, self.folder / "loop-copy", symlinks=True))

    def write_first_log(self, population: Population, count: int, days_ago: int) -> Path:
        """Write a log of which both tiers' scores are known, of so many days ago."""
        path = self.folder / "first.jsonl"
        start = datetime.now(UTC) - timedelta(days=days_ago)
        with path.open("w") as file:
            for number, one in enumerate(population.many(count)):
                record = {
                    "id": f"first-{number}",
                    "query": one.query,
                    "source": one.tenant,
                    "group": one.conversation,
                    "time": (start + timedelta(seconds=number)).isoformat(),
                    "cheap_score": one.cheap_score,
                    "frontier_score": one.frontier_score,
                    "cheap_cost": CHEAP_COST,
                    "frontier_cost": FRONTIER_COST,
                }
                file.write(json.dumps(record) + "\n")
        return path


def staged(play: Callable[[Stage], int], description: str | None, params: str = QUICK) -> int:
    """Play a story where the command line says, or in passing; return its exit code."""
    reading = argparse.ArgumentParser(description=description)
    reading.add_argument("--out", type=Path, help="keep what is written there")
    out = reading.parse_args().out
    if out is not None:
        return play(Stage(out, params))
    with tempfile.TemporaryDirectory() as folder:
        return play(Stage(Path(folder), params))
