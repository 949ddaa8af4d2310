"""A certificate in words: a sentence for managers, and lines for engineers."""

from collections.abc import Iterator, Mapping
from typing import Any

from querytier.eval.intervals import Estimate

__all__ = ["certificate_lines", "promise_sentence"]

Record = Mapping[str, Any]

_LEAST = ("risk", "alpha", "delta")


def promise_sentence(found: Record) -> str:
    """Say what is promised about the cheap model's answers, and nothing more.

    Parameters
    ----------
    found : mapping
        `certificate` of `metrics.json`; all but `status` and `reason` may be missing.

    Examples
    --------
    >>> found = {"status": "granted", "risk": "needs_frontier", "alpha": 0.1, "delta": 0.005}
    >>> promise_sentence({**found, "reason": ""})
    'It is certified that, with 99.5% confidence, at most 10% of the queries sent to the cheap ...'
    """
    if found["status"] != "granted":
        return f"Nothing is promised about the answers of the cheap model: {found['reason']}."
    until = f", until {found['expires']}," if found.get("expires") else ""
    # Artifacts of older versions have certificates with fewer fields.
    if any(found.get(name) is None for name in _LEAST):
        return f"A certificate was granted{until.rstrip(',')}: {found['reason']}."
    several = _attempts(found) > 1
    tries = f" (the best of {_attempts(found)} attempts)" if several else ""
    sure = f"with {_percent(1 - _chance_wrong(found))} confidence{tries}"
    return f"It is certified{until} that, {sure}, {_risk(found)}."


def certificate_lines(found: Record) -> list[str]:
    """Return the details of a certificate; parameters as in `promise_sentence`."""
    slices = found.get("slices") or ()
    lines = [
        ", ".join(_tested(found)),
        ", ".join(_standing(found)),
        _again(found),
        *(f"slice {one['name']}: {one['status']}, {one['reason']}" for one in slices),
    ]
    return [line for line in lines if line]


def _risk(found: Record) -> str:
    if found["risk"] == "quality_lost":
        return (
            f"queries sent to the cheap model lose at most {found['alpha']:g} of their score "
            "(0 to 1) on average"
        )
    return (
        f"at most {_percent(found['alpha'])} of the queries sent to the cheap model needed the "
        "frontier model"
    )


def _tested(found: Record) -> Iterator[str]:
    lost = "of quality lost" if found.get("risk") == "quality_lost" else "failed"
    for key, text in (
        ("risk", "risk {}"),
        ("alpha", "alpha {:g}"),
        ("delta", "delta {:g}"),
        ("n", "n {} certification rows, one per group"),
        ("sent_cheap", "{} of them sent cheap"),
        ("k", f"k {{:g}} {lost}"),
        ("bound", "bound {:.4f}"),
    ):
        if found.get(key) is not None:
            yield text.format(found[key])


def _standing(found: Record) -> Iterator[str]:
    """Say which share it covers, and from when to when; nothing if it was refused."""
    if found["status"] != "granted":
        return
    if found.get("coverage") is not None:
        ends = found.get("coverage_low"), found.get("coverage_high")
        yield f"cheap share {Estimate(found['coverage'], *ends).text('.1%')}"
    if found.get("date"):
        yield f"granted {found['date']}"
    if found.get("expires"):
        yield f"lapses {found['expires']}: then the fallback tier answers"


def _again(found: Record) -> str:
    number = _attempts(found)
    # The reason of a granted certificate already counts the attempts before it.
    if number == 1 or f"attempt {number} " in found["reason"]:
        return ""
    return (
        f"attempt {number} on these certification rows: the best of {number} is wrong with a "
        f"probability of up to {_chance_wrong(found):.2g}"
    )


def _attempts(found: Record) -> int:
    return found.get("attempts") or 1


def _chance_wrong(found: Record) -> float:
    """Return the largest probability that the promise, the best of all attempts, is wrong."""
    known, delta = found.get("any_wrong"), found.get("delta")
    if known is not None:
        return float(known)
    return 1.0 if delta is None else min(1.0, _attempts(found) * delta)


def _percent(share: float) -> str:
    """Return a share in percent, without rounding a promise to a better one."""
    return f"{100 * share:.6g}%"
