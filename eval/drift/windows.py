"""Two windows of traffic, and their groups shuffled between them.

Without drift, chance decides which window a group of rows falls into. Rows of one group (a
conversation, near duplicates) change windows together: one customer with a hundred questions is one
event, not a hundred. A group with rows in both windows counts as one group in each.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats, Mask, Strings, Vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["Observed", "Shuffling", "Windows"]

Numbers = NDArray[np.intp]

_CELLS_AT_ONCE = 20_000_000  # 80 MB of shuffles in float32


@dataclass(frozen=True, eq=False)
class Observed:
    """The columns of a window's n examples that the tests use.

    Attributes
    ----------
    group : ndarray of object, shape (n,)
        The same name in both windows means the same group.
    decision_score, p_frontier : ndarray of float64, shape (n,)
        Outputs of one artifact for both windows.
    to_frontier : ndarray of bool, shape (n,)
    embedding : ndarray of float32, shape (n, d)
    surface : ndarray of float32, shape (n, k)
        Counts and shares of tokens.
    surface_names : tuple of str, length k
    cut : ndarray of bool, shape (n,)
        Whether the query is too long for the classifier to see all of it.
    unknown_share : ndarray of float64, shape (n,)
        Share of unknown tokens among those that the classifier sees, in [0, 1].
    script, language, domain, source, label_source : ndarray of object, shape (n,)
        Empty if unknown.
    needs_frontier : ndarray of float64, shape (n,)
        The label, in [0, 1]; NaN if there is none.
    """

    group: Strings
    decision_score: Floats
    p_frontier: Floats
    to_frontier: Mask
    embedding: Vectors
    surface: Vectors
    surface_names: tuple[str, ...]
    cut: Mask
    unknown_share: Floats
    script: Strings
    language: Strings
    domain: Strings
    source: Strings
    label_source: Strings
    needs_frontier: Floats

    def __len__(self) -> int:
        return len(self.group)

    @property
    def groups(self) -> int:
        """The number of groups."""
        return len(np.unique(self.group.astype(str)))

    @property
    def labelled(self) -> Mask:
        """Which rows have a label, shape (n,)."""
        return ~np.isnan(self.needs_frontier)

    def where(self, rows: "Mask | NDArray[np.intp]") -> Self:
        """Return the rows of a mask or of row numbers."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _columns()})

    def joined(self, other: "Observed") -> Self:
        """Return the rows of this window, followed by those of another."""
        parts: dict[str, Any] = {
            name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _columns()
        }
        return replace(self, **parts)


@dataclass(frozen=True, eq=False)
class Windows:
    """The rows of two windows, in an order that does not depend on the order of the logs.

    Attributes
    ----------
    rows : Observed, length n
    recent : ndarray of bool, shape (n,)
        Which rows belong to the recent window.
    unit : ndarray of intp, shape (n,)
        Number of the group, counted separately in each window.
    """

    rows: Observed
    recent: Mask
    unit: Numbers

    @classmethod
    def of(cls, reference: Observed, recent: Observed) -> Self:
        """Join two windows."""
        rows = reference.joined(recent)
        is_recent = np.arange(len(rows)) >= len(reference)
        group = np.unique(rows.group.astype(str), return_inverse=True)[1]
        # A fixed order makes p-values reproducible whatever the order of the logs.
        order = np.lexsort((rows.decision_score, is_recent, group))
        # Even units are the reference's, odd ones the recent window's.
        return cls(rows.where(order), is_recent[order], (2 * group + is_recent)[order])

    def where(self, mask: Mask) -> "Windows":
        """Return the rows for which `mask`, of shape (n,), holds."""
        if mask.all():
            return self
        return Windows(self.rows.where(mask), self.recent[mask], self.unit[mask])

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Number of rows in the reference and in the recent window."""
        recent = int(self.recent.sum())
        return len(self.recent) - recent, recent

    @cached_property
    def groups(self) -> tuple[int, int]:
        """Number of groups in the reference and in the recent window."""
        recent = np.unique(self.unit) % 2
        return int((recent == 0).sum()), int((recent == 1).sum())

    def shuffling(self, permutations: int, seed: int) -> "Shuffling":
        """Return the shuffles of these windows."""
        _, first, unit_of_row = np.unique(self.unit, return_index=True, return_inverse=True)
        return Shuffling(unit_of_row, self.recent[first], permutations, seed)


@dataclass(frozen=True, eq=False)
class Shuffling:
    """Random assignments of all groups to the two windows, with the same number of groups in each.

    If nothing has drifted, every assignment is as likely as the real one, so the rank of the real
    assignment among them is an exact p-value, whatever the statistic (Fisher's permutation test).

    Attributes
    ----------
    unit_of_row : ndarray of intp, shape (n,)
        The unit of each row: a group of one of the windows.
    recent_unit : ndarray of bool, shape (u,)
        Which units really belong to the recent window.
    permutations, seed : int
    """

    unit_of_row: NDArray[np.intp]
    recent_unit: Mask
    permutations: int
    seed: int

    def per_unit(self, columns: NDArray[np.floating]) -> Floats:
        """Return the sums of columns, shape (n, k), over the rows of each unit; shape (u, k)."""
        return np.asarray(self._sides @ columns, dtype=np.float64)

    def counts(self, bins: Numbers, number: int) -> Floats:
        """Return the number of rows of each unit in each bin, shape (u, number)."""
        units = len(self.recent_unit)
        places = self.unit_of_row * number + bins
        return np.bincount(places, minlength=units * number).reshape(units, number).astype(float)

    @cached_property
    def _sides(self) -> "csr_array":
        # Sums over units are computed once. A shuffle then costs one product of its row of ones and
        # zeros with the sums, whatever the number of rows in the units.
        from scipy.sparse import csr_array

        rows = len(self.unit_of_row)
        places = (self.unit_of_row, np.arange(rows))
        return csr_array((np.ones(rows), places), shape=(len(self.recent_unit), rows))

    def recent_sums(self, columns: Floats) -> Floats:
        """Return the sums of the units' columns over the recent window, real and shuffled.

        Parameters
        ----------
        columns : ndarray of float64, shape (u, k)

        Returns
        -------
        ndarray of float64, shape (1 + permutations, k)
            The first row is that of the real windows.
        """
        # float32 halves the time of 10,000 shuffles; `tests` allows for its rounding.
        narrow = columns.astype(np.float32)
        return np.concatenate([block @ narrow for block in self._shuffles()]).astype(np.float64)

    def _shuffles(self) -> Iterator[Vectors]:
        """Yield blocks of shape (shuffles, u), with 1 for the units of the recent window."""
        sides = self.recent_unit.astype(np.float32)
        yield sides[np.newaxis]
        random = np.random.default_rng(self.seed)
        at_once = max(1, _CELLS_AT_ONCE // len(sides))
        for start in range(0, self.permutations, at_once):
            count = min(at_once, self.permutations - start)
            yield random.permuted(np.tile(sides, (count, 1)), axis=1)


def _columns() -> list[str]:
    return [field.name for field in fields(Observed) if field.name != "surface_names"]
