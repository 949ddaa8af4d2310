"""What an artifact's threshold promises, and what more labels would let it promise."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from querytier.classifier.certified import write_certificate
from querytier.classifier.manifest import Certificate
from querytier.data.examples import Examples
from querytier.data.preparing import read_prepared
from querytier.errors import UsageError
from querytier.eval.certifying import Certification, certify
from querytier.eval.losses import Losses, RiskName
from querytier.eval.planning import Plan, plan
from querytier.params import CertifyParams
from querytier.scoring import decide_all
from querytier.serve import Router

__all__ = ["certify_artifact", "plan_labels"]


def certify_artifact(out: Path, params: CertifyParams) -> Certification:
    """Certify the artifact of a run, and write the certificate into it.

    Granted, the certified threshold takes the place of the one that only met a frontier rate.

    Parameters
    ----------
    out : Path
        What `--out` of the run was.
    params : CertifyParams

    Raises
    ------
    UsageError
        If the folder has no prepared data, or its labels lack what the risk is measured by.
    ArtifactError
        If it has no artifact.
    """
    examples, data = read_prepared(out)
    router = Router.load(out / "model")
    found = certify(
        _losses(router, examples.of_role("calibration"), params.risk),
        _losses(router, examples.of_role("certification"), params.risk),
        alpha=params.alpha,
        delta=params.delta,
        seed=params.seed,
        slices=params.slices,
        annotations_only=not (examples.scored or params.labels_are_outcomes),
    )
    record: dict[str, Any] = found.record()
    details = {name: record[name] for name in record if name not in ("status", "reason")}
    origin = {"date": datetime.now(UTC).date().isoformat(), "data": data.fingerprint}
    certificate = Certificate(found.status, found.reason, {**details, **origin})
    write_certificate(out / "model", certificate, found.threshold)
    return found


def plan_labels(
    out: Path, params: CertifyParams, target_cheap_share: float, price_per_label: float | None
) -> Plan:
    """Say how many more labels would certify a cheap share; errors as in `certify_artifact`."""
    examples, _ = read_prepared(out)
    router = Router.load(out / "model")
    certification = examples.of_role("certification")
    return plan(
        _losses(router, examples.of_role("calibration"), "needs_frontier"),
        target_cheap_share=target_cheap_share,
        alpha=params.alpha,
        delta=params.delta,
        labelled=len(np.unique(certification.group.astype(str))),
        seed=params.seed,
        price_per_label=price_per_label,
    )


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
