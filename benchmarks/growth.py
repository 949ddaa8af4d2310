"""Speed and peak memory of `querytier prepare` at 10k, 100k and 1M log lines."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sections import write_section

SIZES = (10_000, 100_000, 1_000_000)
WORDS = [f"word{n}" for n in range(5000)]


def main() -> int:
    """Measure each size in its own process; write the table to RESULTS.md."""
    measured = {size: measure(size) for size in SIZES}
    text = table(measured)
    print(text)
    write_section(Path(__file__).with_name("RESULTS.md"), "bench-growth", text)
    return 0


def table(measured: dict[int, tuple[float, float]]) -> str:
    """Return the Markdown table and the text above it."""
    reference = measured[100_000][1]
    lines = [
        "## `querytier prepare` on growing logs\n",
        f"Written by `make bench-growth`, {os.cpu_count()} cores; lines of 4 to 40 words.",
        "Near duplicates are not searched, which is the default above 200,000 rows.\n",
        "| lines | seconds | lines per second | peak memory (MB) | against 100k |",
        "|---:|---:|---:|---:|---:|",
    ]
    for size, (seconds, memory) in measured.items():
        rate, ratio = size / seconds, memory / reference
        lines += [f"| {size:,} | {seconds:.1f} | {rate:,.0f} | {memory:.0f} | {ratio:.2f} |"]
    return "\n".join(lines)


def measure(size: int) -> tuple[float, float]:
    """Prepare a log of `size` lines; return wall seconds and peak memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.jsonl")
        write_log(log, size)
        params = Path(folder, "params.yaml")
        params.write_text("prepare: {near_duplicate_rows: 0}\n")
        command = [sys.executable, "-m", "querytier", "prepare", str(log), "--out", f"{folder}/out"]
        command += ["--params", str(params)]
        started = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603
            command, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"prepare failed at {size} lines")
        return time.perf_counter() - started, usage.ru_maxrss / 1024


def write_log(path: Path, size: int, *, with_ids: bool = True) -> None:
    """Write a log of scored queries; one line in a thousand is malformed."""
    dice = random.Random(0)  # noqa: S311
    with path.open("w") as file:
        for n in range(size):
            record = {
                **({"id": f"request-{n}"} if with_ids else {}),
                "query": " ".join(dice.choices(WORDS, k=dice.randrange(4, 40))),
                "cheap_score": float(dice.random() < 0.7),
                "frontier_score": float(dice.random() < 0.9),
                "group": f"conversation-{n // 3}",
            }
            file.write(json.dumps(record)[: 20 if n % 1000 == 0 else None] + "\n")


if __name__ == "__main__":
    sys.exit(main())
