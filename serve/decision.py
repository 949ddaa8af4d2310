"""The request for a decision, and the decision: what a router gets and returns for every query."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from querytier.classifier.threshold import Tier

__all__ = ["Decision", "DecisionRequest", "Query", "Reason"]

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
class DecisionRequest:
    """One query and its options.

    Attributes
    ----------
    query : str or sequence of mappings
        The query, or chat messages of which the last user turn is the query.
    allowed : tuple of {"cheap", "frontier"} or None
        Tiers that the caller accepts, from `choices.allowed_tiers`; None if the caller sets no
        limit.
    conversation, domain, tenant : str or None
        As in `Router.decide`.
    id : str or None
        Id of the decision; None if the caller gives none.
    """

    query: Query
    allowed: tuple[Tier, ...] | None = None
    conversation: str | None = None
    domain: str | None = None
    tenant: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Which tier answers a query, and why.

    Attributes
    ----------
    tier : {"cheap", "frontier"}
    p_frontier : float or None
        Calibrated probability that the query needs the frontier model, in [0, 1]; None if the
        classifier could not answer.
    gain : float or None
        P(frontier better) - P(cheap better), in [-1, 1]; None if the artifact has no such output.
    decision_score : float or None
        The value that was compared with the threshold.
    threshold : float
    reason : str
        `classifier`; `explore` if the other tier was drawn at random; `override` if the caller
        allows only this tier; `conversation` if the conversation used the frontier tier before;
        `cap` if the tenant has used up its share of the frontier tier; or `fallback:` and the
        reason why the classifier did not answer. New reasons may be added: a client needs to know
        none of them to follow the tier.
    propensity : float
        Probability of this tier, in (0, 1]: off-policy evaluation needs it.
    model_version : str
    latency_ms : float
        Time from the query to the decision.
    audit : bool
        Whether the query was picked for the audit of the certificate: ask both tiers, and report
        the scores of both answers.
    audit_propensity : float
        Probability of being picked, in [0, 1]; 0 if the certificate does not cover the query.
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
