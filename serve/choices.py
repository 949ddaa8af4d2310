"""A choice of tier, before it is a decision: what the classifier said, and what may change it."""

from collections.abc import Collection
from random import random
from typing import NamedTuple

from querytier.classifier.runtime import Scores
from querytier.classifier.threshold import Tier
from querytier.serve.decision import Reason
from querytier.serve.settings import Exploration, TenantCap

__all__ = ["Choice", "allowed_tiers", "capped", "explored", "overridden"]

_TIERS: tuple[Tier, Tier] = ("cheap", "frontier")
_OTHER: dict[Tier, Tier] = {"cheap": "frontier", "frontier": "cheap"}


class Choice(NamedTuple):
    """A tier, and how it came about; as in `Decision`."""

    tier: Tier
    reason: Reason
    scores: Scores | None = None
    propensity: float = 1.0
    audit: bool = False
    audit_propensity: float = 0.0


def allowed_tiers(allow: Collection[str] | None, deny: Collection[str] | None) -> tuple[Tier, ...]:
    """Return the tiers that a caller leaves; None allows both, and denies none.

    Raises
    ------
    ValueError
        If a tier is none, or none is left.

    Examples
    --------
    >>> allowed_tiers(None, ["cheap"])
    ('frontier',)
    """
    strange = {*(allow or ()), *(deny or ())} - set(_TIERS)
    left = tuple(
        tier
        for tier in _TIERS
        if (allow is None or tier in allow) and (deny is None or tier not in deny)
    )
    if strange or not left:
        raise ValueError(
            f"allow {allow!r} and deny {deny!r} leave no tier: name cheap or frontier, each a list"
        )
    return left


def overridden(choice: Choice, left: tuple[Tier, ...]) -> Choice:
    """Return the choice where its tier is left, and else the one that is."""
    if choice.tier in left:
        return choice
    return choice._replace(tier=left[0], reason="override")


def explored(choice: Choice, exploration: Exploration, threshold: float) -> Choice:
    """Return the other tier with probability epsilon; the propensity is that of what is taken."""
    scores = choice.scores
    if choice.reason != "classifier" or scores is None:
        return choice
    if not exploration.reaches(scores.decision_score, threshold):
        return choice
    if random() < exploration.epsilon:  # noqa: S311 a draw that nobody gains by guessing
        return Choice(_OTHER[choice.tier], "explore", scores, exploration.epsilon)
    return choice._replace(propensity=1 - exploration.epsilon)


def capped(choice: Choice, cap: TenantCap) -> Choice:
    """Return the cheap tier, which the other had no chance against, where the cap holds."""
    if choice.tier == "cheap" or not cap.holds_for(choice.reason):
        return choice
    return choice._replace(tier="cheap", reason="cap", propensity=1.0)
