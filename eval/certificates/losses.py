"""The loss of each query on the cheap tier; a certificate limits its mean."""

from dataclasses import dataclass, fields, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.threshold import goes_to_frontier
from querytier.data.arrays import Floats, Integers, Strings
from querytier.data.examples import Examples
from querytier.eval.intervals import one_row_per_group

__all__ = ["Losses", "RiskName"]

RiskName = Literal["needs_frontier", "quality_lost"]


@dataclass(frozen=True, eq=False)
class Losses:
    """The loss of n queries if they go to the cheap tier.

    Attributes
    ----------
    risk : {"needs_frontier", "quality_lost"}
        What the values measure.
    decision_scores : ndarray of float64, shape (n,)
    values : ndarray of float64, shape (n,)
        In [0, 1].
    groups, slices : ndarray of object, shape (n,)
        Texts; rows of one group are not independent of each other.

    Raises
    ------
    ValueError
        If a value is outside [0, 1], a score is not a number, or lengths differ.
    """

    risk: RiskName
    decision_scores: Floats
    values: Floats
    groups: Strings
    slices: Strings

    def __post_init__(self) -> None:
        """Check the ranges: every bound here assumes losses in [0, 1]."""
        lengths = {name: len(getattr(self, name)) for name in _COLUMNS}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of unequal length: {lengths}; give one value per query")
        wrong = self.values[~((self.values >= 0) & (self.values <= 1))]
        if len(wrong):
            raise ValueError(
                f"{self.risk} is {wrong[0]:g}; it must be in [0, 1]; leave out queries "
                "without a label, and bring scores to a scale from 0 to 1"
            )
        if np.isnan(self.decision_scores).any():
            raise ValueError("a decision score is nan; leave out queries that were not decided")

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def needs_frontier(cls, examples: Examples, decision_scores: Floats) -> Self:
        """Return the labels as losses: the mean is the share that needed the frontier model."""
        return cls(
            "needs_frontier",
            decision_scores,
            examples.needs_frontier,
            examples.group,
            examples.domain,
        )

    @classmethod
    def quality_lost(cls, examples: Examples, decision_scores: Floats) -> Self:
        """Return how much better the frontier answer is, 0 if it is worse; scores in [0, 1]."""
        lost = np.maximum(0.0, examples.frontier_score - examples.cheap_score)
        return cls("quality_lost", decision_scores, lost, examples.group, examples.domain)

    @property
    def binary(self) -> bool:
        """Whether every value is 0 or 1."""
        return bool(np.isin(self.values, (0.0, 1.0)).all())

    def where(self, mask: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """Return the queries for which `mask`, of shape (n,), holds, or those at some indices."""
        return replace(self, **{name: getattr(self, name)[mask] for name in _COLUMNS})

    def of_slice(self, name: str) -> Self:
        """Return the queries of one slice."""
        return self.where(np.asarray(self.slices == name, dtype=np.bool_))

    def one_per_group(self, seed: int) -> Self:
        """Return a random row of each group, in random order, which tests by betting need."""
        return self.where(one_row_per_group(self.groups, seed))

    def sent_cheap(self, threshold: float) -> Floats:
        """Return the losses of the queries that a threshold sends to the cheap tier."""
        return self.values[~goes_to_frontier(self.decision_scores, threshold)]

    def totals(self, thresholds: Floats) -> tuple[Floats, Integers]:
        """Return the sum and the number of `sent_cheap` for each of k thresholds; shapes (k,)."""
        # One sort for all thresholds; "left", because a score at the threshold goes to frontier.
        order = np.argsort(self.decision_scores, kind="stable")
        sums = np.concatenate([[0.0], np.cumsum(self.values[order])])
        counts = np.searchsorted(self.decision_scores[order], thresholds, side="left")
        return sums[counts], counts.astype(np.int64)


_COLUMNS = tuple(field.name for field in fields(Losses) if field.name != "risk")
