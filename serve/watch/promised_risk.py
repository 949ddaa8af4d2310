"""The loss of one query that a certificate bounds in the mean, from the scores of both answers."""

from dataclasses import dataclass
from typing import Literal, Self

from querytier.classifier.certificate import covered_domains
from querytier.classifier.manifest import Manifest
from querytier.data.labelling import LabelRules, Outcomes, label_of

__all__ = ["PromisedRisk"]


@dataclass(frozen=True, slots=True)
class PromisedRisk:
    """The promised mean loss of the queries that the threshold sends to the cheap tier.

    Attributes
    ----------
    risk : {"needs_frontier", "quality_lost"}
    alpha : float
        Largest mean loss, by the promise.
    rules : LabelRules
        The rules of the artifact's labels; the scores of both tiers are labelled by them.
    slices : tuple of str
        Slices with a promise of their own.
    """

    risk: Literal["needs_frontier", "quality_lost"]
    alpha: float
    rules: LabelRules
    slices: tuple[str, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> Self | None:
        """Return what an artifact promises; None if there is no promise that can be watched."""
        certificate = manifest.certificate
        # A certificate from before these two were recorded is valid, but cannot be watched.
        risk, alpha = certificate.details.get("risk"), certificate.details.get("alpha")
        if certificate.status != "granted" or alpha is None:
            return None
        if risk not in {"needs_frontier", "quality_lost"}:
            return None
        rules = LabelRules(**manifest.label_rule).with_automatic()
        slices = tuple(sorted(covered_domains(certificate) or ()))
        return cls(risk, float(alpha), rules, slices)

    def loss(self, cheap_score: float, frontier_score: float) -> float:
        """Return the loss of the cheap answer, in [0, 1], from both scores, each in [0, 1]."""
        if self.risk == "quality_lost":
            return max(0.0, frontier_score - cheap_score)
        # The label used in training, by the same rules and thresholds: any other definition of
        # failure would test a promise that nobody made.
        scores = Outcomes(cheap_score=cheap_score, frontier_score=frontier_score)
        label, _ = label_of(scores, self.rules, self.rules.ok_threshold)
        return label
