"""The overlap plot: where a log can speak of a new policy, as SVG text."""

from querytier.eval.off_policy.overlap import Overlap, OverlapBins
from querytier.eval.report.figures import COLOURS, INK, new_figure, svg_element

__all__ = ["overlap_plot", "overlap_text"]

_CHEAP, _FRONTIER, _MISSING = INK, COLOURS["classifier"], COLOURS["keyword_heuristic"]


def overlap_plot(overlap: Overlap, bins: OverlapBins) -> str:
    """Draw the new policy's decisions over the logging policy's frontier probability.

    Frontier decisions stand above the line, cheap ones hang below it. What the log had no chance of
    taking is drawn in red at its edge.

    Parameters
    ----------
    overlap : Overlap
    bins : OverlapBins
        Of the same log and policy.

    Returns
    -------
    str
        An `<svg>` element whose text alternative is `overlap_text`.
    """
    figure, axes = new_figure(6.4, 3.4)
    width = bins.edges[1] - bins.edges[0]
    frontier, cheap = bins.frontier.copy(), bins.cheap.copy()
    frontier[0] -= bins.frontier_without
    cheap[-1] -= bins.cheap_without
    where = dict(align="edge", width=width * 0.92, lw=0)
    axes.bar(bins.edges[:-1], frontier, color=_FRONTIER, label="new policy: frontier", **where)
    axes.bar(bins.edges[:-1], -cheap, color=_CHEAP, label="new policy: cheap", **where)
    if bins.frontier_without or bins.cheap_without:
        lost = [bins.frontier_without, -bins.cheap_without]
        starts, bottoms = [bins.edges[0], bins.edges[-2]], [frontier[0], -cheap[-1]]
        axes.bar(starts, lost, bottom=bottoms, color=_MISSING, label="without overlap", **where)
    axes.axhline(0, color=INK, lw=0.8)
    axes.set_xlim(-0.01, 1.01)
    axes.yaxis.set_major_formatter(lambda share, _: f"{abs(share):.0%}")
    axes.set_xlabel("probability of the frontier tier when the log was written")
    axes.set_ylabel("share of the rows")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    return svg_element(figure, overlap_text(overlap))


def overlap_text(overlap: Overlap) -> str:
    """Return in words what the plot shows, for who does not see it."""
    text = (
        "New policy's decisions by the logging policy's frontier probability: "
        f"{overlap.new_frontier_rate:.0%} frontier, {1 - overlap.new_frontier_rate:.0%} cheap"
    )
    if overlap.without_overlap is None or overlap.effective_groups is None:
        return f"{text}; overlap not known"
    return (
        f"{text}; {overlap.without_overlap:.1%} without overlap; effective sample size "
        f"{overlap.effective_groups:.0f} of {overlap.groups} groups, largest weight "
        f"{overlap.largest_weight:.1f}"
    )
