"""Whether two windows of traffic differ by more than chance and by more than a trifle.

A family of tests of which any false alarm has a stated probability: p-values by shuffling groups
between the windows, and Holm's step-down over the tests. What is significant alarms only if it is
large enough as well, so that a million rows do not alarm on nothing. That rows are exchangeable is
what "no drift" means here: hours, weekdays and campaigns are drift, too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from querytier.eval.drift_comparisons import COMPARISONS, About, Comparison, Unit
from querytier.eval.drift_statistics import Shift, Statistic
from querytier.eval.drift_windows import Observed, Windows
from querytier.eval.slices import holm

__all__ = ["DriftFindings", "DriftRule", "Finding", "Part", "find_drift"]

Floats = NDArray[np.float64]
Verdict = Literal["drifted", "no drift found", "too few rows"]

_PARTS = 5
# Sums are of float32: what differs by less is equal.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class DriftRule:
    """When two windows count as drifted.

    Attributes
    ----------
    false_alarm_rate : float
        Of a comparison of two windows without drift, over all its tests.
    permutations, seed : int
    fewest_groups : int
        A test is made where both windows have so many groups with what it needs.
    least_index, least_distance, least_rate, least_unknown, least_calibration : float
        Smaller shifts do not alarm, however significant: of a population stability index, of the
        embeddings' distance, of a rate, of the share of unknown tokens, of calibration.
    """

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
    """One of the things that a test looks at.

    Attributes
    ----------
    name : str
    size : float
    reference, recent : float or None
        Its values in the windows, where a single number is one.
    p_value : float
        Adjusted for the parts of its test (Westfall & Young 1993, single step).
    """

    name: str
    size: float
    reference: float | None
    recent: float | None
    p_value: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What one test found.

    Attributes
    ----------
    name : str
    about : {"inputs", "labels", "outcomes"}
    unit : str
    size : float
        Of the part that is most surprising; what chance adds to it is taken away.
    least : float
        Smaller sizes do not alarm.
    detectable : float
        With these rows, a size that alarms about half of the time.
    p_value, adjusted_p_value : float
        By shuffles, and after Holm's step-down over all tests.
    drifted : bool
    rows, groups : tuple of int
        Of the reference and of the recent window.
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

    def words(self) -> str:
        """Say how far it moved.

        Examples
        --------
        >>> part = Part("all rows", 0.28, 0.497, 0.216, 0.0001)
        >>> Finding("needs_frontier rate", "labels", "rate", 0.281, 0.01, 0.05, 1e-4, 1e-3, True,
        ...         (500, 500), (500, 500), (part,)).words()
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
    """What all tests found.

    Attributes
    ----------
    findings : tuple of Finding
    untested : mapping of str to str
        Why other tests were not made, by name.
    rule : DriftRule
    """

    findings: tuple[Finding, ...]
    untested: Mapping[str, str]
    rule: DriftRule

    @property
    def drifted(self) -> tuple[Finding, ...]:
        """Those that alarm."""
        return tuple(finding for finding in self.findings if finding.drifted)

    @property
    def verdict(self) -> Verdict:
        """The verdict on the windows."""
        if not self.findings:
            return "too few rows"
        return "drifted" if self.drifted else "no drift found"

    def headline(self) -> str:
        """Return the verdict in a line."""
        rate = f"false alarm rate {100 * self.rule.false_alarm_rate:g}%"
        if self.verdict == "drifted":
            return f"drifted: {'; '.join(finding.words() for finding in self.drifted)}"
        if self.verdict == "no drift found":
            return f"no drift found ({rate})"
        return f"too few rows to tell: both windows need {self.rule.fewest_groups} groups"

    def record(self) -> dict[str, Any]:
        """Return the findings for JSON."""
        return {
            "verdict": self.verdict,
            "headline": self.headline(),
            "rule": asdict(self.rule),
            "findings": [asdict(finding) for finding in self.findings],
            "untested": dict(self.untested),
        }


def find_drift(reference: Observed, recent: Observed, rule: DriftRule) -> DriftFindings:
    """Compare two windows by every test that their rows allow.

    Parameters
    ----------
    reference, recent : Observed
        By one artifact, their groups by one naming.
    rule : DriftRule
    """
    windows = Windows.of(reference, recent)
    kept: dict[bytes, Windows] = {}
    tests: list[_Test] = []
    untested: dict[str, str] = {}
    for comparison in COMPARISONS:
        mask, lacking = comparison.rows(windows)
        rows = kept.setdefault(mask.tobytes(), windows.where(mask))
        test = _test(comparison, rows, lacking, rule)
        if isinstance(test, str):
            untested[comparison.name] = test
        else:
            tests.append(test)
    level = rule.false_alarm_rate / max(len(tests), 1)
    by_rows = {
        key: _found([one for one in tests if one.windows is rows], rows, rule, level)
        for key, rows in kept.items()
    }
    found = {finding.name: finding for part in by_rows.values() for finding in part}
    findings = [found[test.comparison.name] for test in tests]
    adjusted = holm(np.array([finding.p_value for finding in findings]))
    judged = [_judged(one, float(p), rule) for one, p in zip(findings, adjusted, strict=True)]
    return DriftFindings(tuple(judged), untested, rule)


@dataclass(frozen=True, eq=False)
class _Test:
    """A test that can be made."""

    comparison: Comparison
    windows: Windows
    statistic: Statistic


def _test(comparison: Comparison, windows: Windows, lacking: str, rule: DriftRule) -> "_Test | str":
    """Return the test, or why it is not made."""
    groups = windows.fewest_groups()
    if groups < rule.fewest_groups:
        what = f" with a {lacking}" if lacking else ""
        return f"{groups} groups{what} in one window, and {rule.fewest_groups} are asked for"
    statistic = comparison.statistic(windows, rule.seed)
    if statistic is None:
        return "all rows are alike"
    return _Test(comparison, windows, statistic)


def _found(tests: list[_Test], windows: Windows, rule: DriftRule, level: float) -> list[Finding]:
    """Make the tests that stand on the same rows, by the same shuffles."""
    if not tests:
        return []
    shuffling = windows.shuffling(rule.permutations, rule.seed)
    columns = [test.statistic.columns(shuffling) for test in tests]
    ends = np.cumsum([one.shape[1] for one in columns])[:-1]
    recent = np.split(shuffling.recent_sums(np.hstack(columns)), ends, axis=1)
    return [
        _finding(test, test.statistic.shift(sums, own.sum(axis=0)), rule, level)
        for test, sums, own in zip(tests, recent, columns, strict=True)
    ]


def _finding(test: _Test, shift: Shift, rule: DriftRule, level: float) -> Finding:
    top = shift.statistic.argmax(axis=1)[:, np.newaxis]
    highest = np.take_along_axis(shift.statistic, top, axis=1)[:, 0]
    sizes = np.take_along_axis(shift.size, top, axis=1)[:, 0]
    rows, recent = test.windows.rows, test.windows.recent
    sides = (rows.where(~recent), rows.where(recent))
    p_value = _p_value(highest, float(highest[0]))
    return Finding(
        name=test.comparison.name,
        about=test.comparison.about,
        unit=test.comparison.unit,
        size=float(sizes[0]),
        least=rule.least(test.comparison.unit),
        detectable=max(
            _quantile(shift.size[1:, top[0, 0]], 1 - level / len(test.statistic.parts)),
            rule.least(test.comparison.unit),
        ),
        p_value=p_value,
        adjusted_p_value=p_value,
        drifted=False,
        rows=(len(sides[0]), len(sides[1])),
        groups=(sides[0].groups, sides[1].groups),
        parts=_parts(test.statistic.parts, shift, highest),
    )


def _parts(names: tuple[str, ...], shift: Shift, highest: Floats) -> tuple[Part, ...]:
    order = np.argsort(-shift.statistic[0], kind="stable")[:_PARTS]
    return tuple(
        Part(
            names[n],
            float(shift.size[0, n]),
            _number(shift.reference[n]),
            _number(shift.recent[n]),
            _p_value(highest, float(shift.statistic[0, n])),
        )
        for n in order.tolist()
    )


def _p_value(statistics: Floats, observed: float) -> float:
    """Return the share of deals, the real one among them, that are as surprising."""
    least = observed - _ROUNDING * max(abs(observed), 1e-9)
    return float((1 + (statistics[1:] >= least).sum()) / len(statistics))


def _quantile(values: Floats, level: float) -> float:
    return float(np.quantile(values, level))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _judged(finding: Finding, adjusted: float, rule: DriftRule) -> Finding:
    drifted = adjusted <= rule.false_alarm_rate and finding.size >= finding.least
    return replace(finding, adjusted_p_value=adjusted, drifted=drifted)
