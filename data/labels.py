"""Label rules: what the outcomes of a log record say about `needs_frontier`."""

from dataclasses import dataclass
from typing import Literal

from querytier.data.columns import ColumnMap
from querytier.errors import UsageError

__all__ = ["LabelRule", "cheap_fails_frontier_succeeds", "label_rule"]


@dataclass(frozen=True, slots=True)
class LabelRule:
    """Which rule makes the label.

    Attributes
    ----------
    name : {"cheap_fails_frontier_succeeds", "explicit"}
        The first reads both scores, the second takes `needs_frontier` from the log.
    ok_threshold : float
        A score of at least this much counts as success; in the unit of the log's scores.
    """

    name: Literal["cheap_fails_frontier_succeeds", "explicit"]
    ok_threshold: float


def label_rule(columns: ColumnMap, ok_threshold: float) -> LabelRule:
    """Return the rule that the mapped columns allow; an explicit label comes first.

    Raises
    ------
    UsageError
        If the map has neither `needs_frontier` nor both scores.
    """
    if "needs_frontier" in columns.paths:
        return LabelRule("explicit", ok_threshold)
    if {"cheap_score", "frontier_score"} <= set(columns.paths):
        return LabelRule("cheap_fails_frontier_succeeds", ok_threshold)
    raise UsageError(
        f"the column map ({', '.join(columns.paths)}) names nothing that makes a label; "
        "add needs_frontier=COLUMN, or both cheap_score=COLUMN and frontier_score=COLUMN"
    )


def cheap_fails_frontier_succeeds(
    cheap_score: float, frontier_score: float, ok_threshold: float
) -> float:
    """Return 1.0 where the cheap answer fails and the frontier answer succeeds, else 0.0.

    Where both fail, paying more buys nothing: the label is 0, and the row is counted apart.

    Parameters
    ----------
    cheap_score, frontier_score : float
        Scores of the two answers, higher is better.
    ok_threshold : float
        A score of at least this much counts as success.

    Examples
    --------
    >>> [cheap_fails_frontier_succeeds(c, f, 0.5) for c, f in [(0, 1), (0, 0), (1, 0), (0.5, 1)]]
    [1.0, 0.0, 0.0, 0.0]
    """
    return float(cheap_score < ok_threshold <= frontier_score)
