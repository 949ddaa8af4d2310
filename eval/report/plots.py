"""The plots of the report, as SVG text that is readable on light and dark backgrounds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.eval.calibration import reliability_bins
from querytier.eval.curves import gain_curve, routed_mean
from querytier.eval.intervals import Resampling
from querytier.eval.rankings import Ranking
from querytier.eval.report.figures import COLOURS, INK, new_figure, svg_element

__all__ = ["gain_plot", "reliability_plot", "score_plot"]


_GRID = np.linspace(0, 1, 101)


def gain_plot(
    examples: Examples,
    rankings: Sequence[Ranking],
    frontier_rate: float,
    *,
    replicates: int,
    seed: int,
) -> str:
    """Draw mean score, or without scores the share of needs_frontier caught, against frontier rate.

    Parameters
    ----------
    examples : Examples
    rankings : sequence of Ranking
        The classifier first; rankings without a colour in `COLOURS` are left out.
    frontier_rate : float
        The classifier's operating point.
    replicates, seed : int
        For the bootstrap behind the classifier's band.

    Returns
    -------
    str
        An `<svg>` element.
    """
    # Only the classifier has a band: bands of all rankings would cover each other.
    figure, axes = new_figure(6.4, 3.9)
    label = "mean score as routed" if examples.scored else "share of needs_frontier caught"

    def grid_of(ranking: Ranking, weights: Floats) -> Floats:
        grid = np.tile(_GRID, (len(weights), 1))
        if examples.scored:
            cheap, frontier = examples.cheap_score, examples.frontier_score
            quality = routed_mean(ranking.scores, cheap, frontier, weights)
            return np.asarray(quality.cheap[:, np.newaxis] + quality.curve.on(grid))
        curve = gain_curve(ranking.scores, examples.needs_frontier, weights)
        caught = np.where(curve.gap > 0, curve.gap, np.nan)[:, np.newaxis]
        return np.asarray(curve.on(grid) / caught)

    ones, at_rate = np.ones((1, len(examples))), []
    for ranking in rankings:
        if ranking.name in COLOURS:
            width = 2.2 if ranking is rankings[0] else 1.2
            line = grid_of(ranking, ones)[0]
            axes.plot(_GRID, line, color=COLOURS[ranking.name], label=ranking.name, lw=width)
            at_rate.append(f"{ranking.name} {np.interp(frontier_rate, _GRID, line):.3f}")
    resampling = Resampling(examples.group.tolist(), replicates, seed)
    drawn = resampling.values(lambda weights: grid_of(rankings[0], weights))[1:]
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    axes.fill_between(_GRID, low, high, color=COLOURS["classifier"], alpha=0.18, lw=0)
    ends = grid_of(rankings[0], ones)[0, [0, -1]]
    axes.plot([0, 1], ends, color=INK, ls="--", lw=1, label="random")
    axes.axvline(frontier_rate, color=INK, lw=1, ls=":")
    axes.set_xlabel("frontier rate")
    axes.set_ylabel(label)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return svg_element(
        figure,
        f"{label} against frontier rate: from {ends[0]:.3f} at none to {ends[1]:.3f} at all; "
        f"at {frontier_rate:.0%}: {', '.join(at_rate)}",
    )


def reliability_plot(
    probabilities: Floats, needs_frontier: Floats, groups: NDArray[np.object_]
) -> str:
    """Draw the share of queries that needed the frontier model against p_frontier.

    The points, with their 95% intervals, are those of `querytier.eval.calibration`.

    Returns
    -------
    str
        An `<svg>` element.
    """
    figure, axes = new_figure(4.2, 3.9)
    bins = reliability_bins(probabilities, needs_frontier, groups)
    predicted, observed, low, high = (
        np.array([getattr(one, name) for one in bins])
        for name in ("predicted", "observed", "low", "high")
    )
    # Axes end at the largest value, not at 1: probabilities of routing are often all below 0.4.
    top = float(min(1.0, max(predicted.max(), high.max()) * 1.05))
    axes.plot([0, top], [0, top], color=INK, ls="--", lw=1)
    bars = np.clip([observed - low, high - observed], 0, None)
    axes.errorbar(predicted, observed, yerr=bars, fmt="o", color=COLOURS["classifier"], ms=5, lw=1)
    axes.set_xlabel("p_frontier, mean of the bin")
    axes.set_ylabel("share that needed the frontier model")
    described = ", ".join(f"{one.predicted:.2f} and {one.observed:.2f}" for one in bins)
    return svg_element(
        figure, f"Reliability of p_frontier, predicted and observed by bin: {described}"
    )


def score_plot(scores: Floats, needs_frontier: Floats, threshold: float) -> str:
    """Draw the distribution of decision scores by label, with the threshold.

    Returns
    -------
    str
        An `<svg>` element.
    """
    figure, axes = new_figure(4.2, 3.9)
    low, high = float(scores.min(initial=0.0)), float(scores.max(initial=0.05))
    edges = np.linspace(low, high, 31)
    positive = needs_frontier > 0.5
    for rows, colour, label in (
        (~positive, INK, "cheap is enough"),
        (positive, COLOURS["classifier"], "needs frontier"),
    ):
        axes.hist(scores[rows], bins=edges.tolist(), color=colour, alpha=0.55, label=label)
    axes.axvline(threshold, color=COLOURS["keyword_heuristic"], lw=1.5, label="threshold")
    axes.set_xlabel("decision score")
    axes.set_ylabel("queries")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return svg_element(figure, "Distribution of decision scores by label, with the threshold")
