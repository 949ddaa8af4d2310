"""Audited decisions that wait for the scores of both tiers, and leave in the order they were made.

Bad answers may be judged sooner, or later, than good ones: who took outcomes as they arrive would
see the mean loss rise and fall with nothing behind it. So an outcome waits for those of all earlier
decisions, and each of these only so long.
"""

import math
from dataclasses import dataclass, field

from querytier.classifier.threshold import Tier

__all__ = ["Audit", "AuditQueue"]

_OTHER: dict[Tier, Tier] = {"cheap": "frontier", "frontier": "cheap"}


@dataclass(slots=True)
class Audit:
    """One decision whose query both tiers are asked.

    Attributes
    ----------
    id : str
    time : float
        When it was decided, in seconds since 1970.
    tier : {"cheap", "frontier"}
        Which tier it was decided for.
    domain : str or None
    said : dict of str to float
        Any of cheap_score, frontier_score, cheap_cost and frontier_cost, as far as they are known.
    """

    id: str
    time: float
    tier: Tier
    domain: str | None = None
    said: dict[str, float] = field(default_factory=dict)

    @property
    def extra_tier(self) -> Tier:
        """The tier that is asked for the audit alone."""
        return _OTHER[self.tier]

    @property
    def extra_cost(self) -> float:
        """What its answer cost; 0 where nobody has said."""
        return self.said.get(f"{self.extra_tier}_cost", 0.0)

    @property
    def scores(self) -> tuple[float, float] | None:
        """The scores of the cheap and of the frontier answer; None while one is missing."""
        if not self.said.keys() >= {"cheap_score", "frontier_score"}:
            return None
        return self.said["cheap_score"], self.said["frontier_score"]


class AuditQueue:
    """Lets audits out in the order of their decisions, once their scores are known or overdue.

    Parameters
    ----------
    timeout_s : float
        So long after its decision an audit holds up the later ones.
    """

    def __init__(self, timeout_s: float = math.inf) -> None:
        self._timeout_s = timeout_s
        self._waiting: dict[str, Audit] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, own_id: str) -> bool:
        return own_id in self._waiting

    @property
    def extra_cost(self) -> float:
        """What the extra answers to those that wait cost, as far as it is known."""
        return math.fsum(audit.extra_cost for audit in self._waiting.values())

    def add(self, audit: Audit) -> None:
        """Have an audit wait; another of the same id is passed over."""
        self._waiting.setdefault(audit.id, audit)

    def hear(self, own_id: str, said: dict[str, float]) -> None:
        """Take what is said of an audit that waits; of the others it comes too late."""
        if own_id in self._waiting:
            self._waiting[own_id].said.update(said)

    def released(self, now: float) -> list[Audit]:
        """Return the audits that wait no longer; those without scores are overdue."""
        out: list[Audit] = []
        for audit in self._waiting.values():
            if audit.scores is None and now < audit.time + self._timeout_s:
                break
            out.append(audit)
        for audit in out:
            del self._waiting[audit.id]
        return out
