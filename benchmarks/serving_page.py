"""The section bench-serve of RESULTS.md."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from serving_load import Measured

__all__ = ["Found", "Subject", "serving_page"]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is put under load.

    Attributes
    ----------
    name : str
    limits_ms : tuple of float
        Which the 99th percentile has to keep.
    artifact : Path or None
        None for the echo.
    is_logged : bool
        Whether decisions are logged.
    """

    name: str
    limits_ms: tuple[float, ...]
    artifact: Path | None = None
    is_logged: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What one repeat has found.

    Attributes
    ----------
    highest : dict of float to float
        Requests a second, by the limit that the 99th percentile keeps, in milliseconds.
    half : Measured
        At half of the highest of these rates.
    cpu_us : float
        Processor time of the service for one request, at that rate.
    alone : Measured
        On one connection, the next request when the last was answered.
    batch : float or None
        Queries a second in batches.
    """

    highest: dict[float, float]
    half: Measured
    cpu_us: float
    alone: Measured
    batch: float | None


def serving_page(
    subjects: Sequence[Subject],
    found: Mapping[str, Sequence[Found]],
    direct: Mapping[str, Sequence[float]],
    machine: str,
    seconds: float,
) -> str:
    """Return the section as Markdown."""
    repeats = len(found[subjects[0].name])
    parts = (
        _preface(machine, repeats, seconds),
        _rates(subjects, found),
        _ratios(subjects, found, direct),
    )
    return "\n\n".join("\n".join(part) for part in parts)


def _preface(machine: str, repeats: int, seconds: float) -> Iterator[str]:
    yield "## `querytier serve` under load"
    yield ""
    packages = ", ".join(f"{name} {_version(name)}" for name in ("uvicorn", "httptools", "uvloop"))
    yield (
        f"Written by `make bench-serve` on {datetime.now(UTC):%Y-%m-%d}: {machine}, {packages}. "
        "Open loop on loopback over 50 connections that are kept: requests come by chance at a "
        "fixed rate, and the time of each runs from when it was due, not from when it was sent. "
        f"The highest rate is searched by halving, loads of {seconds:g} s, of which one that fails "
        "is tried once more. Queries are the seed "
        "log's. The echo is a Starlette application that answers with the body of the request, "
        "under the same server and settings. Medians, and the least and the most, of "
        f"{repeats} repeats, the services in turn"
        + (" (for five, these hold the median with 94%)." if repeats == 5 else ".")
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _rates(subjects: Sequence[Subject], found: Mapping[str, Sequence[Found]]) -> Iterator[str]:
    yield (
        "| service | limit of p99, ms | requests/s | p50 at half of it, ms | p99 at half of it, ms "
        "| processor time a request, us | one connection, requests/s | its p99, ms |"
    )
    yield "|---|" + "---:|" * 7
    for one in subjects:
        of_one = found[one.name]
        for limit in one.limits_ms:
            cells = [
                _interval([each.highest[limit] for each in of_one]),
                *_columns(of_one, limit == one.limits_ms[-1]),
            ]
            yield f"| {one.name} | {limit:g} | " + " | ".join(cells) + " |"


def _columns(found: Sequence[Found], is_last: bool) -> list[str]:
    """Return what is measured once for each service, beside the last of its limits."""
    columns: list[Callable[[Found], float]] = [
        lambda one: one.half.p50_ms,
        lambda one: one.half.p99_ms,
        lambda one: one.cpu_us,
        lambda one: one.alone.a_second,
        lambda one: one.alone.p99_ms,
    ]
    return [_interval([column(one) for one in found]) if is_last else "" for column in columns]


def _ratios(
    subjects: Sequence[Subject],
    found: Mapping[str, Sequence[Found]],
    direct: Mapping[str, Sequence[float]],
) -> Iterator[str]:
    echo = subjects[0]
    yield (
        "Called in a process, `Router.decide` makes so many decisions a second on one thread; over "
        "HTTP that is so much of them, and of what the echo does within the same limit. Batches "
        "hold 64 queries, four are under way at once."
    )
    yield ""
    yield (
        "| service | Router.decide, decisions/s | requests/s over it | requests/s over the echo's "
        "| in batches, queries/s | over Router.decide |"
    )
    yield "|---|" + "---:|" * 5
    for one in subjects:
        if one.artifact is None:
            continue
        limit, of_one, called = one.limits_ms[-1], found[one.name], direct[one.name]
        highest = [each.highest[limit] for each in of_one]
        floor = [each.highest[limit] for each in found[echo.name]]
        batches = [each.batch or 0.0 for each in of_one]
        cells = [
            _interval(called),
            _interval(_over(highest, called)),
            _interval(_over(highest, floor)),
            _interval(batches),
            _interval(_over(batches, called)),
        ]
        yield f"| {one.name} | " + " | ".join(cells) + " |"


def _over(upper: Sequence[float], lower: Sequence[float]) -> list[float]:
    return [one / other if other else float("nan") for one, other in zip(upper, lower, strict=True)]


def _interval(values: Sequence[float]) -> str:
    return f"{_text(float(np.median(values)))} ({_text(min(values))}–{_text(max(values))})"


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
