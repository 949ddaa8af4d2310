"""The report's pictures, as SVG text that reads on light and on dark paper."""

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.eval.bootstrap import Resampling
from querytier.eval.curves import gain_curve
from querytier.eval.evaluation import Ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["gain_plot", "reliability_plot", "score_plot"]

Floats = NDArray[np.float64]

_INK = "#7a828e"
_COLOURS = {
    "classifier": "#2f7de1",
    "oracle": "#3fa45b",
    "tfidf_lr": "#c98a1b",
    "domain_prior": "#9b6bd3",
    "keyword_heuristic": "#d9534f",
}
_GRID = np.linspace(0, 1, 101)
_BINS = 10
_Z = 1.96


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
        The classifier first; those without a colour of their own are left out.
    frontier_rate : float
        The classifier's operating point.
    replicates, seed : int
        Of the bootstrap behind the classifier's band.

    Returns
    -------
    str
        An `<svg>` element.
    """
    figure, axes = _figure(6.4, 3.9)
    label = "mean score as routed" if examples.scored else "share of needs_frontier caught"

    def grid_of(ranking: Ranking, weights: Floats) -> Floats:
        grid = np.tile(_GRID, (len(weights), 1))
        if examples.scored:
            gain = examples.frontier_score - examples.cheap_score
            cheap = weights @ examples.cheap_score / weights.sum(axis=1)
            curve = gain_curve(ranking.scores, gain, weights)
            return np.asarray(cheap[:, np.newaxis] + curve.on(grid))
        curve = gain_curve(ranking.scores, examples.needs_frontier, weights)
        caught = np.where(curve.gap > 0, curve.gap, np.nan)[:, np.newaxis]
        return np.asarray(curve.on(grid) / caught)

    ones = np.ones((1, len(examples)))
    for ranking in rankings:
        if ranking.name in _COLOURS:
            width = 2.2 if ranking is rankings[0] else 1.2
            line = grid_of(ranking, ones)[0]
            axes.plot(_GRID, line, color=_COLOURS[ranking.name], label=ranking.name, lw=width)
    resampling = Resampling(examples.group.tolist(), replicates, seed)
    drawn = resampling.values(lambda weights: grid_of(rankings[0], weights))[1:]
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    axes.fill_between(_GRID, low, high, color=_COLOURS["classifier"], alpha=0.18, lw=0)
    ends = grid_of(rankings[0], ones)[0, [0, -1]]
    axes.plot([0, 1], ends, color=_INK, ls="--", lw=1, label="random")
    axes.axvline(frontier_rate, color=_INK, lw=1, ls=":")
    axes.set_xlabel("frontier rate")
    axes.set_ylabel(label)
    axes.legend(frameon=False, labelcolor=_INK, fontsize=9)
    return _svg(figure, f"{label} against frontier rate, classifier beside baselines")


def reliability_plot(probabilities: Floats, needs_frontier: Floats) -> str:
    """Draw how often queries needed the frontier model against what p_frontier said.

    Ten bins of equally many queries, each with its 95% Wilson interval.

    Returns
    -------
    str
        An `<svg>` element.
    """
    figure, axes = _figure(4.2, 3.9)
    bins = np.array_split(np.argsort(probabilities, kind="stable"), _BINS)
    bins = [rows for rows in bins if len(rows)]
    predicted = np.array([probabilities[rows].mean() for rows in bins])
    observed = np.array([needs_frontier[rows].mean() for rows in bins])
    sizes = np.array([len(rows) for rows in bins])
    centre, half = _wilson(observed, sizes)
    bars = np.clip([observed - (centre - half), (centre + half) - observed], 0, None)
    top = float(min(1.0, max(predicted.max(), (centre + half).max()) * 1.05))
    axes.plot([0, top], [0, top], color=_INK, ls="--", lw=1)
    axes.errorbar(predicted, observed, yerr=bars, fmt="o", color=_COLOURS["classifier"], ms=5, lw=1)
    axes.set_xlabel("p_frontier, mean of the bin")
    axes.set_ylabel("share that needed the frontier model")
    return _svg(figure, "Reliability of p_frontier in ten bins of equally many queries")


def score_plot(scores: Floats, needs_frontier: Floats, threshold: float) -> str:
    """Draw the distribution of decision scores by label, with the threshold.

    Returns
    -------
    str
        An `<svg>` element.
    """
    figure, axes = _figure(4.2, 3.9)
    low, high = min(0.0, float(scores.min())), max(0.05, float(scores.max()))
    edges = np.linspace(low, high, 31)
    positive = needs_frontier > 0.5
    for rows, colour, label in (
        (~positive, _INK, "cheap will do"),
        (positive, _COLOURS["classifier"], "needs frontier"),
    ):
        axes.hist(scores[rows], bins=edges.tolist(), color=colour, alpha=0.55, label=label)
    axes.axvline(threshold, color=_COLOURS["keyword_heuristic"], lw=1.5, label="threshold")
    axes.set_xlabel("decision score")
    axes.set_ylabel("queries")
    axes.legend(frameon=False, labelcolor=_INK, fontsize=9)
    return _svg(figure, "Distribution of decision scores by label, with the threshold")


def _wilson(share: Floats, n: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return centre and half width of the 95% interval of a share (Wilson 1927)."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return centre, half


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)
    return figure, axes


def _svg(figure: "Figure", description: str) -> str:
    import matplotlib as mpl

    text = io.StringIO()
    # Text stays text (searchable, small), ids and dates do not change from run to run.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    element = text.getvalue()[text.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    label = f'<svg role="img" aria-label="{description}" '
    return element.replace("<svg ", label, 1)
