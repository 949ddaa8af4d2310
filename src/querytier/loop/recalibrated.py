"""What came of a recalibration: rows, the old promise, the new one, in words and for tools."""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from querytier.classifier.manifest import Manifest
from querytier.eval.certificates.sample_size import SampleSize
from querytier.eval.staleness import Measured, Staleness
from querytier.pipeline.certification import Certified
from querytier.training.calibration import FittedCalibration

__all__ = ["Recalibrated"]


@dataclass(frozen=True, eq=False)
class Recalibrated:
    """What came of a recalibration.

    Attributes
    ----------
    out : Path
    source : Path
        The artifact that it started from.
    manifest : Manifest
        Of the new artifact, with the certificate.
    old_version : str
    rows : dict of str to int
        `calibration`, `certification`, and `set_aside`: those that the head learned from.
    stale : Staleness
        Of the old classifier, on all rows that were used.
    before, after : Measured
        Old and new classifier on the certification rows, which calibrated neither.
    calibration : FittedCalibration
    certified : Certified or None
        None where no promise was asked for.
    plan : SampleSize or None
        What it takes to certify the target cheap share, where the promise was refused.
    """

    out: Path
    source: Path
    manifest: Manifest
    old_version: str
    rows: dict[str, int]
    stale: Staleness
    before: Measured
    after: Measured
    calibration: FittedCalibration
    certified: Certified | None
    plan: SampleSize | None

    @property
    def ranks(self) -> bool:
        """Whether the old ranking still tells queries of the new pair apart."""
        return max(self.calibration.calibrator.rising, self.calibration.calibrator.falling) > 0

    def lines(self) -> list[str]:
        """Return what there is to say of it."""
        brier = _pair(self.before.brier.value, self.after.brier.value)
        ece = _pair(self.before.ece.value, self.after.ece.value)
        reason = self.calibration.reason
        lines = [
            self._rows_line(),
            *self.stale.lines(),
            f"calibration: {reason}; on the certification rows Brier {brier}, ECE {ece}",
        ]
        if not self.ranks:
            lines.append(
                "the old ranking tells nothing about the new pair: every query gets the same "
                "probability; train on labels of the new pair (`querytier run`)"
            )
        rate = self.after.frontier_rate.text()
        lines.append(f"threshold {self.manifest.threshold:.4f} sends {rate} to the frontier model")
        lines += self.certified.lines() if self.certified else []
        if self.plan is not None:
            needed = "no number" if self.plan.more is None else f"{self.plan.more} more"
            lines.append(f"labels needed: {needed} ({self.plan.reason})")
        return lines

    def _rows_line(self) -> str:
        rows = self.rows
        return (
            f"rows: {rows['calibration']} calibrate, {rows['certification']} certify, "
            f"{rows['set_aside']} set aside that the head learned from"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON."""
        certificate = self.manifest.certificate
        return {
            "querytier": version("querytier"),
            "created": self.manifest.created,
            "from": {"artifact": str(self.source), "model_version": self.old_version},
            "model_version": self.manifest.model_version,
            "threshold": self.manifest.threshold,
            "rows": self.rows,
            "stale": self.stale.to_dict(),
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "calibration": asdict(self.calibration),
            "ranks": self.ranks,
            "certificate": {"status": certificate.status, "reason": certificate.reason},
            "plan": None if self.plan is None else self.plan.to_dict(),
            "lines": self.lines(),
        }


def _pair(before: float | None, after: float | None) -> str:
    return " -> ".join("n/a" if one is None else f"{one:.3f}" for one in (before, after))
