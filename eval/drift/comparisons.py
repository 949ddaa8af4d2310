"""The tests of the family: what each compares, and on which rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from querytier.data.arrays import Mask, Strings
from querytier.eval.drift.statistics import (
    Calibration,
    Distance,
    Rates,
    Shares,
    Statistic,
    bins_of,
    kinds_of,
)
from querytier.eval.drift.windows import Windows

__all__ = ["COMPARISONS", "About", "Comparison", "Unit"]

About = Literal["inputs", "labels", "outcomes"]
Unit = Literal["index", "distance", "rate", "unknown", "calibration"]

_SCORE_BINS, _SURFACE_BINS, _CALIBRATION_BINS = 10, 5, 5
# A source or label rule with fewer rows in either window gets no separate rate: every part is one
# more chance for a false alarm, and lowers the power of all others.
_FEWEST_ROWS = 30


@dataclass(frozen=True, slots=True)
class Comparison:
    """One test of the family.

    Attributes
    ----------
    name : str
    about : {"inputs", "labels", "outcomes"}
    unit : str
        The unit of its size, which decides how large a shift must be to alarm.
    statistic : callable
        Called with the windows and a seed; returns None if there is nothing to compare.
    needs : str
        The column that a row must have for this test; empty if all rows can be used.
    """

    name: str
    about: About
    unit: Unit
    statistic: Callable[[Windows, int], Statistic | None]
    needs: str = ""

    def rows(self, windows: Windows) -> Mask:
        """Return which rows the test uses, shape (n,)."""
        if not self.needs:
            return np.ones(len(windows.recent), dtype=bool)
        if self.needs == "label":
            return windows.rows.labelled
        return np.asarray(getattr(windows.rows, self.needs) != "")


def _score(windows: Windows, _: int) -> Statistic | None:
    scores = windows.rows.decision_score[:, np.newaxis]
    return Shares.of_features(("decision score",), scores, _SCORE_BINS)


def _surface(windows: Windows, _: int) -> Statistic | None:
    return Shares.of_features(windows.rows.surface_names, windows.rows.surface, _SURFACE_BINS)


def _embeddings(windows: Windows, seed: int) -> Statistic:
    return Distance(windows.rows.embedding, seed)


def _truncated(windows: Windows, _: int) -> Statistic:
    return Rates.of_all("queries cut", windows.rows.cut)


def _unknown(windows: Windows, _: int) -> Statistic:
    return Rates.of_all("unknown tokens", windows.rows.unknown_share)


def _mix(column: str) -> Callable[[Windows, int], Statistic | None]:
    def mix(windows: Windows, _: int) -> Statistic | None:
        kinds, numbers = kinds_of(getattr(windows.rows, column))
        name = f"{column.replace('_', ' ')} mix"
        return Shares((name,), numbers[:, np.newaxis]) if len(kinds) > 1 else None

    return mix


def _label_rates(windows: Windows, _: int) -> Statistic:
    masks = {"all rows": np.ones(len(windows.recent), dtype=bool)}
    masks |= dict(_parts(windows, "label rule", windows.rows.label_source))
    masks |= dict(_parts(windows, "source", windows.rows.source))
    return Rates(tuple(masks), windows.rows.needs_frontier, np.stack(list(masks.values()), axis=1))


def _parts(windows: Windows, kind: str, values: Strings) -> Iterator[tuple[str, Mask]]:
    """Yield the values with enough rows in both windows, except a value that all rows share."""
    texts = values.astype(str)
    for value in np.unique(texts[texts != ""]).tolist():
        mask = texts == value
        rows = min((mask & windows.recent).sum(), (mask & ~windows.recent).sum())
        if rows >= _FEWEST_ROWS and not mask.all():
            yield f"{kind} {value}", mask


def _calibration(windows: Windows, _: int) -> Statistic:
    probabilities = windows.rows.p_frontier
    bins = bins_of(probabilities, _CALIBRATION_BINS)
    return Calibration(probabilities, windows.rows.needs_frontier, bins)


COMPARISONS = (
    Comparison("decision score", "inputs", "index", _score),
    Comparison("surface features", "inputs", "index", _surface),
    Comparison("embeddings", "inputs", "distance", _embeddings),
    Comparison("queries cut", "inputs", "rate", _truncated),
    Comparison("unknown tokens", "inputs", "unknown", _unknown),
    Comparison("script mix", "inputs", "index", _mix("script")),
    Comparison("language mix", "inputs", "index", _mix("language"), "language"),
    Comparison("domain mix", "inputs", "index", _mix("domain"), "domain"),
    Comparison("needs_frontier rate", "labels", "rate", _label_rates, "label"),
    Comparison("label rule mix", "labels", "index", _mix("label_source"), "label_source"),
    Comparison("calibration", "outcomes", "calibration", _calibration, "label"),
)
