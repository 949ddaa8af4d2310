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
    """A service to put under load.

    Attributes
    ----------
    name : str
    limits_ms : tuple of float
        Limits for the 99th percentile.
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
    """The measurements of one repeat.

    Attributes
    ----------
    highest : dict of float to float
        Requests per second, by the limit for the 99th percentile in milliseconds.
    half : Measured
        The load at half of the highest of these rates.
    cpu_us : float
        Processor time of the service per request, at that rate.
    alone : Measured
        One connection, each request sent after the answer to the one before.
    batch : float or None
        Queries per second in batches.
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
        "Open loop on loopback over 50 open connections: requests arrive at random at a fixed "
        "rate, and the time of each starts when it is due, not when it is sent. The highest rate "
        f"is found by bisection, with loads of {seconds:g} s; a failed load is tried once more. "
        "Queries are from the seed log. The echo is a Starlette application that answers with the "
        "body of the request, with the same server and settings. Medians, minima and maxima of "
        f"{repeats} repeats, the services in turn"
        + (" (with five, these contain the median with 94%)." if repeats == 5 else ".")
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _rates(subjects: Sequence[Subject], found: Mapping[str, Sequence[Found]]) -> Iterator[str]:
    yield (
        "| service | limit of p99, ms | requests/s | p50 at half of it, ms | p99 at half of it, ms "
        "| processor time per request, us | one connection, requests/s | its p99, ms |"
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
    """Return the cells measured once per service, for the row of its last limit."""
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
        "The decisions per second of `Router.decide` in process on one thread, and the ratios of "
        "the requests per second over HTTP to them and to the echo within the same limit. Batches "
        "hold 64 queries, with four batches at a time."
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
    return f"{_text(float(np.median(values)))} ({_text(min(values))} to {_text(max(values))})"


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
