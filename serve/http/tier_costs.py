"""What a query costs on each tier: as it was said at the start, or learned from outcomes."""

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock

from querytier.classifier.threshold import Tier

__all__ = ["TierCosts"]

_REMEMBERED = 10_000


class TierCosts:
    """Mean cost by tier; threads may share it.

    Parameters
    ----------
    given : mapping of tier to float
        Costs that are known. Those of other tiers are the means of posted outcomes.
    remembered : int
        Of so many latest decisions the tier is known when their cost comes.

    Raises
    ------
    ValueError
        If a cost is below 0.

    Examples
    --------
    >>> costs = TierCosts({"frontier": 0.03})
    >>> costs.decided("a", "cheap"); costs.learn("a", 0.002)
    >>> costs.mean("cheap"), costs.mean("frontier")
    (0.002, 0.03)
    """

    def __init__(
        self, given: Mapping[Tier, float] | None = None, remembered: int = _REMEMBERED
    ) -> None:
        self._given = dict(given or {})
        for tier, cost in self._given.items():
            if not 0 <= cost < float("inf"):
                raise ValueError(
                    f"the cost of {tier} is {cost}; give what a query costs, 0 or more"
                )
        self._remembered = remembered
        self._lock = Lock()
        self._tiers: OrderedDict[str, Tier] = OrderedDict()
        self._sums: dict[Tier, tuple[float, int]] = {}

    def decided(self, id: str, tier: Tier) -> None:  # noqa: A002 the log's own word
        """Remember which tier a decision was for."""
        with self._lock:
            self._tiers[id] = tier
            if len(self._tiers) > self._remembered:
                self._tiers.popitem(last=False)

    def learn(self, id: str, cost: float) -> None:  # noqa: A002 the log's own word
        """Take what an answer cost; of a decision, the first that is said."""
        with self._lock:
            tier = self._tiers.pop(id, None)
            if tier is not None:
                total, count = self._sums.get(tier, (0.0, 0))
                self._sums[tier] = (total + cost, count + 1)

    def mean(self, tier: Tier) -> float | None:
        """Return what a query costs on a tier; None where nobody has said."""
        with self._lock:
            total, count = self._sums.get(tier, (0.0, 0))
            return self._given.get(tier, total / count if count else None)
