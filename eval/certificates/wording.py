"""A certificate in words: a sentence for managers, and lines for engineers."""

from collections.abc import Iterator, Mapping
from typing import Any

from querytier.eval.intervals import Estimate

__all__ = ["certificate_lines", "promise_sentence"]

Record = Mapping[str, Any]

_LEAST = ("risk", "alpha", "delta")


def promise_sentence(certificate: Record) -> str:
    """Say what is promised about the cheap model's answers, and nothing more.

    Parameters
    ----------
    certificate : mapping
        `certificate` of `metrics.json`; all but `status` and `reason` may be missing.

    Examples
    --------
    >>> certificate = {"status": "granted", "risk": "needs_frontier", "alpha": 0.1, "delta": 0.005}
    >>> promise_sentence({**certificate, "reason": ""})
    'It is certified that, with 99.5% confidence, at most 10% of the queries sent to the cheap ...'
    """
    if certificate["status"] != "granted":
        return f"Nothing is promised about the answers of the cheap model: {certificate['reason']}."
    until = f", until {certificate['expires']}," if certificate.get("expires") else ""
    # Artifacts of older versions have certificates with fewer fields.
    if any(certificate.get(name) is None for name in _LEAST):
        return f"A certificate was granted{until.rstrip(',')}: {certificate['reason']}."
    several = _attempts(certificate) > 1
    tries = f" (the best of {_attempts(certificate)} attempts)" if several else ""
    sure = f"with {_percent(1 - _chance_wrong(certificate))} confidence{tries}"
    return f"It is certified{until} that, {sure}, {_risk(certificate)}."


def certificate_lines(certificate: Record) -> list[str]:
    """Return the details of a certificate; parameters as in `promise_sentence`."""
    slices = certificate.get("slices") or ()
    lines = [
        ", ".join(_tested(certificate)),
        ", ".join(_validity(certificate)),
        _attempts_note(certificate),
        *(f"slice {one['name']}: {one['status']}, {one['reason']}" for one in slices),
    ]
    return [line for line in lines if line]


def _risk(certificate: Record) -> str:
    if certificate["risk"] == "quality_lost":
        return (
            f"queries sent to the cheap model lose at most {certificate['alpha']:g} of their score "
            "(0 to 1) on average"
        )
    return (
        f"at most {_percent(certificate['alpha'])} of the queries sent to the cheap model needed "
        "the frontier model"
    )


def _tested(certificate: Record) -> Iterator[str]:
    lost = "of quality lost" if certificate.get("risk") == "quality_lost" else "failed"
    for key, text in (
        ("risk", "risk {}"),
        ("alpha", "alpha {:g}"),
        ("delta", "delta {:g}"),
        ("n", "n {} certification rows, one per group"),
        ("sent_cheap", "{} of them sent cheap"),
        ("k", f"k {{:g}} {lost}"),
        ("bound", "bound {:.4f}"),
    ):
        if certificate.get(key) is not None:
            yield text.format(certificate[key])


def _validity(certificate: Record) -> Iterator[str]:
    """Say which share it covers, and from when to when; nothing if it was refused."""
    if certificate["status"] != "granted":
        return
    if certificate.get("coverage") is not None:
        ends = certificate.get("coverage_low"), certificate.get("coverage_high")
        yield f"cheap share {Estimate(certificate['coverage'], *ends).text('.1%')}"
    if certificate.get("date"):
        yield f"granted {certificate['date']}"
    if certificate.get("expires"):
        yield f"expires {certificate['expires']}: from then on, the fallback tier answers"


def _attempts_note(certificate: Record) -> str:
    number = _attempts(certificate)
    # The reason of a granted certificate already counts the attempts before it.
    if number == 1 or f"attempt {number} " in certificate["reason"]:
        return ""
    return (
        f"attempt {number} on these certification rows: the best of {number} is wrong with a "
        f"probability of up to {_chance_wrong(certificate):.2g}"
    )


def _attempts(certificate: Record) -> int:
    return certificate.get("attempts") or 1


def _chance_wrong(certificate: Record) -> float:
    """Return the largest probability that the promise, the best of all attempts, is wrong."""
    known, delta = certificate.get("any_wrong"), certificate.get("delta")
    if known is not None:
        return float(known)
    return 1.0 if delta is None else min(1.0, _attempts(certificate) * delta)


def _percent(share: float) -> str:
    """Return a share in percent, without rounding a promise to a better one."""
    return f"{100 * share:.6g}%"
