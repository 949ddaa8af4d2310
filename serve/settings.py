"""How a router decides beyond its threshold: deadline, exploration, what is too strange, memory."""

import math
from dataclasses import dataclass

__all__ = ["Exploration", "RouterSettings", "TenantCap"]


@dataclass(frozen=True, slots=True)
class Exploration:
    """How often the tier is taken that the classifier did not choose, so that logs tell of both.

    Attributes
    ----------
    epsilon : float
        Probability of the other tier, in (0, 1/2].
    band : float or None
        Only queries whose decision score lies at most so far from the threshold are explored; None
        explores all that the classifier decides.

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
                f"epsilon is {self.epsilon}; the other tier is taken with a probability in "
                "(0, 0.5], and without exploration there is none"
            )
        if self.band is not None and not 0 < self.band < math.inf:
            raise ValueError(f"band is {self.band}; it has to be above 0, or None for all queries")

    def reaches(self, decision_score: float, threshold: float) -> bool:
        """Tell whether a decision with this score may be explored."""
        return self.band is None or abs(decision_score - threshold) <= self.band


@dataclass(frozen=True, slots=True)
class TenantCap:
    """How much of a tenant's traffic the frontier tier may answer.

    Who writes queries that look hard gets the expensive model for them. Beyond the cap the cheap
    tier answers, with the reason `cap`: a deliberate exception to failing towards quality. A
    caller's `allow` and `deny` come before the cap, and their decisions count.

    Attributes
    ----------
    share : float
        Of a tenant's latest decisions, in (0, 1).
    window : int
        So many decisions are the latest; capped ones count as cheap.
    at_least : int
        A tenant with fewer decisions is not capped.
    tenants : int
        So many are remembered, the longest unseen are forgotten first, and begin anew; all do where
        a service takes another artifact.
    out_of_distribution : bool
        Whether the cap holds for the fallback of queries that are too strange, too: a flood of them
        is another way to the frontier tier. Other fallbacks are nothing that a tenant does, and are
        neither capped nor counted.

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
                f"share is {self.share}; the frontier tier may answer a share in (0, 1) of a "
                "tenant's queries, and without a cap all of them"
            )
        for name in ("window", "at_least", "tenants"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be 1 or more")
        if self.at_least > self.window:
            raise ValueError(
                f"at_least is {self.at_least}, and no more than the window's {self.window} "
                "decisions are counted; lower it, or widen the window"
            )

    def holds_for(self, reason: str) -> bool:
        """Tell whether a decision with this reason is counted, and may be capped."""
        strange = self.out_of_distribution and reason == "fallback:out_of_distribution"
        return strange or not reason.startswith("fallback:")


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """How a router decides.

    Attributes
    ----------
    deadline_ms : float or None
        After so many milliseconds the fallback tier answers; None waits for the classifier, whose
        time the text view bounds.
    least_typicality : float
        Queries less typical of the training traffic than this get the fallback tier; it is the
        share of typical queries that get it too. In [0, 1); 0 lets all pass.
    exploration : Exploration or None
    conversations : int
        So many conversations that went to the frontier tier stay there, the longest unseen are
        forgotten first; 0 remembers none.
    tenant_cap : TenantCap or None
        None lets every tenant have the frontier tier as often as the classifier says.
    audit_rate : float
        Share, in [0, 1], of the decisions that the certificate speaks of which are picked at random
        for its audit. Only the caller can ask both tiers, and pays for the second answer.
    audit_seed : int or None
        Of the draws for the audit, which depend on nothing else; None takes one that nobody knows.

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
                f"least_typicality is {self.least_typicality}; it is a share in [0, 1), and 0.01 "
                "turns away one typical query in a hundred"
            )
        if self.conversations < 0:
            raise ValueError(f"conversations is {self.conversations}; it has to be 0 or more")
        if not 0 <= self.audit_rate <= 1:
            raise ValueError(
                f"audit_rate is {self.audit_rate}; it is a share in [0, 1], and 0.02 asks both "
                "tiers for one in fifty of the queries that the certificate speaks of"
            )
