"""What answers cost where the log has no costs: by a price table and the tokens of the log."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.eval.prices import ModelPrice, dollar_costs

__all__ = ["Prices", "TierPrice", "priced"]

Floats = NDArray[np.float64]

# What tokenisers of language models make of English text, about.
_CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class TierPrice:
    """What a tier's model charges, and how much it writes where the log does not tell.

    Attributes
    ----------
    price : ModelPrice
    output_tokens : float or None
        Assumed of answers whose tokens the log does not tell; None assumes nothing, and leaves
        them without a cost.
    """

    price: ModelPrice
    output_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """A price table, the user's own.

    Attributes
    ----------
    cheap, frontier : TierPrice
    """

    cheap: TierPrice
    frontier: TierPrice


def priced(examples: Examples, prices: Prices) -> tuple[Examples, int]:
    """Give answers without a logged cost the cost that the price table makes of their tokens.

    A logged cost stays. Tokens that the log does not tell are estimated: what a model reads from
    the characters of the query, four a token; what it writes as the table assumes.

    Parameters
    ----------
    examples : Examples, length n
    prices : Prices

    Returns
    -------
    Examples, length n
        NaN costs are left where nothing is known or assumed of the tokens.
    int
        Rows of which any cost is by estimated tokens.
    """
    read = examples.input_tokens
    queries = np.array([len(str(query)) for query in examples.query]) / _CHARACTERS_A_TOKEN
    tokens_in = np.where(np.isnan(read), queries, read)
    estimated = np.zeros(len(examples), dtype=np.bool_)
    costs = {}
    for tier, of_tier in (("cheap", prices.cheap), ("frontier", prices.frontier)):
        logged: Floats = getattr(examples, f"{tier}_cost")
        told: Floats = getattr(examples, f"{tier}_output_tokens")
        assumed = np.nan if of_tier.output_tokens is None else of_tier.output_tokens
        tokens_out = np.where(np.isnan(told), assumed, told)
        by_table = dollar_costs(of_tier.price, tokens_in, tokens_out)
        costs[f"{tier}_cost"] = np.where(np.isnan(logged), by_table, logged)
        estimated |= np.isnan(logged) & (np.isnan(read) | np.isnan(told)) & ~np.isnan(by_table)
    return replace(examples, **costs), int(estimated.sum())
