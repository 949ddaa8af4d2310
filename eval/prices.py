"""The cost of answers if the log has none: a price table, and the tokens in the log."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from querytier.data.arrays import Floats
from querytier.data.examples import Examples

__all__ = ["Prices", "TierPrice", "dollar_costs", "with_costs"]


_TOKENS = 1_000_000
# Approximately true of English text and the tokenisers of language models.
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class TierPrice:
    """The prices of a tier's model, and the length of its answers if the log does not state it.

    Attributes
    ----------
    per_million_in, per_million_out : float
        Dollars per million tokens read and written; 0 or more.
    output_tokens : float or None
        Assumed length of answers whose number of tokens is not in the log. None assumes nothing,
        and leaves these answers without a cost.

    Raises
    ------
    ValueError
        If a number is below 0, or not finite.
    """

    # pydantic reads a section of params.yaml into this record, and refuses unknown keys.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    per_million_in: float
    per_million_out: float
    output_tokens: float | None = None

    def __post_init__(self) -> None:
        _check(self.per_million_in, self.per_million_out, self.output_tokens or 0.0)


@dataclass(frozen=True, slots=True)
class Prices:
    """A price table, in dollars.

    Attributes
    ----------
    cheap, frontier : TierPrice
    decision, lost_cache_discount : float
        Cost of each decision, and the saving per query by the provider's prompt cache that is lost
        with a router; 0 or more.
    source : str
        Where the prices come from, for readers of the report.

    Raises
    ------
    ValueError
        If a number is below 0, or not finite.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    cheap: TierPrice
    frontier: TierPrice
    decision: float = 0.0
    lost_cache_discount: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        _check(self.decision, self.lost_cache_discount)

    @property
    def routing_cost(self) -> float:
        """Dollars that routing costs per query, whatever the decision."""
        return self.decision + self.lost_cache_discount


def with_costs(examples: Examples, prices: Prices | None) -> tuple[Examples, int]:
    """Fill in missing costs of answers from the price table and their tokens.

    A logged cost does not change. Numbers of tokens that are not in the log are estimated: tokens
    read from the characters of the query, four per token, and tokens written from the table.

    Parameters
    ----------
    examples : Examples, length n
    prices : Prices or None
        None changes no cost.

    Returns
    -------
    Examples, length n
        Costs stay NaN if the tokens are neither known nor assumed.
    int
        Number of rows with a cost from estimated tokens.
    """
    if prices is None:
        return examples, 0
    # NaN stays NaN throughout: a missing number never becomes a cost of 0.
    read = examples.input_tokens
    characters = np.array([len(str(query)) for query in examples.query])
    tokens_in = np.where(np.isnan(read), characters / _CHARACTERS_PER_TOKEN, read)
    estimated = np.zeros(len(examples), dtype=np.bool_)
    costs = {}
    for tier, price in (("cheap", prices.cheap), ("frontier", prices.frontier)):
        logged: Floats = getattr(examples, f"{tier}_cost")
        written: Floats = getattr(examples, f"{tier}_output_tokens")
        assumed = np.nan if price.output_tokens is None else price.output_tokens
        tokens_out = np.where(np.isnan(written), assumed, written)
        by_table = dollar_costs(price, tokens_in, tokens_out)
        costs[f"{tier}_cost"] = np.where(np.isnan(logged), by_table, logged)
        estimated |= np.isnan(logged) & (np.isnan(read) | np.isnan(written)) & ~np.isnan(by_table)
    return replace(examples, **costs), int(estimated.sum())


def dollar_costs(price: TierPrice, tokens_in: Floats, tokens_out: Floats) -> Floats:
    """Return the cost of answers in dollars.

    Parameters
    ----------
    price : TierPrice
    tokens_in, tokens_out : ndarray of float64, shape (n,)
        NaN if not known; the cost is then NaN, too.

    Examples
    --------
    >>> dollar_costs(TierPrice(3.0, 15.0), np.array([1000.0]), np.array([200.0]))
    array([0.006])
    """
    spent = price.per_million_in * tokens_in + price.per_million_out * tokens_out
    return np.asarray(spent / _TOKENS)


def _check(*numbers: float) -> None:
    for number in numbers:
        if not 0 <= number < math.inf:
            raise ValueError(f"a price or a number of tokens is {number}; it must be 0 or more")
