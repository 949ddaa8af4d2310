"""The result of a recalibration: rows, old and new promise, as sentences and as JSON."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from querytier.classifier.manifest import Manifest
from querytier.eval.certificates.sample_size import SampleSize
from querytier.eval.report.recalibration_page import render_markdown, render_page
from querytier.eval.staleness import Measured, Staleness
from querytier.files import atomic_file, stamp, write_json
from querytier.pipeline.certification import Certified
from querytier.training.calibration import FittedCalibration

__all__ = ["PAGE", "Recalibration"]

PAGE = "recalibration"


@dataclass(frozen=True, eq=False)
class Recalibration:
    """The result of a recalibration.

    Attributes
    ----------
    out, run : Path
        The new run, and the one that it started from.
    manifest : Manifest
        The new artifact's, with the certificate.
    old_version : str
    rows : dict of str to int
        `calibration`, `certification`, and `set_aside`: rows that the head was trained on.
    stale : Staleness
        The old classifier on all rows that were used.
    before, after : Measured
        Old and new classifier on the certification rows, which calibrated neither.
    calibration : FittedCalibration
    certified : Certified or None
        None if no promise was requested.
    plan : SampleSize or None
        Number of labels needed to certify the target cheap share, if the promise was refused.
    """

    out: Path
    run: Path
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
        """Whether the old ranking distinguishes queries of the new pair at all."""
        # Slopes are never negative: a ranking that is worse than chance on the labels gets 0.
        calibrator = self.calibration.calibrator
        return max(calibrator.rising, calibrator.falling) > 0

    def lines(self) -> list[str]:
        """Return the findings as sentences."""
        lines = [self._rows_line(), *self.stale.lines(), self._calibration_line()]
        if not self.ranks:
            lines.append(
                "the old ranking does not distinguish queries of the new pair: every query gets "
                "the same probability; train on labels of the new pair (`querytier run`)"
            )
        rate = self.after.frontier_rate.text()
        lines.append(f"threshold {self.manifest.threshold:.4f} sends {rate} to the frontier model")
        lines += self.certified.lines() if self.certified else []
        if self.plan is not None:
            more = "no number is enough" if self.plan.more is None else f"{self.plan.more} more"
            lines.append(f"labels needed: {more} ({self.plan.reason})")
        return lines

    def _rows_line(self) -> str:
        rows = self.rows
        return (
            f"rows: {rows['calibration']} calibrate, {rows['certification']} certify, "
            f"{rows['set_aside']} set aside because the head was trained on their queries"
        )

    def _calibration_line(self) -> str:
        before, after = self.before, self.after
        return (
            f"calibration: {self.calibration.reason}; on the certification rows Brier "
            f"{before.brier.text()} before, {after.brier.text()} now; ECE {before.ece.text()} "
            f"before, {after.ece.text()} now"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        certificate = self.manifest.certificate
        return {
            **stamp(),
            "from": {"artifact": str(self.run / "model"), "model_version": self.old_version},
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

    def write(self) -> None:
        """Write the findings to `out`, for tools and for people."""
        record = self.to_dict()
        write_json(self.out / f"{PAGE}.json", record)
        for ending, text in (("html", render_page(record)), ("md", render_markdown(record))):
            with atomic_file(self.out / f"{PAGE}.{ending}") as scratch:
                scratch.write_text(text, "utf-8")
