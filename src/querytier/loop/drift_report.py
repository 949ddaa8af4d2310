"""Two windows of examples compared by one artifact: the verdict, and its files."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.eval.drift.drift_page import drift_page
from querytier.eval.drift.findings import DriftFindings, DriftRule, Verdict
from querytier.eval.drift.tests import find_drift
from querytier.eval.drift.windows import Observed
from querytier.files import atomic_file
from querytier.loop.drift_observations import drawn, observe
from querytier.pipeline.param_sections import DriftParams
from querytier.serve import Router

__all__ = ["DRIFT", "PAGE", "DriftReport", "compare_windows"]

DRIFT, PAGE = "drift.json", "drift.html"

_KINDS = 10


@dataclass(frozen=True, eq=False)
class DriftReport:
    """What was found of two windows.

    Attributes
    ----------
    findings : DriftFindings
    reference, recent : Observed
        The rows that were compared.
    read : tuple of int
        Rows of the reference and of the recent window before any were drawn.
    spans : tuple of tuple of str
        First and last time of either; empty where the log does not tell.
    model_version : str
        Of the artifact that scored both.
    """

    findings: DriftFindings
    reference: Observed
    recent: Observed
    read: tuple[int, int]
    spans: tuple[tuple[str, str], tuple[str, str]]
    model_version: str

    @property
    def verdict(self) -> Verdict:
        """The verdict in one of three words."""
        return self.findings.verdict

    @property
    def drifted(self) -> bool:
        """Whether any test alarms."""
        return self.verdict == "drifted"

    def lines(self) -> list[str]:
        """Return the verdict and what it stands on, for people."""
        return [
            self.findings.headline(),
            *(self._window(name, n) for n, name in enumerate(("reference", "recent"))),
            *(f"not compared: {name}: {why}" for name, why in self.findings.untested.items()),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `drift.json`."""
        sides = (self.reference, self.recent)
        return {
            "querytier": version("querytier"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "model_version": self.model_version,
            "drifted": self.drifted,
            **self.findings.to_dict(),
            "windows": {
                name: {
                    "rows": self.read[n],
                    "compared": len(sides[n]),
                    "groups": sides[n].groups,
                    "labelled": int(sides[n].labelled.sum()),
                    "frontier_rate": _mean(sides[n].to_frontier),
                    "from": self.spans[n][0],
                    "until": self.spans[n][1],
                    "scripts": _shares(sides[n].script),
                    "languages": _shares(sides[n].language),
                }
                for n, name in enumerate(("reference", "recent"))
            },
        }

    def write(self, out: Path) -> None:
        """Write `drift.json` and `drift.html`, each complete or not at all."""
        out.mkdir(parents=True, exist_ok=True)
        record = self.to_dict()
        page = drift_page(record, self.reference, self.recent)
        for name, text in ((DRIFT, json.dumps(record, indent=2)), (PAGE, page)):
            with atomic_file(out / name) as scratch:
                scratch.write_text(text, "utf-8")

    def _window(self, name: str, number: int) -> str:
        side = (self.reference, self.recent)[number]
        first, last = self.spans[number]
        drawn = f", drawn by whole groups from {self.read[number]}"
        return (
            f"{name}: {len(side)} rows{drawn if len(side) < self.read[number] else ''} in "
            f"{side.groups} groups, {side.labelled.sum()} with a label"
            f"{f', {first} to {last}' if first else ''}"
        )


def compare_windows(
    reference: Examples, recent: Examples, router: Router, params: DriftParams
) -> DriftReport:
    """Compare two windows as one artifact sees them.

    Parameters
    ----------
    reference, recent : Examples
        Labelled or not. The reference has to be rows that the artifact was not fitted to, such as
        its calibration and test splits: on training rows it is too sure of itself.
    router : Router
        Of the artifact; its certificate, settings and conversations have no say.
    params : DriftParams

    Raises
    ------
    ArtifactError
        If the graph has no embeddings to compare.
    """
    rule = DriftRule(**params.model_dump(exclude={"most_rows", "near_duplicate_threshold"}))
    windows = [drawn(window, params.most_rows, params.seed) for window in (reference, recent)]
    first, second = observe(windows, router.classifier, params.near_duplicate_threshold)
    return DriftReport(
        findings=find_drift(first, second, rule),
        reference=first,
        recent=second,
        read=(len(reference), len(recent)),
        spans=(_span(reference), _span(recent)),
        model_version=router.classifier.manifest.model_version,
    )


def _span(window: Examples) -> tuple[str, str]:
    times = sorted(time for time in window.time.tolist() if time)
    return (times[0], times[-1]) if times else ("", "")


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None


def _shares(values: NDArray[np.object_]) -> dict[str, float]:
    """Return the shares of the most frequent values, those that are not known left out."""
    counts = Counter(value for value in values.tolist() if value)
    return {value: count / counts.total() for value, count in counts.most_common(_KINDS)}
