"""What stays in memory of every example while a log streams by: a few bytes each."""

import math
from array import array
from collections import Counter
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Example
from querytier.data.roles import (
    FEWEST_ROWS_TO_CERTIFY,
    RoleShares,
    joined_groups,
    roles_of,
    temporal_roles,
)
from querytier.data.strata import Strata
from querytier.data.text_view import hashed, is_truncated, text_view
from querytier.errors import LogError

__all__ = ["Ledger", "SeenHashes"]

_RECENT = 20_000

Hashes = NDArray[np.uint64]
Roles = NDArray[np.object_]


def _seconds(time: str) -> float:
    """Return seconds since 1970; NaN where there is no time."""
    return datetime.fromisoformat(time).timestamp() if time else math.nan


class SeenHashes:
    """Hashes seen so far, at eight bytes each; a set of them would take a hundred."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._older = np.empty(0, np.uint64)

    def before(self, value: int) -> bool:
        """Tell whether a hash was seen before, and remember it."""
        place = int(np.searchsorted(self._older, np.uint64(value)))
        found = place < len(self._older) and int(self._older[place]) == value
        if found or value in self._recent:
            return True
        self._recent.add(value)
        if len(self._recent) == _RECENT:
            recent = np.fromiter(self._recent, np.uint64, _RECENT)
            self._older = np.sort(np.concatenate([self._older, recent]))
            self._recent.clear()
        return False


class Ledger:
    """The few numbers of every example that groups, roles and shares follow from.

    Parameters
    ----------
    ok_threshold : float
        A score of at least this much counts as success.
    """

    def __init__(self, ok_threshold: float) -> None:
        self._names, self._views, self._times = array("Q"), array("Q"), array("d")
        self._strata = Strata(ok_threshold)
        self._label_sum, self._truncated = 0.0, 0
        self.positive, self.negative = 0, 0
        self.label_sources: Counter[str] = Counter()

    def add(self, example: Example) -> None:
        """Note an example."""
        view = hashed(text_view(example.query))
        self._views.append(view)
        self._names.append(hashed(example.group) if example.group else view)
        self._times.append(_seconds(example.time))
        self._label_sum += example.needs_frontier
        self.positive += example.needs_frontier > 0.5
        self.negative += example.needs_frontier < 0.5
        self._truncated += is_truncated(example.query)
        self.label_sources[example.label_source] += 1
        if not math.isnan(example.cheap_score + example.frontier_score):
            self._strata.add(example.cheap_score, example.frontier_score)

    def __len__(self) -> int:
        return len(self._names)

    def groups(self, links: NDArray[np.intp] | None = None) -> Hashes:
        """Return the group of every example; linked ones share it."""
        names, views = np.frombuffer(self._names, np.uint64), np.frombuffer(self._views, np.uint64)
        return joined_groups(names, views, links)

    def roles(
        self, groups: Hashes, shares: RoleShares, seed: int, *, temporal: bool = False
    ) -> Roles:
        """Return the role of every example.

        Below `FEWEST_ROWS_TO_CERTIFY` rows the calibration and certification roles fall to
        training: such logs are calibrated by cross-fitting, and cannot certify anything.

        Raises
        ------
        LogError
            If `temporal` is asked of examples without a time.
        """
        if len(self) < FEWEST_ROWS_TO_CERTIFY:
            shares = {"test": shares["test"]}
        if not temporal:
            return roles_of(groups, shares, seed)
        times = np.frombuffer(self._times)
        missing = int(np.isnan(times).sum())
        if missing:
            raise LogError(
                f"{missing} of the {len(self)} examples have no time, and temporal roles need it: "
                "map time=COLUMN, leave those records out, or set prepare.temporal: false"
            )
        return temporal_roles(groups, times, shares, seed)

    def shares(self) -> dict[str, float]:
        """Return the shares of `DataSummary`."""
        return {
            **self._strata.shares(),
            "needs_frontier": self._label_sum / len(self),
            "truncated": self._truncated / len(self),
        }
