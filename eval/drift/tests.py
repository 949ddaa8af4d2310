"""Whether two windows of traffic differ by more than chance, and by enough to matter.

The tests form a family: if nothing has changed, the chance that any of them alarms is at most a
stated rate. P-values come from shuffling groups between the windows, and Holm's step-down covers
all tests. A significant shift alarms only if it is also large enough, because with a million rows
the smallest shift is significant. "No drift" means that the groups are exchangeable between the
windows: hours, weekdays and campaigns count as drift.
"""

from dataclasses import replace

import numpy as np

from querytier.data.arrays import Floats
from querytier.eval.drift.comparisons import COMPARISONS, Comparison
from querytier.eval.drift.findings import DriftFindings, DriftRule, Finding, Part
from querytier.eval.drift.statistics import Shift, Statistic
from querytier.eval.drift.windows import Observed, Windows
from querytier.eval.slices import holm

__all__ = ["find_drift"]

Tests = list[tuple[Comparison, Statistic]]

_MOST_PARTS = 5
# Shuffles are multiplied in float32, which is twice as fast; a smaller difference is a tie, and a
# tie counts as surprising, so that the p-value stays valid.
_ROUNDING = 1e-5


def find_drift(reference: Observed, recent: Observed, rule: DriftRule) -> DriftFindings:
    """Compare two windows by every test for which they have enough rows.

    Parameters
    ----------
    reference, recent : Observed
        Rows scored by the same artifact, with the same names of groups.
    rule : DriftRule
    """
    windows = Windows.of(reference, recent)
    by_rows: dict[bytes, tuple[Windows, Tests]] = {}
    untested: dict[str, str] = {}
    for comparison in COMPARISONS:
        mask = comparison.rows(windows)
        # Tests on the same rows share their shuffles, which take most of the time.
        rows, tests = by_rows.setdefault(mask.tobytes(), (windows.where(mask), []))
        statistic = _statistic(comparison, rows, rule)
        if isinstance(statistic, str):
            untested[comparison.name] = statistic
        else:
            tests.append((comparison, statistic))
    # Bonferroni's level, for `detectable` only: Holm's is not known before the p-values are.
    level = rule.false_alarm_rate / max(sum(len(tests) for _, tests in by_rows.values()), 1)
    found = {
        finding.name: finding
        for rows, tests in by_rows.values()
        for finding in _findings(tests, rows, rule, level)
    }
    findings = [found[one.name] for one in COMPARISONS if one.name in found]
    adjusted = holm(np.array([finding.p_value for finding in findings])).tolist()
    judged = tuple(
        replace(
            finding,
            adjusted_p_value=p_value,
            drifted=p_value <= rule.false_alarm_rate and finding.size >= finding.least,
        )
        for finding, p_value in zip(findings, adjusted, strict=True)
    )
    return DriftFindings(judged, untested, rule)


def _statistic(comparison: Comparison, windows: Windows, rule: DriftRule) -> Statistic | str:
    """Return the statistic of a test, or why the test is not made."""
    groups = min(windows.groups)
    if groups < rule.fewest_groups:
        what = f" with a {comparison.needs.replace('_', ' ')}" if comparison.needs else ""
        return f"one window has {groups} groups{what}, {rule.fewest_groups} are needed"
    return comparison.statistic(windows, rule.seed) or "all rows are alike"


def _findings(tests: Tests, windows: Windows, rule: DriftRule, level: float) -> list[Finding]:
    """Make all tests on the same rows with the same shuffles."""
    if not tests:
        return []
    shuffling = windows.shuffling(rule.permutations, rule.seed)
    columns = [statistic.columns(shuffling) for _, statistic in tests]
    ends = np.cumsum([one.shape[1] for one in columns])[:-1]
    recent = np.split(shuffling.recent_sums(np.hstack(columns)), ends, axis=1)
    findings = []
    for (comparison, statistic), sums, own in zip(tests, recent, columns, strict=True):
        shift = statistic.shift(sums, own.sum(axis=0))
        # The most surprising part represents its test. The same maximum is taken in every shuffle,
        # so looking at many parts costs no false alarms (Westfall & Young 1993, single step).
        top = shift.statistic.argmax(axis=1)[:, np.newaxis]
        highest = np.take_along_axis(shift.statistic, top, axis=1)[:, 0]
        p_value = _p_value(highest, float(highest[0]))
        by_chance, least = shift.size[1:, top[0, 0]], rule.least(comparison.unit)
        findings.append(
            Finding(
                name=comparison.name,
                about=comparison.about,
                unit=comparison.unit,
                size=float(shift.size[0, top[0, 0]]),
                least=least,
                # A shift as large as this quantile of the shuffles is found in half of the cases:
                # chance lowers it as often as it raises it.
                detectable=max(
                    float(np.quantile(by_chance, 1 - level / len(statistic.parts))), least
                ),
                p_value=p_value,
                adjusted_p_value=p_value,
                drifted=False,
                rows=windows.sizes,
                groups=windows.groups,
                parts=_parts(statistic.parts, shift, highest),
            )
        )
    return findings


def _parts(names: tuple[str, ...], shift: Shift, highest: Floats) -> tuple[Part, ...]:
    order = np.argsort(-shift.statistic[0], kind="stable")[:_MOST_PARTS]
    return tuple(
        Part(
            names[n],
            float(shift.size[0, n]),
            None if np.isnan(shift.reference[n]) else float(shift.reference[n]),
            None if np.isnan(shift.recent[n]) else float(shift.recent[n]),
            _p_value(highest, float(shift.statistic[0, n])),
        )
        for n in order.tolist()
    )


def _p_value(statistics: Floats, observed: float) -> float:
    """Return the share of shuffles that are at least as surprising as the real windows."""
    least = observed - _ROUNDING * max(abs(observed), 1e-9)
    # The real windows count as one of the shuffles (Phipson & Smyth 2010): a p-value of 0
    # would claim more than any number of shuffles can show.
    return float((1 + (statistics[1:] >= least).sum()) / len(statistics))
