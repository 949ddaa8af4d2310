"""Certify an artifact's threshold, count the attempts, and record the result."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from querytier.classifier.export.certify_artifact import write_certificate
from querytier.classifier.manifest import Certificate, Manifest
from querytier.data.examples import Examples
from querytier.data.ingest.preparing import read_prepared
from querytier.errors import UsageError
from querytier.eval.certificates.certify import Certification, certify
from querytier.eval.certificates.losses import Losses, RiskName
from querytier.eval.certificates.sample_size import SampleSize, sample_size
from querytier.pipeline.params import CertifyParams
from querytier.pipeline.scoring import decide_all, load_trained_on
from querytier.serve import Router

__all__ = ["Attempt", "Certified", "certify_artifact", "plan_sample_size", "record_attempt"]

_ATTEMPTS = "certifications.jsonl"
# Everything that a certification depends on: the same question gives the same answer.
_QUESTION = ("data", "model_version", "risk", "alpha", "delta", "slices", "seed")


@dataclass(frozen=True, slots=True)
class Attempt:
    """The number of a certification among all attempts on the same rows.

    Attributes
    ----------
    number : int
        Number of different certifications so far, including this one.
    any_wrong : float
        Largest probability that any of their promises is wrong, in (0, 1]: the sum of their
        deltas (union bound).
    """

    number: int
    any_wrong: float

    def sentence(self) -> str:
        """Return what the number of attempts means for a promise picked from them."""
        return (
            f"attempt {self.number} on these certification rows: delta holds for one attempt; the "
            f"probability that any of the {self.number} is wrong is up to {self.any_wrong:.2g}"
        )


def record_attempt(out: Path, question: Mapping[str, Any], answer: Mapping[str, Any]) -> Attempt:
    """Record a certification in `certifications.jsonl`; return its place among those on its rows.

    Each certification may break its promise with probability delta, so one that is picked from
    several may break it with up to the sum of their deltas. The same question asked twice is one
    attempt.

    Parameters
    ----------
    out : Path
        The run's folder.
    question : mapping
        `data`, the fingerprint of the rows, `model_version`, `risk`, `alpha`, `delta`, `slices` and
        `seed`.
    answer : mapping
        The outcome, for people.
    """
    path = out / _ATTEMPTS
    # Appended, never rewritten: a lost line would be an attempt that nobody counts.
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**question, **answer}, sort_keys=True) + "\n")
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    deltas = {
        json.dumps([line[name] for name in _QUESTION]): line["delta"]
        for line in lines
        if line["data"] == question["data"]
    }
    return Attempt(len(deltas), min(1.0, sum(deltas.values())))


@dataclass(frozen=True)
class Certified:
    """An artifact after an attempt to certify it.

    Attributes
    ----------
    certification : Certification
    attempt : Attempt
    artifact : Path
        The folder that the certificate was written to.
    manifest : Manifest
        The artifact's, with the certificate.
    """

    certification: Certification
    attempt: Attempt
    artifact: Path
    manifest: Manifest

    def lines(self) -> list[str]:
        """Return the result for a terminal."""
        result = self.certification
        lines = [f"certificate {result.status}: {result.reason}"]
        if result.granted:
            lines.append(
                f"threshold {result.threshold:.4f} sends {result.coverage:.0%} "
                f"({result.coverage_low:.0%} to {result.coverage_high:.0%}) of the queries to the "
                f"cheap model; written to {self.artifact}"
            )
        lines += [f"slice {one.name}: {one.status}, {one.reason}" for one in result.slices]
        if self.attempt.number > 1:
            lines.append(self.attempt.sentence())
        return lines


def certify_artifact(out: Path, params: CertifyParams) -> Certified:
    """Certify the artifact of a run, and write the certificate into it.

    If the certificate is granted, the certified threshold replaces the one that only meets a
    frontier rate. If a later attempt is refused, the old threshold is restored.

    Parameters
    ----------
    out : Path
        The run's folder.
    params : CertifyParams

    Raises
    ------
    UsageError
        If the folder has no prepared data, the artifact was trained on other data, the risk needs
        scores that the log does not have, or no alpha is given.
    ArtifactError
        If the folder has no artifact.
    """
    alpha = _alpha(params)
    examples, data = read_prepared(out)
    router = load_trained_on(out, data.fingerprint)
    classifier = router.classifier
    # Labels from annotators are refused whatever the scores are, so no query has to be decided.
    annotations_only = not (examples.scored or params.labels_are_outcomes)
    scorer = None if annotations_only else router
    result = certify(
        _losses(scorer, examples.of_split("calibration"), params.risk),
        _losses(scorer, examples.of_split("certification"), params.risk),
        alpha=alpha,
        delta=params.delta,
        seed=params.seed,
        slices=params.slices,
        annotations_only=annotations_only,
    )
    today = datetime.now(UTC).date()
    question = {
        "data": data.fingerprint,
        "model_version": classifier.manifest.model_version,
        **params.model_dump(include={"risk", "alpha", "delta", "slices", "seed"}),
    }
    answer = {"date": today.isoformat(), "status": result.status, "threshold": result.threshold}
    # Recorded before the artifact changes: an interruption must not hide an attempt.
    attempt = record_attempt(out, question, answer)
    # Traffic and models change, and then the promise no longer describes the decisions.
    expires = today + timedelta(days=params.valid_days) if result.granted else None
    certificate = _certificate(result, attempt, today, expires)
    # After a refusal, an earlier certified threshold must not stay: it would still look certified.
    by_rate = classifier.manifest.metrics.get("target_threshold")
    threshold = result.threshold if result.granted else by_rate
    manifest = write_certificate(out / "model", certificate, threshold, classifier)
    return Certified(result, attempt, out / "model", manifest)


def _certificate(
    result: Certification, attempt: Attempt, today: date, expires: date | None
) -> Certificate:
    record = result.to_dict()
    details = {name: record[name] for name in record if name not in ("status", "reason")}
    added = {
        "date": today.isoformat(),
        "expires": None if expires is None else expires.isoformat(),
        "attempts": attempt.number,
        "any_wrong": attempt.any_wrong,
    }
    again = result.granted and attempt.number > 1
    reason = f"{result.reason}; {attempt.sentence()}" if again else result.reason
    return Certificate(result.status, reason, {**details, **added})


def plan_sample_size(
    out: Path, params: CertifyParams, target_cheap_share: float, price_per_label: float | None
) -> SampleSize:
    """Return how many more labels would certify a cheap share; errors as in `certify_artifact`."""
    examples, data = read_prepared(out)
    router = load_trained_on(out, data.fingerprint)
    certification = examples.of_split("certification")
    return sample_size(
        # Count the certification rows without looking at them: they may prove a promise only once.
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


def _losses(router: Router | None, examples: Examples, risk: RiskName) -> Losses:
    """Return the losses of rows on the cheap tier, with their decision scores as served.

    Rows without a decision score are dropped: they go to the fallback tier at every threshold.
    Without a router, nothing is decided, and the scores are 0.
    """
    scores = np.zeros(len(examples))
    if router is not None:
        decisions = decide_all(router, examples.query.tolist())
        scores = np.array([decision.decision_score for decision in decisions], dtype=np.float64)
    rows, known = examples.where(~np.isnan(scores)), scores[~np.isnan(scores)]
    if risk == "needs_frontier":
        return Losses.needs_frontier(rows, known)
    if not rows.scored:
        raise UsageError(
            "the risk quality_lost needs the scores of both answers of every row; use the "
            "risk needs_frontier, or map cheap_score and frontier_score"
        )
    return Losses.quality_lost(rows, known)
