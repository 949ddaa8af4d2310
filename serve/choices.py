"""What may change the classifier's choice: the caller, the conversation, chance, the tenant's cap.

A choice is a tier and its reason, before it becomes a decision. The functions here return a new
choice; `Conversations` and `TenantShares` remember what earlier decisions chose.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from random import random
from threading import Lock
from typing import NamedTuple

from querytier.classifier.runtime import Scores
from querytier.classifier.threshold import Tier
from querytier.serve.decision import Reason
from querytier.serve.settings import Exploration, TenantCap

__all__ = [
    "Choice",
    "Conversations",
    "TenantShares",
    "allowed_tiers",
    "apply_cap",
    "explore",
    "override",
]

_TIERS: tuple[Tier, Tier] = ("cheap", "frontier")
_OTHER: dict[Tier, Tier] = {"cheap": "frontier", "frontier": "cheap"}


class Choice(NamedTuple):
    """A tier and the reason for it; the fields are those of `Decision`."""

    tier: Tier
    reason: Reason
    scores: Scores | None = None
    propensity: float = 1.0
    audit: bool = False
    audit_propensity: float = 0.0


def allowed_tiers(
    allow: Collection[str] | None, deny: Collection[str] | None
) -> tuple[Tier, ...] | None:
    """Return the tiers that a caller accepts; None if the caller says nothing about tiers.

    Naming both tiers is not the same as naming none: a caller that names tiers has decided for
    itself, so that its queries are neither explored nor audited.

    Raises
    ------
    ValueError
        If a name is not a tier, or no tier remains.

    Examples
    --------
    >>> allowed_tiers(None, ["cheap"])
    ('frontier',)
    """
    if allow is None and deny is None:
        return None
    unknown = {*(allow or ()), *(deny or ())} - set(_TIERS)
    allowed = tuple(
        tier
        for tier in _TIERS
        if (allow is None or tier in allow) and (deny is None or tier not in deny)
    )
    if unknown or not allowed:
        raise ValueError(
            f"allow {allow!r} and deny {deny!r} leave no tier; each is a list of cheap or frontier"
        )
    return allowed


def override(choice: Choice, allowed: tuple[Tier, ...]) -> Choice:
    """Return the choice if the caller allows its tier, else the tier that it allows."""
    if choice.tier in allowed:
        return choice
    return choice._replace(tier=allowed[0], reason="override")


def explore(choice: Choice, exploration: Exploration, threshold: float) -> Choice:
    """Return the other tier with probability epsilon, and the propensity of the tier returned."""
    scores = choice.scores
    if choice.reason != "classifier" or scores is None:
        return choice
    if not exploration.reaches(scores.decision_score, threshold):
        return choice
    if random() < exploration.epsilon:  # noqa: S311 a draw that nobody gains by guessing
        return Choice(_OTHER[choice.tier], "explore", scores, exploration.epsilon)
    return choice._replace(propensity=1 - exploration.epsilon)


def apply_cap(choice: Choice, cap: TenantCap) -> Choice:
    """Return the cheap tier, with propensity 1, if the cap applies to this choice."""
    if choice.tier == "cheap" or not cap.holds_for(choice.reason):
        return choice
    return choice._replace(tier="cheap", reason="cap", propensity=1.0)


class Conversations:
    """Names of conversations that stay on the frontier tier; threads may share it.

    Parameters
    ----------
    limit : int
        Number of names to remember; beyond it the least recently seen is dropped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._names: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        with self._lock:
            known = name in self._names
            if known:
                self._names.move_to_end(name)
            return known

    def add(self, name: str) -> None:
        """Remember a name."""
        with self._lock:
            self._names[name] = None
            self._names.move_to_end(name)
            while len(self._names) > self._limit:
                self._names.popitem(last=False)


class TenantShares:
    """The share of each tenant's recent decisions that used the frontier tier; thread-safe.

    Parameters
    ----------
    cap : TenantCap
    """

    def __init__(self, cap: TenantCap) -> None:
        self._cap = cap
        self._lock = Lock()
        self._recent: OrderedDict[str, deque[bool]] = OrderedDict()

    def choose(self, tenant: str, make_choice: Callable[[bool], Choice]) -> Choice:
        """Return a tenant's choice, and count it.

        Parameters
        ----------
        tenant : str
        make_choice : callable
            Receives whether one more frontier decision would exceed the tenant's share, and returns
            the choice.
        """
        # The lock covers both check and count: two threads could otherwise each take the last free
        # place. The choice is made inside it, because a draw of exploration that the cap revokes
        # afterwards would be logged with a propensity that it never had.
        with self._lock:
            recent = self._recent_of(tenant)
            choice = make_choice(self._is_full(recent))
            if self._cap.holds_for(choice.reason):
                recent.append(choice.tier == "frontier")
            return choice

    def _recent_of(self, tenant: str) -> deque[bool]:
        recent = self._recent.setdefault(tenant, deque(maxlen=self._cap.window))
        self._recent.move_to_end(tenant)
        if len(self._recent) > self._cap.tenants:
            self._recent.popitem(last=False)
        return recent

    def _is_full(self, recent: deque[bool]) -> bool:
        if len(recent) < self._cap.at_least:
            return False
        # The next decision pushes the oldest out of a full window.
        leaves = recent[0] if len(recent) == self._cap.window else False
        count = min(len(recent) + 1, self._cap.window)
        return sum(recent) - leaves + 1 > self._cap.share * count
