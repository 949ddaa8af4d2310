"""How a router decides beyond its threshold: deadline, exploration, memory, caps and audits."""

import math
from dataclasses import dataclass

__all__ = ["Exploration", "RouterSettings", "TenantCap"]


@dataclass(frozen=True, slots=True)
class Exploration:
    """How often to choose the other tier on purpose, so that logs contain outcomes of both.

    Attributes
    ----------
    epsilon : float
        Probability of the other tier, in (0, 1/2].
    band : float or None
        Explore only queries whose decision score is within this distance of the threshold; None
        explores every query that the classifier decides.

    Raises
    ------
    ValueError
        If one of them is out of range.
    """

    epsilon: float
    band: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 0.5:
            raise ValueError(
                f"epsilon is {self.epsilon}; it is the probability of the other tier, in (0, 0.5]; "
                "leave exploration out to turn it off"
            )
        if self.band is not None and not 0 < self.band < math.inf:
            raise ValueError(f"band is {self.band}; it has to be above 0, or None for all queries")

    def reaches(self, decision_score: float, threshold: float) -> bool:
        """Return whether a decision with this score may be explored."""
        return self.band is None or abs(decision_score - threshold) <= self.band


@dataclass(frozen=True, slots=True)
class TenantCap:
    """Limit on the share of a tenant's queries that the frontier tier answers.

    A tenant can get the expensive model by writing queries that look hard. Beyond the cap the cheap
    tier answers, with the reason `cap`: a deliberate exception to failing towards quality. A
    caller's `allow` and `deny` take precedence over the cap, and their decisions count.

    Attributes
    ----------
    share : float
        Largest share of a tenant's recent decisions, in (0, 1).
    window : int
        Number of recent decisions that count; capped ones count as cheap.
    at_least : int
        A tenant with fewer decisions is not capped.
    tenants : int
        Number of tenants to remember; the least recently seen is dropped first and then starts
        from zero. A service that loads another artifact starts from zero for all of them.
    out_of_distribution : bool
        Whether to cap the fallback for untypical queries too: a flood of them is another way to the
        frontier tier. Other fallbacks are not the tenant's doing, so they are neither capped nor
        counted.

    Raises
    ------
    ValueError
        If one of them is out of range.
    """

    share: float = 0.5
    window: int = 200
    at_least: int = 20
    tenants: int = 10_000
    out_of_distribution: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(
                f"share is {self.share}; it is the largest share of a tenant's queries for the "
                "frontier tier, in (0, 1); leave the cap out to turn it off"
            )
        for name in ("window", "at_least", "tenants"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be 1 or more")
        if self.at_least > self.window:
            raise ValueError(
                f"at_least is {self.at_least}, but only the window's {self.window} decisions are "
                "counted; lower it, or widen the window"
            )

    def holds_for(self, reason: str) -> bool:
        """Return whether a decision with this reason is counted and may be capped."""
        untypical = self.out_of_distribution and reason == "fallback:out_of_distribution"
        return untypical or not reason.startswith("fallback:")


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """How a router decides.

    Attributes
    ----------
    deadline_ms : float or None
        Milliseconds after which the fallback tier answers; None waits for the classifier, whose
        time the text view limits.
    least_typicality : float
        Queries less typical of the training traffic than this get the fallback tier. It is also the
        share of typical queries that get the fallback tier by mistake. In [0, 1); 0 turns it off.
    exploration : Exploration or None
    conversations : int
        Number of conversations kept on the frontier tier (least recently seen are dropped first); 0
        turns this off.
    tenant_cap : TenantCap or None
        None sets no limit for tenants.
    audit_rate : float
        Share of certified decisions to audit, picked at random, in [0, 1]: queries that a certified
        threshold sends cheap, if the caller names no tier. Only the caller can ask both tiers, and
        pays for the second answer.
    audit_seed : int or None
        Seed of the draws for the audit, which depend on nothing else; None draws one.

    Raises
    ------
    ValueError
        If one of them is out of range.
    """

    deadline_ms: float | None = None
    least_typicality: float = 0.0
    exploration: Exploration | None = None
    conversations: int = 0
    tenant_cap: TenantCap | None = None
    audit_rate: float = 0.0
    audit_seed: int | None = None

    def __post_init__(self) -> None:
        if self.deadline_ms is not None and not 0 < self.deadline_ms < math.inf:
            raise ValueError(
                f"deadline_ms is {self.deadline_ms}; it has to be above 0, or None for no deadline"
            )
        if not 0 <= self.least_typicality < 1:
            raise ValueError(
                f"least_typicality is {self.least_typicality}; it is a share in [0, 1): 0.01 "
                "turns away one typical query in a hundred"
            )
        if self.conversations < 0:
            raise ValueError(f"conversations is {self.conversations}; it has to be 0 or more")
        if not 0 <= self.audit_rate <= 1:
            raise ValueError(
                f"audit_rate is {self.audit_rate}; it is a share in [0, 1]: 0.02 audits one in "
                "fifty of the decisions that the certificate covers"
            )
