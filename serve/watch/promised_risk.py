"""What a certificate bounds, for one query: the loss that its two answers show."""

from dataclasses import dataclass
from typing import Literal, Self

from querytier.classifier.certificate import covered_domains
from querytier.classifier.manifest import Manifest
from querytier.data.labelling import LabelRules, Outcomes, label_of

__all__ = ["PromisedRisk"]


@dataclass(frozen=True, slots=True)
class PromisedRisk:
    """The mean loss that is promised of the queries that the threshold sends to the cheap tier.

    Attributes
    ----------
    risk : {"needs_frontier", "quality_lost"}
    alpha : float
        What the mean is at most, by the promise.
    rules : LabelRules
        What the artifact's labels were made by; scores of both tiers are labelled by them.
    slices : tuple of str
        Those that the promise was made for one by one, too.
    """

    risk: Literal["needs_frontier", "quality_lost"]
    alpha: float
    rules: LabelRules
    slices: tuple[str, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> Self | None:
        """Return what an artifact promises; None where it promises nothing that could be watched.

        A certificate of before risk and alpha were written is one of these.
        """
        certificate = manifest.certificate
        risk, alpha = certificate.details.get("risk"), certificate.details.get("alpha")
        if certificate.status != "granted" or alpha is None:
            return None
        if risk not in {"needs_frontier", "quality_lost"}:
            return None
        rules = LabelRules(**manifest.label_rule).with_automatic()
        slices = tuple(sorted(covered_domains(certificate) or ()))
        return cls(risk, float(alpha), rules, slices)

    def loss(self, cheap_score: float, frontier_score: float) -> float:
        """Return what the cheap answer loses, in [0, 1], by the scores of both, in [0, 1] too."""
        if self.risk == "quality_lost":
            return max(0.0, frontier_score - cheap_score)
        scores = Outcomes(cheap_score=cheap_score, frontier_score=frontier_score)
        label, _ = label_of(scores, self.rules, self.rules.ok_threshold)
        return label
