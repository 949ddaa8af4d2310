"""The decision: what a router gets back for every query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from querytier.classifier.threshold import Tier

__all__ = ["Decision", "Query", "Reason"]

# A text, or chat messages.
Query = str | Sequence[Mapping[str, object]]

Reason = Literal[
    "classifier",
    "explore",
    "override",
    "conversation",
    "cap",
    "fallback:empty",
    "fallback:error",
    "fallback:timeout",
    "fallback:out_of_distribution",
    "fallback:certificate",
]


@dataclass(frozen=True, slots=True)
class Decision:
    """Which tier answers a query, and why.

    Attributes
    ----------
    tier : {"cheap", "frontier"}
    p_frontier : float or None
        Calibrated probability that the query needs the frontier model, in [0, 1]; None where the
        classifier could not answer.
    gain : float or None
        P(frontier better) - P(cheap better), in [-1, 1]; None where the artifact has no such
        output.
    decision_score : float or None
        What was compared with the threshold.
    threshold : float
    reason : str
        `classifier`; `explore`, where the other tier was drawn; `override`, where the caller left
        only this one; `conversation`, where the conversation had gone to the frontier tier before;
        `cap`, where the tenant has had its share of the frontier tier; or `fallback:` with what
        kept the classifier from answering. More may come: none of them needs to be known to take
        the tier.
    propensity : float
        Probability with which this tier was taken, in (0, 1]: what off-policy evaluation needs.
    model_version : str
    latency_ms : float
        From the query to the decision.
    audit : bool
        Whether the query was picked for the audit of the certificate: ask both tiers, and tell how
        good either answer was.
    audit_propensity : float
        Probability with which it was to be picked, in [0, 1]; 0 where the certificate does not
        speak of the query.
    """

    tier: Tier
    p_frontier: float | None
    gain: float | None
    decision_score: float | None
    threshold: float
    reason: Reason
    propensity: float
    model_version: str
    latency_ms: float
    audit: bool = False
    audit_propensity: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the decision for JSON."""
        return {name: getattr(self, name) for name in Decision.__slots__}
