"""The price table of the parameters, applied to examples."""

from dataclasses import dataclass
from typing import Any, Self

from querytier.data.examples import Examples
from querytier.eval.prices import ModelPrice
from querytier.eval.pricing import Prices, TierPrice, priced
from querytier.pipeline.params import PricesParams, TierPriceParams

__all__ = ["Pricing", "routing_cost_of"]


@dataclass(frozen=True, eq=False)
class Pricing:
    """Examples with costs by a price table where the log has none.

    Attributes
    ----------
    examples : Examples, length n
    estimated_rows : int
        Rows of which any cost is by estimated tokens.
    params : PricesParams
    """

    examples: Examples
    estimated_rows: int
    params: PricesParams

    @classmethod
    def of(cls, examples: Examples, params: PricesParams | None) -> Self | None:
        """Apply a price table; None where there is none."""
        if params is None:
            return None
        table = Prices(_tier_price(params.cheap), _tier_price(params.frontier))
        return cls(*priced(examples, table), params)

    @property
    def routing_cost(self) -> float:
        """Dollars for each query that routing costs, whatever it decides."""
        return self.params.decision + self.params.lost_cache_discount

    def to_dict(self) -> dict[str, Any]:
        """Return the prices, and how many rows they are estimates for, for JSON."""
        record = {"currency": "USD", "estimated_rows": self.estimated_rows}
        return {**record, **self.params.model_dump()}


def routing_cost_of(pricing: Pricing | None) -> float:
    """Return dollars for each query that routing costs; 0 without a price table."""
    return 0.0 if pricing is None else pricing.routing_cost


def _tier_price(params: TierPriceParams) -> TierPrice:
    price = ModelPrice(params.per_million_in, params.per_million_out)
    return TierPrice(price, params.output_tokens)
