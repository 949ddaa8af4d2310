"""Compare two windows of examples with one artifact, and write the result."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.eval.drift.findings import DriftFindings, DriftRule
from querytier.eval.drift.page import drift_page
from querytier.eval.drift.tests import find_drift
from querytier.eval.drift.windows import Observed
from querytier.files import atomic_file, stamp, write_json
from querytier.loop.drift_observations import drawn, observe
from querytier.pipeline.param_sections import DriftParams
from querytier.serve import Router

__all__ = ["DRIFT", "PAGE", "DriftReport", "compare_windows"]

DRIFT, PAGE = "drift.json", "drift.html"

_MOST_KINDS = 10


@dataclass(frozen=True, eq=False)
class DriftReport:
    """The result of a comparison of two windows.

    Attributes
    ----------
    findings : DriftFindings
    windows : dict of str to Observed
        The compared rows of "reference" and "recent".
    read : dict of str to Examples
        All rows of both, before sampling.
    model_version : str
        Version of the artifact that scored both.
    """

    findings: DriftFindings
    windows: dict[str, Observed]
    read: dict[str, Examples]
    model_version: str

    @property
    def drifted(self) -> bool:
        """Whether any test raised an alarm."""
        return self.findings.verdict == "drifted"

    def lines(self) -> list[str]:
        """Return the verdict and its basis, for a terminal."""
        return [
            self.findings.headline(),
            *(self._line(name) for name in self.windows),
            *(f"not compared: {name}: {why}" for name, why in self.findings.untested.items()),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `drift.json`."""
        return {
            **stamp(),
            "model_version": self.model_version,
            "drifted": self.drifted,
            **self.findings.to_dict(),
            "windows": {name: self._window(name) for name in self.windows},
        }

    def write(self, out: Path) -> None:
        """Write `drift.json` and `drift.html`, each complete or not at all."""
        record = self.to_dict()
        write_json(out / DRIFT, record)
        with atomic_file(out / PAGE) as scratch:
            scratch.write_text(drift_page(record, **self.windows), "utf-8")

    def _window(self, name: str) -> dict[str, Any]:
        rows, (first, last) = self.windows[name], _span(self.read[name])
        return {
            "rows": len(self.read[name]),
            "compared": len(rows),
            "groups": rows.groups,
            "labelled": int(rows.labelled.sum()),
            "frontier_rate": float(rows.to_frontier.mean()) if len(rows) else None,
            "from": first,
            "until": last,
            "scripts": _shares(rows.script),
            "languages": _shares(rows.language),
        }

    def _line(self, name: str) -> str:
        window = self._window(name)
        drawn_from = f", drawn by whole groups from {window['rows']}"
        return (
            f"{name}: {window['compared']} rows"
            f"{drawn_from if window['compared'] < window['rows'] else ''} in "
            f"{window['groups']} groups, {window['labelled']} with a label"
            f"{', {from} to {until}'.format(**window) if window['from'] else ''}"
        )


def compare_windows(
    reference: Examples, recent: Examples, router: Router, params: DriftParams
) -> DriftReport:
    """Compare two windows as one artifact sees them.

    Parameters
    ----------
    reference, recent : Examples
        Labelled or not. The artifact must not be fitted to the reference, because it is
        overconfident on its training rows: use its calibration and test splits, for example.
    router : Router
        Router of the artifact; its certificate, settings and conversations are ignored.
    params : DriftParams

    Raises
    ------
    ArtifactError
        If the graph has no embeddings to compare.
    """
    rule = DriftRule(**params.model_dump(exclude={"most_rows", "near_duplicate_threshold"}))
    read = {"reference": reference, "recent": recent}
    rows = [drawn(window, params.most_rows, params.seed) for window in read.values()]
    first, second = observe(rows, router.classifier, params.near_duplicate_threshold)
    return DriftReport(
        findings=find_drift(first, second, rule),
        windows={"reference": first, "recent": second},
        read=read,
        model_version=router.classifier.manifest.model_version,
    )


def _span(window: Examples) -> tuple[str, str]:
    """Return the first and the last time; empty if the log has none."""
    times = [time for time in window.time.tolist() if time]
    return min(times, default=""), max(times, default="")


def _shares(values: NDArray[np.object_]) -> dict[str, float]:
    """Return the shares of the most frequent values among those that are known."""
    counts = Counter(value for value in values.tolist() if value)
    return {value: count / counts.total() for value, count in counts.most_common(_MOST_KINDS)}
