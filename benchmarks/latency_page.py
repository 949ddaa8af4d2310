"""The section bench-latency of RESULTS.md: tables, ratios and targets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np
from latency_floor import Floor

__all__ = ["Results", "latency_page"]

STATIC, INT8, FP32 = "static, linear", "MiniLM 3 layers int8", "MiniLM fp32"
WHOLE_INT8 = "MiniLM int8"
USUAL = "sentence-transformers + LR"
LAYERS = {"MiniLM 3 layers": 3, "MiniLM": 6}
CUT = "4,096 characters"


@dataclass(frozen=True)
class Results:
    """The measurements, by variant.

    Attributes
    ----------
    microseconds : dict
        Time of each call, by variant and input.
    cold_seconds, resident_mb, size_mb : dict of str to float
    throughputs : dict of str to (float, float)
        Decisions per second on one thread, and on two.
    floors : sequence of Floor
    mixed_floor : dict of str to float
        Queries of the seed log per second that the products of one layer allow, by precision.
    memory_gb_per_second : float
    machine : str
    """

    microseconds: dict[str, dict[str, list[float]]]
    cold_seconds: dict[str, float]
    resident_mb: dict[str, float]
    size_mb: dict[str, float]
    throughputs: dict[str, tuple[float, float]]
    floors: Sequence[Floor]
    mixed_floor: dict[str, float]
    memory_gb_per_second: float
    machine: str

    def ms(self, name: str, of_input: str, percentile: float = 50) -> float:
        """Return a percentile of a variant's decisions, in milliseconds."""
        return float(np.percentile(self.microseconds[name][of_input], percentile)) / 1000

    def floor_ms(self, name: str, tokens: int) -> float | None:
        """Return the time of an encoder's products alone; None for variants without an encoder."""
        encoder = name.rsplit(" ", 1)[0]
        if encoder not in LAYERS:
            return None
        precision = "fp32" if name.endswith("fp32") else "int8"
        floor = next(one for one in self.floors if one.tokens == tokens)
        return LAYERS[encoder] * floor.milliseconds[precision]


def latency_page(results: Results) -> str:
    """Return the section as Markdown."""
    parts = (_preface, _times, _ratios, _processes, _floors, _targets)
    return "\n\n".join("\n".join(part(results)) for part in parts)


def _preface(results: Results) -> Iterator[str]:
    calls = len(results.microseconds[STATIC]["8 tokens"])
    yield "## Latency"
    yield ""
    yield (
        f"Written by `make bench-latency` on {datetime.now(UTC):%Y-%m-%d}: {results.machine}, "
        f"ONNX Runtime {version('onnxruntime')}, sentence-transformers "
        f"{version('sentence-transformers')}. From string to decision, batch 1, one thread, one "
        f"process per variant, in turn; {calls} different texts of random words per cell. The "
        "machine is noisy, so ratios matter more than times."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|---|" + "---:|" * (len(header) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _times(results: Results) -> Iterator[str]:
    kinds = list(next(iter(results.microseconds.values())))
    yield ("Milliseconds, p50 / p95 / p99. MiniLM reads at most 128 tokens, static the whole view.")
    yield ""
    yield from _table(
        ["variant", *kinds],
        [
            [name, *(_percentiles(results, name, kind) for kind in kinds)]
            for name in results.microseconds
        ],
    )


def _percentiles(results: Results, name: str, kind: str) -> str:
    return " / ".join(f"{results.ms(name, kind, p):.3g}" for p in (50, 95, 99))


def _ratios(results: Results) -> Iterator[str]:
    kinds = list(next(iter(results.microseconds.values())))
    yield f"How many times faster than {USUAL}, by the medians of the same run:"
    yield ""
    yield from _table(
        ["variant", *kinds],
        [
            [
                name,
                *(f"{results.ms(USUAL, kind) / results.ms(name, kind):.3g}" for kind in kinds),
            ]
            for name in results.microseconds
            if name != USUAL
        ],
    )


def _processes(results: Results) -> Iterator[str]:
    yield (
        "Cold start is the time of a process with one decision (median of five), memory is "
        "resident memory after one, size is graph, tokenizer and manifest. Throughput is for the "
        "seed log's queries, one by one, on one thread and on two that share a router."
    )
    yield ""
    yield from _table(
        ["variant", "cold start, s", "memory, MB", "size, MB", "queries/s", "two threads"],
        [
            [
                name,
                f"{results.cold_seconds[name]:.2f}",
                f"{results.resident_mb[name]:.0f}",
                f"{results.size_mb[name]:.1f}" if name in results.size_mb else "n/a",
                f"{one:,.0f}",
                f"{two / one:.2f}x",
            ]
            for name, (one, two) in results.throughputs.items()
        ],
    )


def _floors(results: Results) -> Iterator[str]:
    rates = "; ".join(
        f"{one.tokens} tokens: {one.rate('fp32'):,.0f} in fp32, {one.rate('int8'):,.0f} in int8"
        for one in results.floors
    )
    layer = "; ".join(f"{one.tokens} tokens: {one.operations / 1e9:.2f}" for one in results.floors)
    bytes_read = 128 * 256 * 4
    micros = bytes_read / results.memory_gb_per_second / 1e3
    yield (
        "The floor is the time of an encoder's products with constant matrices alone, with the "
        "same operators, each in its own graph. Measured rates in billions of operations per "
        f"second ({rates}); a layer has, in billions ({layer}), including attention. Rows "
        f"scattered over a table are read at {results.memory_gb_per_second:.1f} GB per second, so "
        f"the 128 vectors of a static encoder take at least {micros:.0f} microseconds of memory "
        "access."
    )
    yield ""
    names = [name for name in results.microseconds if results.floor_ms(name, 8) is not None]
    tokens = [floor.tokens for floor in results.floors]
    yield from _table(
        [
            "variant",
            *(f"floor at {count}, ms" for count in tokens),
            *(f"p50 over it at {count}" for count in tokens),
            "seed log, over it",
        ],
        [
            [
                name,
                *(f"{results.floor_ms(name, count):.3g}" for count in tokens),
                *(f"{_over_floor(results, name, count):.2f}x" for count in tokens),
                f"{_mixed_over_floor(results, name):.2f}x",
            ]
            for name in names
        ],
    )


def _over_floor(results: Results, name: str, tokens: int) -> float:
    floor = results.floor_ms(name, tokens)
    assert floor is not None
    return results.ms(name, f"{tokens} tokens") / floor


def _mixed_over_floor(results: Results, name: str) -> float:
    precision = "fp32" if name.endswith("fp32") else "int8"
    allowed = results.mixed_floor[precision] / LAYERS[name.rsplit(" ", 1)[0]]
    return allowed / results.throughputs[name][0]


def _targets(results: Results) -> Iterator[str]:
    ms = results.ms
    longest = ms(STATIC, "100,000 characters", 99) / ms(STATIC, CUT, 99)
    longest_int8 = ms(INT8, "100,000 characters", 99) / ms(INT8, CUT, 99)
    one, two = results.throughputs[STATIC]
    one_int8, two_int8 = results.throughputs[INT8]
    usual = ms(USUAL, "128 tokens")
    rows = [
        ("static, 8 tokens, p50, ms", ms(STATIC, "8 tokens"), "<=", 0.02),
        ("static, 128 tokens, p50, ms", ms(STATIC, "128 tokens"), "<=", 0.07),
        ("static, 128 tokens, p99, ms", ms(STATIC, "128 tokens", 99), "<=", 0.2),
        ("MiniLM 3 layers int8, 128 tokens, p50, ms", ms(INT8, "128 tokens"), "<=", 4.5),
        ("MiniLM int8, 128 tokens, p50, ms", ms(WHOLE_INT8, "128 tokens"), "<=", 4.5),
        (f"3 layers int8 against {USUAL}, times", usual / ms(INT8, "128 tokens"), ">=", 8),
        (f"MiniLM int8 against {USUAL}, times", usual / ms(WHOLE_INT8, "128 tokens"), ">=", 8),
        ("3 layers int8 over its floor, 128 tokens", _over_floor(results, INT8, 128), "<=", 2),
        ("static, p99 of 100,000 over 4,096 characters", longest, "<=", 1.5),
        ("3 layers int8, p99 of 100,000 over 4,096 characters", longest_int8, "<=", 1.5),
        ("static, cold start, s", results.cold_seconds[STATIC], "<=", 0.3),
        ("static, memory, MB", results.resident_mb[STATIC], "<=", 100),
        ("static, two threads over one", two / one, ">=", 1.7),
        ("3 layers int8, two threads over one", two_int8 / one_int8, ">=", 1.7),
        (
            "MiniLM fp32 on the seed log, over its floor",
            _mixed_over_floor(results, FP32),
            "<=",
            1.2,
        ),
    ]
    yield from _table(
        ["target", "measured", "wanted", "reached"],
        [
            [name, f"{found:.3g}", f"{sign} {wanted:g}", _reached(found, sign, wanted)]
            for name, found, sign, wanted in rows
        ],
    )


def _reached(found: float, sign: str, wanted: float) -> str:
    return "yes" if (found <= wanted if sign == "<=" else found >= wanted) else "no"
