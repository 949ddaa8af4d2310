"""What an artifact's threshold promises, and what more labels would let it promise."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from querytier.classifier.export.certify_artifact import write_certificate
from querytier.classifier.manifest import Certificate, Manifest
from querytier.data.examples import Examples
from querytier.data.ingest.preparing import read_prepared
from querytier.errors import UsageError
from querytier.eval.certificates.certify import Certification, certify
from querytier.eval.certificates.losses import Losses, RiskName
from querytier.eval.certificates.sample_size import Plan, plan
from querytier.pipeline.attempts import Attempt, Attempts
from querytier.pipeline.params import CertifyParams
from querytier.pipeline.scoring import decide_all, load_trained_on
from querytier.serve import Router

__all__ = ["Certified", "certify_artifact", "plan_sample_size"]


@dataclass(frozen=True)
class Certified:
    """What came of asking for a promise.

    Attributes
    ----------
    certification : Certification
    attempt : Attempt
        Among all on these certification rows.
    artifact : Path
        What the certificate was written into.
    manifest : Manifest
        The artifact's, with the certificate.
    """

    certification: Certification
    attempt: Attempt
    artifact: Path
    manifest: Manifest

    def lines(self) -> list[str]:
        """Return what there is to say of it."""
        found = self.certification
        lines = [f"certificate {found.status}: {found.reason}"]
        if found.granted:
            lines.append(
                f"threshold {found.threshold:.4f} sends {found.coverage:.0%} "
                f"({found.coverage_low:.0%} to {found.coverage_high:.0%}) of the queries to the "
                f"cheap model; written into {self.artifact}"
            )
        lines += [f"slice {one.name}: {one.status}, {one.reason}" for one in found.slices]
        if self.attempt.number > 1:
            lines.append(self.attempt.sentence())
        return lines


def certify_artifact(out: Path, params: CertifyParams) -> Certified:
    """Certify the artifact of a run, and write the certificate into it.

    Granted, the certified threshold takes the place of the one that only met a frontier rate, which
    comes back where a later attempt is refused.

    Parameters
    ----------
    out : Path
        What `--out` of the run was.
    params : CertifyParams

    Raises
    ------
    UsageError
        If the folder has no prepared data, or others than the artifact was trained on, its labels
        lack what the risk is measured by, or no alpha is given.
    ArtifactError
        If it has no artifact.
    """
    alpha = _alpha(params)
    examples, data = read_prepared(out)
    # Whether an earlier certificate has lapsed is no matter here: a new one is asked for.
    router = load_trained_on(out, data.fingerprint)
    found = certify(
        _losses(router, examples.of_split("calibration"), params.risk),
        _losses(router, examples.of_split("certification"), params.risk),
        alpha=alpha,
        delta=params.delta,
        seed=params.seed,
        slices=params.slices,
        annotations_only=not (examples.scored or params.labels_are_outcomes),
    )
    today = datetime.now(UTC).date()
    question = {
        "data": data.fingerprint,
        "model_version": router.classifier.manifest.model_version,
        **params.model_dump(include={"risk", "alpha", "delta", "slices", "seed"}),
    }
    answer = {"date": today.isoformat(), "status": found.status, "threshold": found.threshold}
    attempt = Attempts(out).recorded(question, answer)
    expires = today + timedelta(days=params.valid_days) if found.granted else None
    certificate = _certificate(found, attempt, today, expires)
    by_rate = router.classifier.manifest.metrics.get("target_threshold")
    threshold = found.threshold if found.granted else by_rate
    manifest = write_certificate(out / "model", certificate, threshold)
    return Certified(found, attempt, out / "model", manifest)


def _certificate(
    found: Certification, attempt: Attempt, today: date, expires: date | None
) -> Certificate:
    record = found.to_dict()
    details = {name: record[name] for name in record if name not in ("status", "reason")}
    added = {
        "date": today.isoformat(),
        "expires": None if expires is None else expires.isoformat(),
        "attempts": attempt.number,
        "any_wrong": attempt.any_wrong,
    }
    again = found.granted and attempt.number > 1
    reason = f"{found.reason}; {attempt.sentence()}" if again else found.reason
    return Certificate(found.status, reason, {**details, **added})


def plan_sample_size(
    out: Path, params: CertifyParams, target_cheap_share: float, price_per_label: float | None
) -> Plan:
    """Say how many more labels would certify a cheap share; errors as in `certify_artifact`."""
    examples, data = read_prepared(out)
    router = load_trained_on(out, data.fingerprint)
    certification = examples.of_split("certification")
    return plan(
        _losses(router, examples.of_split("calibration"), "needs_frontier"),
        target_cheap_share=target_cheap_share,
        alpha=_alpha(params),
        delta=params.delta,
        labelled=len(np.unique(certification.group.astype(str))),
        seed=params.seed,
        price_per_label=price_per_label,
    )


def _alpha(params: CertifyParams) -> float:
    if params.alpha is None:
        raise UsageError(
            "no risk to promise: give --alpha, such as 0.1, or set certify.alpha in a params file"
        )
    return params.alpha


def _losses(router: Router, examples: Examples, risk: RiskName) -> Losses:
    """Return what the cheap tier would lose on rows that the artifact decides as it serves."""
    scores = [decision.decision_score for decision in decide_all(router, examples.query.tolist())]
    decided = np.array([score is not None for score in scores], dtype=np.bool_)
    known = np.array([score for score in scores if score is not None], dtype=np.float64)
    rows = examples.where(decided)
    if risk == "needs_frontier":
        return Losses.needs_frontier(rows, known)
    if not rows.scored:
        raise UsageError(
            "the risk quality_lost needs the scores of both answers of every row; take the risk "
            "needs_frontier, or map cheap_score and frontier_score"
        )
    return Losses.quality_lost(rows, known)
