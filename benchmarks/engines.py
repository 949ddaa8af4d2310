"""`prepare` and `score` through both engines, side by side: seconds and peak memory."""

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
    """Measure both engines, in turn, and write the table into RESULTS.md."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        params = folder / "params.yaml"
        params.write_text("prepare: {near_duplicate_rows: 0}\n")
        many, few = logs(folder / "many", PREPARED), logs(folder / "few", SCORED)
        artifact = ROOT / "artifacts" / "model"
        measured = {
            f"prepare, {PREPARED:,} rows": in_turn(
                ["prepare", *many, "--params", params, "--out", folder / "out"]
            ),
            f"score, {SCORED:,} rows": in_turn(
                ["score", *few, "--artifact", artifact, "--out", folder / "scores.parquet"]
            ),
        }
    text = table(measured)
    print(text)
    write_section(ROOT / "benchmarks" / "RESULTS.md", "bench-engines", text)
    return 0


def logs(folder: Path, rows: int) -> list[Path]:
    """Write a log in several files, without ids, as these would come again in each."""
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
    """Return the Markdown table with what stands above it."""
    lines = [
        "## Both engines, side by side\n",
        f"Written by `make bench-engines`, {os.cpu_count()} cores, logs in {FILES} files; the",
        f"median of {ROUNDS} rounds, the engines in turn. Memory is that of the process that was",
        "started; Daft's workers have their own. Decisions take the whole encoder, so fewer rows",
        "are scored.\n",
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
