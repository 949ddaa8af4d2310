"""Requests per second that `querytier serve` answers in time, compared with an echo.

python benchmarks/serving.py [--static DIR --minilm DIR | --artifacts DIR] [--repeats N]

Open loop on loopback: requests arrive at random at a fixed rate, and the time of each starts when
it is due. The highest rate at which the 99th percentile stays below a limit is found by bisection.
Services, echo and load generator are separate processes; on a machine with four or more processors,
the measured one gets two of them, the generator the others. Writes the section bench-serve of
RESULTS.md.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sections import write_section
from serving_load import Load, Measured
from serving_page import Found, Subject, serving_page

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
STATIC, MINILM = "static, linear", "MiniLM int8"
STEPS = 6
BATCH = 64
QUERIES = 400


@dataclass(frozen=True, slots=True)
class Processors:
    """The processors of the service and of the generator; None if there are too few to separate."""

    service: tuple[int, ...] | None
    generator: tuple[int, ...] | None


class Process:
    """A worker process that answers each line with a line, or a service."""

    def __init__(self, command: Sequence[object], processors: tuple[int, ...] | None) -> None:
        self.running = subprocess.Popen(  # noqa: S603 our own scripts
            [*_on(processors), sys.executable, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )

    def line(self) -> str:
        """Return the next line of its output."""
        assert self.running.stdout is not None
        return self.running.stdout.readline()

    def ask(self, request: Any) -> Any:
        """Send a request, and return the answer."""
        assert self.running.stdin is not None
        self.running.stdin.write(json.dumps(request) + "\n")
        self.running.stdin.flush()
        return json.loads(self.line())

    def cpu_seconds(self) -> float:
        """Return the processor time used so far."""
        stat = Path(f"/proc/{self.running.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def process(*command: object, on: tuple[int, ...] | None) -> Iterator[Process]:
    """Run a process within the block, and terminate it at the end."""
    started = Process(command, on)
    try:
        yield started
    finally:
        started.running.terminate()
        started.running.communicate(timeout=60)


class Bench:
    """Puts services under load, one after the other, several times."""

    def __init__(self, generator: Process, folder: Path, seconds: float) -> None:
        self._generator = generator
        self._seconds = seconds
        self._seed = 0
        queries = _queries()
        self._bodies = folder / "bodies"
        self._bodies.write_text("\n".join(json.dumps({"query": one}) for one in queries))
        starts = range(0, QUERIES - BATCH, BATCH)
        batches = [{"queries": queries[start : start + BATCH]} for start in starts]
        self._batches = folder / "batches"
        self._batches.write_text("\n".join(map(json.dumps, batches)))

    def load(self, port: int, rate: float | None, connections: int = 50) -> Measured:
        """Return the measurements of one load with single queries."""
        self._seed += 1
        bodies = str(self._bodies)
        load = Load(port, "/v1/decide", bodies, rate, self._seconds, connections, seed=self._seed)
        return Measured(**self._generator.ask(asdict(load)))

    def highest(self, port: int, limit_ms: float) -> float:
        """Return the highest rate at which the 99th percentile stays below a limit, or 0."""
        capacity = self.load(port, None).a_second
        low, high = 0.0, capacity * 1.1
        rate = capacity * 0.7
        for _ in range(STEPS):
            # A failed load is tried once more, because the machine and not the service may have
            # stalled.
            if self._keeps(port, rate, limit_ms) or self._keeps(port, rate, limit_ms):
                low = rate
            else:
                high = rate
            rate = (low + high) / 2
        return low

    def _keeps(self, port: int, rate: float, limit_ms: float) -> bool:
        found = self.load(port, rate)
        return found.p99_ms <= limit_ms and not found.refused

    def batches(self, port: int) -> float:
        """Return queries per second in batches, with four batches at a time."""
        bodies = str(self._batches)
        load = Load(port, "/v1/decide/batch", bodies, None, self._seconds, 4, hopeless_s=10)
        return BATCH * Measured(**self._generator.ask(asdict(load))).a_second

    def found(self, subject: Subject, service: Process, port: int) -> Found:
        """Return the measurements of one repeat for a subject."""
        highest = {limit: self.highest(port, limit) for limit in subject.limits_ms}
        usual = max(highest.values()) / 2 or 10.0
        before = service.cpu_seconds()
        half = self.load(port, usual)
        used = service.cpu_seconds() - before
        alone = self.load(port, None, connections=1)
        return Found(
            highest=highest,
            half=half,
            cpu_us=1e6 * used / max(half.answered, 1),
            alone=alone,
            batch=self.batches(port) if subject.artifact else None,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the page."""
    options, busy = _parser().parse_args(arguments), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as running:
        folder = Path(temporary)
        subjects = _subjects(options, folder)
        where = _processors()
        generator = running.enter_context(process(HERE / "serving_load.py", on=where.generator))
        bench = Bench(generator, folder, options.seconds)
        services = {
            one.name: running.enter_context(process(*_command(one, folder), on=where.service))
            for one in subjects
        }
        ports = {name: _port(one.line()) for name, one in services.items()}
        found: dict[str, list[Found]] = {one.name: [] for one in subjects}
        direct: dict[str, list[float]] = {one.name: [] for one in subjects if one.artifact}
        for repeat in range(options.repeats):
            for one in subjects:
                found[one.name].append(bench.found(one, services[one.name], ports[one.name]))
                if one.artifact:
                    direct[one.name].append(in_process(one.artifact, where.service))
                print(f"repeat {repeat + 1}, {one.name}: {found[one.name][-1]}", flush=True)
    text = serving_page(subjects, found, direct, machine(where, busy), options.seconds)
    if options.out:
        Path(options.out).write_text(text, "utf-8")
    else:
        write_section(HERE / "RESULTS.md", "bench-serve", text)
    return 0


def in_process(artifact: Path, processors: tuple[int, ...] | None) -> float:
    """Return the decisions per second of a router in process, on one thread."""
    with process(HERE / "latency_worker.py", "querytier", artifact, on=processors) as worker:
        worker.line()
        one, _ = worker.ask({"texts": _queries()})
        return float(one)


def machine(where: Processors, busy: float) -> str:
    """Return a description of the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "?")
    cores = len(os.sched_getaffinity(0))
    shared = "shared by all processes" if where.service is None else "2 of them for the service"
    others = f"load average before the start {busy:.1f}"
    return f"{model}, {cores} cores, {shared}, {others}, Python {platform.python_version()}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--static", type=Path, help="an artifact with a static encoder")
    parser.add_argument("--minilm", type=Path, help="an artifact with MiniLM in int8")
    parser.add_argument(
        "--artifacts", type=Path, help="folder of artifacts that bench-latency has kept"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds per load")
    parser.add_argument("--out", help="write the page to this file instead of RESULTS.md")
    return parser


def _subjects(options: argparse.Namespace, folder: Path) -> list[Subject]:
    static, minilm = options.static, options.minilm
    if static is None or minilm is None:
        from latency_variants import make_artifacts

        made = make_artifacts(options.artifacts or folder)
        static, minilm = made[STATIC], made[MINILM]
    return [
        Subject("echo", (10.0, 30.0)),
        Subject(STATIC, (10.0,), static),
        Subject(f"{STATIC}, logged", (10.0,), static, is_logged=True),
        Subject(MINILM, (30.0,), minilm),
    ]


def _command(subject: Subject, folder: Path) -> list[object]:
    if subject.artifact is None:
        return [HERE / "serving_echo.py"]
    command = ["-m", "querytier", "serve", "--artifact", subject.artifact, "--port", 0]
    command += ["--log-level", "warning"]
    return [*command, "--log", folder / "log"] if subject.is_logged else command


def _port(line: str) -> int:
    found = re.search(r"http://[\w.]+:(\d+)", line)
    if found is None:
        raise SystemExit(f"a service did not start: {line!r}")
    return int(found[1])


def _queries() -> list[str]:
    lines = (ROOT / "data" / "seed" / "seed.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["query"] for line in lines[:QUERIES]]


def _processors() -> Processors:
    own = sorted(os.sched_getaffinity(0))
    if len(own) < 4:
        return Processors(None, None)
    return Processors(tuple(own[:2]), tuple(own[2:]))


def _on(processors: tuple[int, ...] | None) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, processors))] if processors else []


if __name__ == "__main__":
    sys.exit(main())
