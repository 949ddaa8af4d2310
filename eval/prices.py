"""What both tiers' answers are worth, and what they cost: as logged, or by a price table."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples

__all__ = ["Answers", "ModelPrice", "dollar_costs"]

Floats = NDArray[np.float64]

_TOKENS = 1_000_000


@dataclass(frozen=True, eq=False)
class Answers:
    """What both tiers' answers to the same queries are worth, and cost.

    Attributes
    ----------
    cheap_score, frontier_score : ndarray of float64, shape (n,)
        NaN where not known.
    cheap_cost, frontier_cost : ndarray of float64, shape (n,)
        In one currency; NaN where not known.
    """

    cheap_score: Floats
    frontier_score: Floats
    cheap_cost: Floats
    frontier_cost: Floats

    @classmethod
    def of(cls, examples: Examples) -> Self:
        """Take the scores and costs of examples."""
        return cls(
            examples.cheap_score,
            examples.frontier_score,
            examples.cheap_cost,
            examples.frontier_cost,
        )

    @property
    def scored(self) -> bool:
        """Whether every row has both scores."""
        return bool(np.isfinite(self.cheap_score + self.frontier_score).all())

    @property
    def priced(self) -> bool:
        """Whether every row has both costs."""
        return bool(np.isfinite(self.cheap_cost + self.frontier_cost).all())


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What a model charges.

    Attributes
    ----------
    per_million_in, per_million_out : float
        Dollars for a million tokens that it reads, and that it writes; 0 or more.

    Raises
    ------
    ValueError
        If a price is below 0, or none.
    """

    per_million_in: float
    per_million_out: float

    def __post_init__(self) -> None:
        for price in (self.per_million_in, self.per_million_out):
            if not 0 <= price < float("inf"):
                raise ValueError(f"a price is {price}; it has to be 0 dollars or more")


def dollar_costs(price: ModelPrice, tokens_in: Floats, tokens_out: Floats) -> Floats:
    """Return what answers cost in dollars.

    Parameters
    ----------
    price : ModelPrice
    tokens_in, tokens_out : ndarray of float64, shape (n,)
        NaN where the log does not tell; so is the cost then, and nothing is assumed.

    Examples
    --------
    >>> dollar_costs(ModelPrice(3.0, 15.0), np.array([1000.0]), np.array([200.0]))
    array([0.006])
    """
    spent = price.per_million_in * tokens_in + price.per_million_out * tokens_out
    return np.asarray(spent / _TOKENS)
