"""The page of two windows compared, for people."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from querytier.eval.drift.page import reliability_pair, score_pair
from querytier.eval.drift.windows import Observed

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
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["sized"] = lambda size, unit: _UNITS[unit][0].format(size * _UNITS[unit][1])
    environment.filters["p"] = _p_value
    environment.filters["minute"] = lambda time: time[:16].replace("T", " ") or "–"
    environment.filters["share"] = lambda share: "–" if share is None else f"{share:.1%}"
    template = environment.from_string(
        files("querytier.eval.report").joinpath("templates/drift.html.jinja").read_text("utf-8")
    )
    return template.render(
        record=record,
        scores=score_pair(reference, recent),
        reliability=reliability_pair(reference, recent),
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
