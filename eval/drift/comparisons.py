"""Which statistics two windows are compared by, and on which of their rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from querytier.eval.drift.statistics import (
    Calibration,
    Distance,
    Rates,
    Shares,
    Statistic,
    bins_of,
    kinds_of,
    stacked,
)
from querytier.eval.drift.windows import Windows

__all__ = ["COMPARISONS", "About", "Comparison", "Unit"]

About = Literal["inputs", "labels", "outcomes"]
Unit = Literal["index", "distance", "rate", "unknown", "calibration"]
Mask = NDArray[np.bool_]
Strings = NDArray[np.object_]

_SCORE_BINS, _SURFACE_BINS, _CALIBRATION_BINS = 10, 5, 5
_FEWEST_ROWS = 30  # of a source or label rule in either window, to be looked at by itself


@dataclass(frozen=True, slots=True)
class Comparison:
    """One test of the family.

    Attributes
    ----------
    name : str
    about : {"inputs", "labels", "outcomes"}
    unit : str
        What its size is measured in, and so which size is worth an alarm.
    rows : callable
        Which rows of the windows it is made on, and what the others lack.
    statistic : callable
        Makes its statistic of those rows; None where they have nothing to compare.
    """

    name: str
    about: About
    unit: Unit
    rows: Callable[[Windows], tuple[Mask, str]]
    statistic: Callable[[Windows, int], Statistic | None]


def _all_rows(windows: Windows) -> tuple[Mask, str]:
    return np.ones(len(windows.recent), dtype=bool), ""


def _labelled(windows: Windows) -> tuple[Mask, str]:
    return windows.rows.labelled, "label"


def _told(column: str) -> Callable[[Windows], tuple[Mask, str]]:
    return lambda windows: (getattr(windows.rows, column) != "", column.replace("_", " "))


def _score(windows: Windows, _: int) -> Statistic | None:
    return _features(("decision score",), windows.rows.decision_score[:, np.newaxis], _SCORE_BINS)


def _surface(windows: Windows, _: int) -> Statistic | None:
    return _features(windows.rows.surface_names, windows.rows.surface, _SURFACE_BINS)


def _features(names: tuple[str, ...], values: NDArray[np.floating], count: int) -> Statistic | None:
    bins = [bins_of(column, count) for column in values.T]
    return stacked(names, bins) if any(one.max() for one in bins) else None


def _embeddings(windows: Windows, seed: int) -> Statistic | None:
    return Distance(windows.rows.embedding, seed)


def _cut(windows: Windows, _: int) -> Statistic | None:
    return Rates.of_all("queries cut", windows.rows.cut)


def _unknown(windows: Windows, _: int) -> Statistic | None:
    return Rates.of_all("unknown tokens", windows.rows.unknown_share)


def _mix(column: str) -> Callable[[Windows, int], Statistic | None]:
    def mix(windows: Windows, _: int) -> Statistic | None:
        kinds, places = kinds_of(getattr(windows.rows, column))
        name = column.replace("_", " ")
        return Shares((f"{name} mix",), places[:, np.newaxis]) if len(kinds) > 1 else None

    return mix


def _label_rates(windows: Windows, _: int) -> Statistic | None:
    found = {"all rows": np.ones(len(windows.recent), dtype=bool)}
    found |= dict(_parts(windows, "label rule", windows.rows.label_source))
    found |= dict(_parts(windows, "source", windows.rows.source))
    masks = np.stack(list(found.values()), axis=1)
    return Rates(tuple(found), windows.rows.needs_frontier, masks)


def _parts(windows: Windows, kind: str, values: Strings) -> Iterator[tuple[str, Mask]]:
    """Yield the values that both windows have enough rows of, and that not all rows have."""
    texts = values.astype(str)
    for value in np.unique(texts[texts != ""]).tolist():
        mask = texts == value
        rows = min((mask & windows.recent).sum(), (mask & ~windows.recent).sum())
        if rows >= _FEWEST_ROWS and not mask.all():
            yield f"{kind} {value}", mask


def _calibration(windows: Windows, _: int) -> Statistic | None:
    probabilities = windows.rows.p_frontier
    bins = bins_of(probabilities, _CALIBRATION_BINS)
    return Calibration(probabilities, windows.rows.needs_frontier, bins)


COMPARISONS = (
    Comparison("decision score", "inputs", "index", _all_rows, _score),
    Comparison("surface features", "inputs", "index", _all_rows, _surface),
    Comparison("embeddings", "inputs", "distance", _all_rows, _embeddings),
    Comparison("queries cut", "inputs", "rate", _all_rows, _cut),
    Comparison("unknown tokens", "inputs", "unknown", _all_rows, _unknown),
    Comparison("script mix", "inputs", "index", _all_rows, _mix("script")),
    Comparison("language mix", "inputs", "index", _told("language"), _mix("language")),
    Comparison("domain mix", "inputs", "index", _told("domain"), _mix("domain")),
    Comparison("needs_frontier rate", "labels", "rate", _labelled, _label_rates),
    Comparison("label rule mix", "labels", "index", _told("label_source"), _mix("label_source")),
    Comparison("calibration", "outcomes", "calibration", _labelled, _calibration),
)
