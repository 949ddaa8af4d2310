"""The rule for when two windows have drifted, and the results of the tests."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from querytier.eval.drift.comparisons import About, Unit

__all__ = ["DriftFindings", "DriftRule", "Finding", "Part", "Verdict"]

Verdict = Literal["drifted", "no drift found", "too few rows"]


@dataclass(frozen=True, slots=True)
class DriftRule:
    """When two windows count as drifted.

    Attributes
    ----------
    false_alarm_rate : float
        Chance of any alarm if nothing has changed, over all tests.
    permutations, seed : int
    fewest_groups : int
        Number of groups that each window needs for a test.
    least_index, least_distance, least_rate, least_unknown, least_calibration : float
        Smallest shift that alarms, however significant: of a population stability index, of the
        embeddings' distance, of a rate, of the share of unknown tokens, of calibration.
    """

    # The floors are a judgement. The customary 0.1 and 0.25 for the stability index do not fit,
    # because the amount that chance adds depends on the number of rows, and is subtracted here.
    false_alarm_rate: float = 0.01
    permutations: int = 9999
    seed: int = 17
    fewest_groups: int = 100
    least_index: float = 0.01
    least_distance: float = 0.03
    least_rate: float = 0.01
    least_unknown: float = 0.002
    least_calibration: float = 0.02

    def least(self, unit: Unit) -> float:
        """Return the smallest size that alarms."""
        return float(getattr(self, f"least_{unit}"))


@dataclass(frozen=True, slots=True)
class Part:
    """One of the values that a test compares.

    Attributes
    ----------
    name : str
    size : float
    reference, recent : float or None
        Values in the two windows; None if no single number describes them.
    p_value : float
        Adjusted for the number of parts of its test (Westfall & Young 1993, single step).
    """

    name: str
    size: float
    reference: float | None
    recent: float | None
    p_value: float


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one test.

    Attributes
    ----------
    name : str
    about : {"inputs", "labels", "outcomes"}
    unit : str
    size : float
        Shift of the most surprising part, minus the amount that chance adds.
    least : float
        Smallest size that alarms.
    detectable : float
        The size that alarms about half of the time with these rows.
    p_value, adjusted_p_value : float
        P-value from the shuffles, and adjusted by Holm's step-down over all tests.
    drifted : bool
    rows, groups : tuple of int
        Numbers of rows and groups in the reference and in the recent window.
    parts : tuple of Part
        The most surprising ones first.
    """

    name: str
    about: About
    unit: Unit
    size: float
    least: float
    detectable: float
    p_value: float
    adjusted_p_value: float
    drifted: bool
    rows: tuple[int, int]
    groups: tuple[int, int]
    parts: tuple[Part, ...]

    def text(self) -> str:
        """Return the shift in words.

        Examples
        --------
        >>> part = Part("all rows", 0.28, 0.497, 0.216, 0.0001)
        >>> Finding("needs_frontier rate", "labels", "rate", 0.281, 0.01, 0.05, 1e-4, 1e-3, True,
        ...         (500, 500), (500, 500), (part,)).text()
        'needs_frontier rate 49.7% -> 21.6%'
        """
        first = self.parts[0]
        where = "" if first.name in ("all rows", self.name) else f" ({first.name})"
        if self.unit in ("rate", "unknown") and first.reference is not None:
            return f"{self.name}{where} {first.reference:.1%} -> {first.recent:.1%}"
        unit = {"index": "PSI", "distance": "MMD", "calibration": "off by"}[self.unit]
        return f"{self.name}{where}, {unit} {self.size:.2g}"


@dataclass(frozen=True, eq=False)
class DriftFindings:
    """The results of all tests.

    Attributes
    ----------
    findings : tuple of Finding
    untested : mapping of str to str
        Tests that were not made: reason by name.
    rule : DriftRule
    """

    findings: tuple[Finding, ...]
    untested: Mapping[str, str]
    rule: DriftRule

    @property
    def drifted(self) -> tuple[Finding, ...]:
        """The findings that alarm."""
        return tuple(finding for finding in self.findings if finding.drifted)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the windows."""
        if not self.findings:
            return "too few rows"
        return "drifted" if self.drifted else "no drift found"

    def headline(self) -> str:
        """Return the verdict as one line."""
        rate = f"false alarm rate {100 * self.rule.false_alarm_rate:g}%"
        if self.verdict == "drifted":
            return f"drifted: {'; '.join(finding.text() for finding in self.drifted)}"
        if self.verdict == "no drift found":
            return f"no drift found ({rate})"
        return f"too few rows to compare: each window needs {self.rule.fewest_groups} groups"

    def to_dict(self) -> dict[str, Any]:
        """Return the findings for JSON."""
        return {
            "verdict": self.verdict,
            "headline": self.headline(),
            "rule": asdict(self.rule),
            "findings": [asdict(finding) for finding in self.findings],
            "untested": dict(self.untested),
        }
