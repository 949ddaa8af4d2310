"""The page of a comparison of two windows, and its figures."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from querytier.eval.calibration import reliability_bins
from querytier.eval.drift.windows import Observed
from querytier.eval.report.figures import COLOURS, INK, new_figure, svg_element
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
_BINS = 30
_RELIABILITY_BINS = 5
_FEWEST_LABELS = 50  # ten for each bin
_STYLES = (("reference", INK, 0.45), ("recent", COLOURS["classifier"], 0.55))


def drift_page(record: Record, reference: Observed, recent: Observed) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    record : mapping
        The content of `drift.json`.
    reference, recent : Observed
        The compared rows, for the figures.
    """
    return render(
        "drift.html.jinja",
        record=record,
        scores=_score_figure(reference, recent),
        reliability=_reliability_figure(reference, recent),
        sized=lambda size, unit: _UNITS[unit][0].format(size * _UNITS[unit][1]),
        p=_p_value,
        minute=lambda time: time[:16].replace("T", " ") or "n/a",
    )


def _p_value(value: float) -> str:
    """Return a p-value as text.

    Examples
    --------
    >>> _p_value(0.00012), _p_value(0.034), _p_value(0.61)
    ('0.0001', '0.034', '0.61')
    """
    if value < 0.001:
        return f"{value:.4f}"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _score_figure(*windows: Observed) -> str | None:
    """Draw the distributions of the decision scores; None if a window has no rows."""
    if not all(len(window) for window in windows):
        return None
    figure, axes = new_figure(6.4, 3.0)
    scores = [window.decision_score for window in windows]
    # Common edges, so that the heights of the two histograms compare.
    edges = np.histogram_bin_edges(np.concatenate(scores), _BINS).tolist()
    for values, (name, colour, alpha) in zip(scores, _STYLES, strict=True):
        weights = np.full(len(values), 1 / len(values))
        axes.hist(values, edges, weights=weights, color=colour, alpha=alpha, label=name)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.set_xlabel("decision score")
    axes.set_ylabel("share of the rows")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    medians = [float(np.median(values)) for values in scores]
    return svg_element(
        figure,
        f"Decision scores: median {medians[0]:.3f} in the reference and {medians[1]:.3f} in the "
        "recent window",
    )


def _reliability_figure(*windows: Observed) -> str | None:
    """Draw the share that needed the frontier model by p_frontier; None if labels are few."""
    if min(window.labelled.sum() for window in windows) < _FEWEST_LABELS:
        return None
    figure, axes = new_figure(6.4, 3.8)
    axes.plot([0, 1], [0, 1], color=INK, ls="--", lw=1, scalex=False, scaley=False)
    means, right, top = [], 0.0, 0.0
    # The windows are drawn side by side, so that equal bins do not cover each other.
    for window, (name, colour, _), aside in zip(windows, _STYLES, (-0.004, 0.004), strict=True):
        rows = window.where(window.labelled)
        bins = reliability_bins(rows.p_frontier, rows.needs_frontier, rows.group, _RELIABILITY_BINS)
        right = max(right, *(b.predicted for b in bins))
        top = max(top, *(b.high for b in bins))
        ends = [[b.observed - b.low for b in bins], [b.high - b.observed for b in bins]]
        axes.errorbar(
            [b.predicted + aside for b in bins],
            [b.observed for b in bins],
            yerr=np.maximum(ends, 0),
            color=colour,
            marker="o",
            lw=1.2,
            ms=4,
            label=name,
        )
        means.append(
            f"{name} {rows.p_frontier.mean():.3f} predicted, "
            f"{rows.needs_frontier.mean():.3f} observed"
        )
    axes.set_xlabel("p_frontier")
    axes.set_ylabel("share that needed the frontier model")
    axes.set_xlim(0, 1.05 * right)
    axes.set_ylim(0, 1.05 * top)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return svg_element(figure, f"Reliability of p_frontier in the two windows: {'; '.join(means)}")
