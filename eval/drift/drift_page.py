"""The page of two windows compared, for people."""

from collections.abc import Mapping
from typing import Any

from querytier.eval.drift.page import reliability_pair, score_pair
from querytier.eval.drift.windows import Observed
from querytier.eval.report.pages import render

__all__ = ["drift_page"]

Record = Mapping[str, Any]

_UNITS = {
    "index": ("PSI {:.3f}", 1),
    "distance": ("MMD {:.3f}", 1),
    "rate": ("{:.1f} points", 100),
    "unknown": ("{:.2f} points", 100),
    "calibration": ("{:.3f}", 1),
}


def drift_page(record: Record, reference: Observed, recent: Observed) -> str:
    """Return the page as HTML that fetches nothing.

    Parameters
    ----------
    record : mapping
        The content of `drift.json`.
    reference, recent : Observed
        What the figures are drawn of.
    """
    return render(
        "drift.html.jinja",
        record=record,
        scores=score_pair(reference, recent),
        reliability=reliability_pair(reference, recent),
        sized=lambda size, unit: _UNITS[unit][0].format(size * _UNITS[unit][1]),
        p=_p_value,
        minute=lambda time: time[:16].replace("T", " ") or "n/a",
    )


def _p_value(value: float) -> str:
    """Write a p-value.

    Examples
    --------
    >>> _p_value(0.00012), _p_value(0.034), _p_value(0.61)
    ('0.0001', '0.034', '0.61')
    """
    if value < 0.001:
        return f"{value:.4f}"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
