"""Seconds and peak memory of `prepare` and `score` with both engines."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from growth import write_log
from sections import write_section

ROOT = Path(__file__).parents[1]
ENGINES = ("local", "daft")
FILES = 8
PREPARED, SCORED = 200_000, 4_000
ROUNDS = 3


def main() -> int:
    """Measure both engines in turn, and write the table to RESULTS.md."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        params = folder / "params.yaml"
        params.write_text("prepare: {near_duplicate_rows: 0}\n")
        large, small = logs(folder / "large", PREPARED), logs(folder / "small", SCORED)
        artifact = ROOT / "artifacts" / "model"
        measured = {
            f"prepare, {PREPARED:,} rows": in_turn(
                ["prepare", *large, "--params", params, "--out", folder / "out"]
            ),
            f"score, {SCORED:,} rows": in_turn(
                ["score", *small, "--artifact", artifact, "--out", folder / "scores.parquet"]
            ),
        }
    text = table(measured)
    print(text)
    write_section(ROOT / "benchmarks" / "RESULTS.md", "bench-engines", text)
    return 0


def logs(folder: Path, rows: int) -> list[Path]:
    """Write a log in several files, without ids, which would be the same in each file."""
    folder.mkdir()
    paths = [folder / f"part-{part}.jsonl" for part in range(FILES)]
    for path in paths:
        write_log(path, rows // FILES, with_ids=False)
    return paths


def in_turn(arguments: list[object]) -> dict[str, list[tuple[float, float]]]:
    """Return wall seconds and peak MB of each engine, run in turn."""
    measured: dict[str, list[tuple[float, float]]] = {engine: [] for engine in ENGINES}
    for _ in range(ROUNDS):
        for engine in ENGINES:
            command = [sys.executable, "-m", "querytier", *map(str, arguments), "--engine", engine]
            started = time.perf_counter()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"{' '.join(command)} failed")
            measured[engine].append((time.perf_counter() - started, usage.ru_maxrss / 1024))
    return measured


def table(measured: dict[str, dict[str, list[tuple[float, float]]]]) -> str:
    """Return the Markdown table and the text above it."""
    lines = [
        "## Both engines, side by side\n",
        f"Written by `make bench-engines`, {os.cpu_count()} cores, logs in {FILES} files; the",
        f"median of {ROUNDS} rounds, the engines in turn. Memory is that of the main process,",
        "without Daft's workers. Fewer rows are scored, as a decision runs the encoder.\n",
        "| what | engine | seconds | against local | peak memory (MB) |",
        "|---|---|---:|---:|---:|",
    ]
    for what, engines in measured.items():
        medians = {name: statistics.median(s for s, _ in runs) for name, runs in engines.items()}
        for name, runs in engines.items():
            ratio, memory = medians[name] / medians["local"], max(m for _, m in runs)
            lines += [f"| {what} | {name} | {medians[name]:.1f} | {ratio:.2f} | {memory:.0f} |"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
