"""Decisions in a router's log: the tier that answered, its probability, and the outcome."""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats, Mask
from querytier.data.examples import Examples

__all__ = ["LoggedDecisions", "known_outcomes"]


def known_outcomes(examples: Examples) -> Floats:
    """Return how good each answer was, NaN if unknown; shape (n,).

    A logged outcome comes first. Without one, feedback counts: 1 for thumbs up, 0 for all other
    kinds.
    """
    # A retry, an escalation and a human takeover all mean that the answer failed.
    kinds = examples.feedback
    feedback = np.where(kinds == "", np.nan, kinds == "thumbs_up").astype(np.float64)
    return np.where(np.isnan(examples.outcome), feedback, examples.outcome)


@dataclass(frozen=True, eq=False)
class LoggedDecisions:
    """Decisions of a router, each with the outcome of the one tier that answered.

    Attributes
    ----------
    frontier : ndarray of bool, shape (n,)
        Whether the frontier tier answered.
    propensity : ndarray of float64, shape (n,)
        Probability of the tier that the router chose, in (0, 1]; NaN if unknown.
    outcome : ndarray of float64, shape (n,)
        How good the answer was, in [0, 1]; NaN if unknown.
    group : ndarray of object, shape (n,)
        Rows of one group are not independent of each other.
    cost : ndarray of float64, shape (n,), optional
        Cost of the answer, 0 or more; NaN if unknown.

    Raises
    ------
    ValueError
        If the columns differ in length, or a value is out of range.
    """

    frontier: Mask
    propensity: Floats
    outcome: Floats
    group: NDArray[np.object_]
    cost: Floats | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self._columns().items()}
        if len(set(lengths.values())) > 1 or not len(self.frontier):
            raise ValueError(f"columns must have one length above 0, and these have {lengths}")
        chances, outcomes = self.propensity, self.outcome
        _check("propensity", chances, (chances > 0) & (chances <= 1), "in (0, 1]")
        _check("outcome", outcomes, (outcomes >= 0) & (outcomes <= 1), "in [0, 1]; rescale it")
        if self.cost is not None:
            _check("cost", self.cost, self.cost >= 0, "0 or more")

    @classmethod
    def of(cls, examples: Examples) -> Self:
        """Return the decisions of examples, for all of which the tier that answered is known.

        Raises
        ------
        ValueError
            If a tier is unknown: select the others with `examples.where(examples.tier != "")`.
        """
        unanswered = int((examples.tier == "").sum())
        if unanswered:
            raise ValueError(
                f"{unanswered} of {len(examples)} examples have no tier that answered; select the "
                'others: examples.where(examples.tier != "")'
            )
        frontier = (examples.tier == "frontier").astype(np.bool_)
        cost = np.where(frontier, examples.frontier_cost, examples.cheap_cost)
        return cls(frontier, examples.propensity, known_outcomes(examples), examples.group, cost)

    def __len__(self) -> int:
        return len(self.frontier)

    def where(self, mask: Mask) -> Self:
        """Return the rows for which `mask`, of shape (n,), holds."""
        return replace(self, **{name: column[mask] for name, column in self._columns().items()})

    @property
    def frontier_propensity(self) -> Floats:
        """The router's probability of the frontier tier, in [0, 1]; shape (n,)."""
        return np.where(self.frontier, self.propensity, 1 - self.propensity)

    def _columns(self) -> dict[str, Any]:
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: column for name, column in columns.items() if column is not None}


def _check(name: str, values: Floats, inside: Mask, wanted: str) -> None:
    outside = values[~inside & ~np.isnan(values)]
    if len(outside):
        raise ValueError(
            f"the {name} of {len(outside)} rows is out of range, such as {outside[0]:g}; it must "
            f"be {wanted}"
        )
