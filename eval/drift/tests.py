"""Whether two windows of traffic differ by more than chance and by more than a trifle.

A family of tests of which any false alarm has a stated probability: p-values by shuffling groups
between the windows, and Holm's step-down over the tests. What is significant alarms only if it is
large enough as well, so that a million rows do not alarm on nothing. That rows are exchangeable is
what "no drift" means here: hours, weekdays and campaigns are drift, too.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from querytier.eval.drift.comparisons import COMPARISONS, Comparison
from querytier.eval.drift.findings import DriftFindings, DriftRule, Finding, Part
from querytier.eval.drift.statistics import Shift, Statistic
from querytier.eval.drift.windows import Observed, Windows
from querytier.eval.slices import holm

__all__ = ["find_drift"]

Floats = NDArray[np.float64]

_PARTS = 5
# Sums are of float32: what differs by less is equal.
_ROUNDING = 1e-5


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
    groups = min(windows.groups)
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
        rows=test.windows.sizes,
        groups=test.windows.groups,
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
