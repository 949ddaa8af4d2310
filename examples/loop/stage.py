"""Code that both stories share: a folder, calls of the verbs, printed progress, and checks."""

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

__all__ = ["QUICK", "Stage", "VerbOutput", "run_story"]

QUICK = """\
prepare: {label_rules: [cheap_fails_frontier_succeeds]}
train: {folds: 3, target_frontier_rate: 0.35}
export: {precision: fp32}
evaluate: {bootstrap: 200, latency_decisions: 20}
gate: {bootstrap: 500, latency_queries: 100, latency_margin: 2.0}
"""
_SHOWN = 24


@dataclass(frozen=True, slots=True)
class VerbOutput:
    """Exit code and printed lines of a verb.

    Attributes
    ----------
    code : int
    lines : list of str
    """

    code: int
    lines: list[str]


@dataclass
class Stage:
    """The folder of a story, and what it checks.

    Attributes
    ----------
    folder : Path
        Holds everything; the loop's own folder is `folder/loop`.
    """

    folder: Path
    params: str = QUICK
    _failed: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.with_params(self.params)

    def with_params(self, params: str) -> None:
        """Write the parameters that the verbs read from now on."""
        (self.folder / "params.yaml").write_text(params)

    @property
    def loop(self) -> Path:
        """The folder of the loop."""
        return self.folder / "loop"

    def say(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        print(f"{time.monotonic() - self._started:6.1f}s  {text}", flush=True)

    def check(self, what: str, *, holds: bool) -> None:
        """Print whether a claim of the story holds, and remember it if it does not."""
        self.say(f"{'holds' if holds else 'DOES NOT HOLD'}: {what}")
        if not holds:
            self._failed.append(what)

    def end(self) -> int:
        """Return the exit code."""
        self.say("the story holds" if not self._failed else f"does not hold: {self._failed}")
        return int(bool(self._failed))

    def querytier(self, verb: str, *arguments: object) -> VerbOutput:
        """Run a verb in its own process, and print its output."""
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
        return VerbOutput(done.returncode, lines)

    def retrain(self, *arguments: object, loop: Path | None = None) -> dict[str, Any]:
        """Run `querytier retrain` in the loop, or in another one; return the round's decision."""
        folder = loop or self.loop
        output = self.querytier("retrain", *arguments, "--out", folder)
        rounds = sorted((folder / "rounds").glob("*/verdict.json"))
        if output.code or not rounds:
            raise RuntimeError(f"retrain ended with {output.code}: {output.lines}")
        decision: dict[str, Any] = json.loads(rounds[-1].read_text())
        return decision

    def copied_loop(self) -> Path:
        """Return a copy of the loop that no service uses."""
        return Path(shutil.copytree(self.loop, self.folder / "loop-copy", symlinks=True))

    def write_first_log(self, population: Population, count: int, days_ago: int) -> Path:
        """Write a log with both tiers' scores that starts `days_ago`."""
        path = self.folder / "first.jsonl"
        start = datetime.now(UTC) - timedelta(days=days_ago)
        with path.open("w") as file:
            for number, one in enumerate(population.draw_many(count)):
                record = {
                    "id": f"first-{number}",
                    "query": one.text,
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


def run_story(play: Callable[[Stage], int], description: str | None, params: str = QUICK) -> int:
    """Run a story in `--out`, or in a temporary folder; return its exit code."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, help="write to this folder and keep it")
    out = parser.parse_args().out
    if out is not None:
        return play(Stage(out, params))
    with tempfile.TemporaryDirectory() as folder:
        return play(Stage(Path(folder), params))
