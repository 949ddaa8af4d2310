"""Figures as SVG text that is readable on light and dark backgrounds."""

import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "INK", "new_figure", "svg_element"]

INK = "#7a828e"
COLOURS = {
    "classifier": "#2f7de1",
    "champion": "#16a3a3",
    "oracle": "#3fa45b",
    "tfidf_lr": "#c98a1b",
    "domain_prior": "#9b6bd3",
    "keyword_heuristic": "#d9534f",
}


def new_figure(width: float, height: float) -> "tuple[Figure, Axes]":
    """Return a figure of this size in inches, with a transparent background."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.tick_params(colors=INK, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    return figure, axes


def svg_element(figure: "Figure", description: str) -> str:
    """Return a figure as an `<svg>` element with a text alternative."""
    import matplotlib as mpl

    text = io.StringIO()
    # Text stays text (searchable, small); ids and dates are the same in every run.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    element = text.getvalue()[text.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    label = f'<svg role="img" aria-label="{description}" '
    return element.replace("<svg ", label, 1)
