"""How often each answer succeeds, both fail, or the cheap one wins: counted while a log is read."""

from collections import Counter

from querytier.data.label_rules import cheap_fails_frontier_succeeds

__all__ = ["Strata"]


class Strata:
    """Counts over scored records.

    Examples
    --------
    >>> strata = Strata()
    >>> for cheap, frontier in [(1, 1), (0, 1), (0, 0), (1, 0)]:
    ...     strata.add(cheap, frontier, ok_threshold=0.5)
    >>> strata.shares()["both_fail"]
    0.25
    """

    def __init__(self) -> None:
        self._counts = Counter(
            dict.fromkeys(
                ("cheap_ok", "frontier_ok", "needs_frontier", "both_fail", "cheap_wins"), 0
            )
        )
        self._scored = 0

    def add(self, cheap_score: float, frontier_score: float, ok_threshold: float) -> None:
        """Count one record with both scores; from `ok_threshold` on they are a success."""
        cheap_ok, frontier_ok = cheap_score >= ok_threshold, frontier_score >= ok_threshold
        self._scored += 1
        self._counts["cheap_ok"] += cheap_ok
        self._counts["frontier_ok"] += frontier_ok
        self._counts["needs_frontier"] += int(
            cheap_fails_frontier_succeeds(cheap_score, frontier_score, ok_threshold)
        )
        self._counts["both_fail"] += not (cheap_ok or frontier_ok)
        self._counts["cheap_wins"] += cheap_ok and not frontier_ok

    def shares(self) -> dict[str, float]:
        """Return each count as a share of the scored records; empty where there are none."""
        if not self._scored:
            return {}
        return {name: count / self._scored for name, count in self._counts.items()}
