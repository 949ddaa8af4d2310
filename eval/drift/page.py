"""The pictures of two windows compared, as SVG text that reads on light and on dark paper."""

import numpy as np

from querytier.eval.calibration import reliability_bins
from querytier.eval.drift.windows import Observed
from querytier.eval.report.figures import COLOURS, INK, new_figure, svg_element

__all__ = ["reliability_pair", "score_pair"]

_BINS = 30
_RELIABILITY_BINS = 5
_FEWEST_LABELS = 50
_RECENT = COLOURS["classifier"]


def score_pair(reference: Observed, recent: Observed) -> str | None:
    """Draw how the decision scores of two windows are spread; None without rows."""
    if not len(reference) or not len(recent):
        return None
    figure, axes = new_figure(6.4, 3.0)
    scores = np.concatenate([reference.decision_score, recent.decision_score])
    edges = np.linspace(scores.min(), scores.max() or 1.0, _BINS + 1)
    edges = (
        np.unique(edges) if scores.min() < scores.max() else np.array([scores[0], scores[0] + 1])
    )
    sides = (("reference", reference, INK, 0.45), ("recent", recent, _RECENT, 0.55))
    for name, side, colour, alpha in sides:
        weights = np.full(len(side), 1 / len(side))
        axes.hist(
            side.decision_score,
            edges.tolist(),
            weights=weights,
            color=colour,
            alpha=alpha,
            label=name,
        )
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.set_xlabel("decision score")
    axes.set_ylabel("share of the rows")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    medians = [float(np.median(side.decision_score)) for side in (reference, recent)]
    return svg_element(
        figure,
        f"Decision scores: median {medians[0]:.3f} in the reference and {medians[1]:.3f} in the "
        "recent window",
    )


def reliability_pair(reference: Observed, recent: Observed) -> str | None:
    """Draw what share needed the frontier model by p_frontier; None where labels are few."""
    if min(reference.labelled.sum(), recent.labelled.sum()) < _FEWEST_LABELS:
        return None
    figure, axes = new_figure(6.4, 3.8)
    axes.plot([0, 1], [0, 1], color=INK, ls="--", lw=1, scalex=False, scaley=False)
    sides = (("reference", reference, INK, -0.004), ("recent", recent, _RECENT, 0.004))
    told, furthest, highest = [], 0.0, 0.0
    for name, side, colour, aside in sides:
        rows = side.where(side.labelled)
        bins = reliability_bins(rows.p_frontier, rows.needs_frontier, rows.group, _RELIABILITY_BINS)
        furthest = max(furthest, *(b.predicted for b in bins))
        highest = max(highest, *(b.high for b in bins))
        at, observed = [b.predicted + aside for b in bins], [b.observed for b in bins]
        ends = [[b.observed - b.low for b in bins], [b.high - b.observed for b in bins]]
        axes.errorbar(
            at,
            observed,
            yerr=np.maximum(ends, 0),
            color=colour,
            marker="o",
            lw=1.2,
            ms=4,
            label=name,
        )
        told.append(
            f"{name} {rows.p_frontier.mean():.3f} predicted, "
            f"{rows.needs_frontier.mean():.3f} observed"
        )
    axes.set_xlabel("p_frontier")
    axes.set_ylabel("share that needed the frontier model")
    axes.set_xlim(0, 1.05 * furthest)
    axes.set_ylim(0, 1.05 * highest)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return svg_element(figure, f"Reliability of p_frontier in the two windows: {'; '.join(told)}")
