"""Time decisions of each kind of artifact and of common alternatives.

Each variant is a process with one thread, and the variants take turns, so that other load on the
machine affects all of them alike. Writes the section bench-latency of RESULTS.md.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from latency_floor import measure_floor, memory_rate
from latency_page import Results, latency_page
from latency_variants import BASELINES, VARIANTS, Variant, make_artifacts, make_baselines
from sections import write_section

from querytier.classifier.model.encoder import load_encoder
from querytier.data.examples import Examples
from querytier.data.text_view import MAX_CHARACTERS, text_view

ROOT = Path(__file__).parents[1]
TOKENS = (8, 32, 128, 256, 512)
CHARACTERS = (MAX_CHARACTERS, 10_000, 100_000)
CALLS, BLOCK = 500, 25
STARTS = 5
ONE_THREAD = {
    **os.environ,
    **dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1"),
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore",
}


def main(*folders: str) -> int:
    """Measure, and write the page; artifacts stay in the given folder, if any."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(*folders or [folder])
        artifacts = make_artifacts(out)
        baselines = make_baselines(out)
        queries = list(Examples.read_parquet(out / "data" / "examples.parquet").query)
        variants = [*VARIANTS, *BASELINES]
        folders = {one.name: artifacts.get(one.name, baselines) for one in variants}
        starts = {one.name: cold_start(one, folders[one.name]) for one in variants}
        workers = {one.name: Worker(one, folders[one.name]) for one in variants}
        texts = inputs(queries)
        measured = interleaved(workers, texts)
        results = Results(
            microseconds=measured,
            cold_seconds=starts,
            resident_mb={name: worker.resident_mb for name, worker in workers.items()},
            size_mb={name: size_mb(path) for name, path in artifacts.items()},
            throughputs={name: throughputs(worker, queries) for name, worker in workers.items()},
            floors=[measure_floor(tokens) for tokens in TOKENS[:3]],
            mixed_floor={
                precision: mixed_floor(queries, precision) for precision in ("fp32", "int8")
            },
            memory_gb_per_second=memory_rate(),
            machine=machine(),
        )
        for worker in workers.values():
            worker.close()
    write_section(ROOT / "benchmarks" / "RESULTS.md", "bench-latency", latency_page(results))
    return 0


class Worker:
    """A variant in its own process."""

    def __init__(self, variant: Variant, folder: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 our own script
            command(variant, folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ONE_THREAD,
        )
        self.resident_mb: float = self._answer()

    def ask(self, request: Any) -> Any:
        """Return the process's answer to a request."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def command(variant: Variant, folder: Path) -> list[str]:
    """Return the command that starts a worker."""
    script = Path(__file__).with_name("latency_worker.py")
    return [sys.executable, str(script), variant.kind, str(folder)]


def cold_start(variant: Variant, folder: Path) -> float:
    """Return the median seconds of a process that starts, decides once and ends."""
    seconds = []
    for _ in range(STARTS):
        started = time.perf_counter()
        subprocess.run([*command(variant, folder), "--once"], check=True, env=ONE_THREAD)  # noqa: S603
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def inputs(queries: Sequence[str]) -> dict[str, list[str]]:
    """Return texts by length, one for each call, all different."""
    random = np.random.default_rng(0)
    words = [word for query in queries for word in query.split()]
    tokenizer = load_encoder().tokenizer

    def of_tokens(tokens: int) -> str:
        """Return words that make this number of tokens, including [CLS] and [SEP]."""
        picked = random.choice(words, tokens)
        costs = np.cumsum([len(tokenizer.token_ids(word)) - 2 for word in picked])
        text = " ".join(picked[: max(1, int((costs <= tokens - 2).sum()))])
        return text_view(text)

    def of_characters(characters: int) -> str:
        return " ".join(random.choice(words, characters // 3))[:characters]

    calls = range(CALLS)
    return {
        **{f"{tokens} tokens": [of_tokens(tokens) for _ in calls] for tokens in TOKENS},
        **{f"{size:,} characters": [of_characters(size) for _ in calls] for size in CHARACTERS},
    }


def interleaved(
    workers: dict[str, Worker], texts: dict[str, list[str]]
) -> dict[str, dict[str, list[float]]]:
    """Return microseconds by variant and input."""
    found: dict[str, dict[str, list[float]]] = {
        name: {kind: [] for kind in texts} for name in workers
    }
    for worker in workers.values():
        worker.ask([one[0] for one in texts.values()] * 5)
    for start in range(0, CALLS, BLOCK):
        for kind, of_kind in texts.items():
            for name, worker in workers.items():
                found[name][kind] += worker.ask(of_kind[start : start + BLOCK])
    return found


def throughputs(worker: Worker, queries: Sequence[str]) -> tuple[float, float]:
    """Return decisions per second on one and on two threads, medians of five."""
    found = [worker.ask({"texts": list(queries[:400])}) for _ in range(5)]
    one, two = np.median(found, axis=0)
    return float(one), float(two)


def mixed_floor(queries: Sequence[str], precision: str) -> float:
    """Return the queries per second that the matrix products of one layer allow."""
    tokenizer = load_encoder().tokenizer
    lengths = np.array([len(tokenizer.token_ids(text_view(query))) for query in queries[:400]])
    known = [measure_floor(tokens) for tokens in (4, 8, 16, 32, 64, 128)]
    times = [floor.milliseconds[precision] for floor in known]
    milliseconds = np.interp(lengths, [floor.tokens for floor in known], times)
    return float(1000 / milliseconds.mean())


def size_mb(artifact: Path) -> float:
    """Return the size of the files that a router loads: graph, tokenizer and manifest."""
    needed = ("model.onnx", "tokenizer.json", "manifest.json")
    paths = [artifact / name for name in needed if (artifact / name).is_file()]
    return sum(path.stat().st_size for path in paths) / 1e6


def machine() -> str:
    """Return a description of the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "?")
    flags = next((line for line in lines if line.startswith("flags")), "")
    vnni = "with" if "vnni" in flags else "without"
    return f"{model} {vnni} VNNI, {os.cpu_count()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
