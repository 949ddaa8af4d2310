"""Which fresh rows to hold back before they are merged: first sources, then groups.

Poison and drift both contradict the recorded labels. The other fresh rows tell them apart: drift
changes all of them, poison only its own. So a cell is held back only if it contradicts the recorded
labels *and* the other fresh rows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.eval.slices import holm
from querytier.training.folds import group_numbers
from querytier.training.label_audit.contradictions import Dispersion, dispersion
from querytier.training.label_audit.expected_labels import (
    Cell,
    CellTests,
    ExpectedLabels,
    balanced_weights,
    probabilities,
)

__all__ = ["Finding", "HoldRules", "Verdict", "hold_back"]

Rows = NDArray[np.intp]
Units = NDArray[np.intp]
Verdict = Literal["held", "drift", "cannot tell"]

_KINDS = 2
_FEWEST_SHIFTED_OTHERS = 2


@dataclass(frozen=True, slots=True)
class HoldRules:
    """When fresh rows are held back.

    Attributes
    ----------
    level : float
        The probability, in (0, 1), that anything is held back if nothing has changed. Half of it
        goes to the tests of sources, half to those of groups.
    tolerated : float
        Share of changed labels for which nothing is held back, in [0, 1).
    fewest : int
        Smallest number of independent labels of a cell that is tested: groups of a source, distinct
        texts of a group.
    trusted : sequence of str
        Sources that are never held back; neither are their groups.
    """

    level: float = 0.01
    tolerated: float = 0.02
    fewest: int = 20
    trusted: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Finding:
    """A cell that contradicts the recorded labels, and the verdict.

    Attributes
    ----------
    cell : Cell
    tests : CellTests
    verdict : {"held", "drift", "cannot tell"}
        Held back; or kept because the other fresh rows have changed in the same way; or kept
        because there is too little to compare with.
    """

    cell: Cell
    tests: CellTests
    verdict: Verdict


def hold_back(
    expected: ExpectedLabels, recorded: Examples, fresh: Examples, rules: HoldRules
) -> list[Finding]:
    """Test all cells of labelled fresh rows.

    Parameters
    ----------
    expected : ExpectedLabels
    recorded, fresh : Examples
        The rows that it was made from, in the same order.
    rules : HoldRules

    Returns
    -------
    list of Finding
        The cells that contradict the recorded labels beyond chance.
    """
    audit = _Audit(expected, recorded, fresh, rules, np.ones(len(fresh), dtype=bool))
    audit.test_sources()
    audit.test_groups()
    return audit.findings


@dataclass(eq=False)
class _Audit:
    """The state of an audit: the rows that are still kept, and the findings so far."""

    expected: ExpectedLabels
    recorded: Examples
    fresh: Examples
    rules: HoldRules
    kept: NDArray[np.bool_]
    findings: list[Finding] = field(default_factory=list)

    @property
    def level(self) -> float:
        return self.rules.level / _KINDS

    def test_sources(self) -> None:
        units = group_numbers(self.fresh.group)
        known = _cells(self.recorded, "source", self.rules.fewest)
        spread = self._spread(known, group_numbers(self.recorded.group))
        cells = list(_cells(self.fresh, "source", self.rules.fewest))
        # One source is removed at a time, the surest first. The others are compared with it until
        # then, so if it is large and poisoned, they look wrong as well.
        while cells:
            p_values = np.array([self._p_recorded(cell, units, spread) for cell in cells])
            shifted = [cells[n] for n in np.flatnonzero(holm(p_values) <= self.level)]
            findings = [self._source(cell, cells, shifted, units, spread) for cell in shifted]
            suspects = [finding for finding in findings if finding.verdict == "held"]
            if not suspects:
                self.findings += findings
                return
            worst = min(suspects, key=lambda finding: finding.tests.p_value)
            self._hold(worst)
            cells = [cell for cell in cells if cell is not worst.cell]

    def test_groups(self) -> None:
        """Hold back groups that contradict the recorded labels and all other rows."""
        units = np.arange(len(self.fresh))
        known = _cells(self.recorded, "group", self.rules.fewest)
        spread = self._spread(known, np.arange(len(self.recorded)))
        cells = self._remaining(_cells(self.fresh, "group", self.rules.fewest))
        allowed = self.level / max(1, len(cells))
        suspects = [cell for cell in cells if self._p_recorded(cell, units, spread) <= allowed]
        while suspects:
            findings = [self._finding(cell, self._others(cell), units, spread) for cell in suspects]
            worst = min(findings, key=lambda finding: finding.tests.p_value)
            if worst.tests.p_value > allowed:
                return
            self._hold(worst)
            suspects = self._remaining(cell for cell in suspects if cell is not worst.cell)

    def _source(
        self,
        cell: Cell,
        cells: Sequence[Cell],
        shifted: Sequence[Cell],
        units: Units,
        spread: Dispersion,
    ) -> Finding:
        """Return the finding for a source that contradicts the recorded labels."""
        # If half of the sources or more have changed, the unchanged ones are left out of the
        # comparison: a change that the changed sources share is drift.
        broad = len(shifted) > 1 and 2 * len(shifted) >= len(cells)
        steady = [other.name for other in cells if other not in shifted] if broad else []
        others = self._others(cell, without=steady)
        finding = self._finding(cell, others, units, spread)
        if finding.tests.p_value > self.level / len(cells) or self._is_trusted(cell):
            return replace(finding, verdict="drift")
        # If two sources contradict each other and the recorded labels, either may be honest.
        too_few = len(others) < self.rules.fewest
        if too_few or (broad and len(shifted) - 1 < _FEWEST_SHIFTED_OTHERS):
            return replace(finding, verdict="cannot tell")
        return finding

    def _finding(self, cell: Cell, others: Rows, units: Units, spread: Dispersion) -> Finding:
        sources = self.fresh.source[others]
        names = sources if any(sources) else self.fresh.group[others]
        weighted = others, balanced_weights([str(name) for name in names])
        tolerated, expected = self.rules.tolerated, self.expected
        tests = CellTests(
            expected.test_recorded(cell.rows, units, tolerated, spread),
            expected.test_others(cell.rows, weighted, units, tolerated, spread),
        )
        return Finding(cell, tests, "held")

    def _p_recorded(self, cell: Cell, units: Units, spread: Dispersion) -> float:
        test = self.expected.test_recorded(cell.rows, units, self.rules.tolerated, spread)
        return test.p_value

    def _spread(self, cells: Iterable[Cell], units: Units) -> Dispersion:
        """Return how widely recorded cells, which count as honest, scatter by themselves."""
        predicted = probabilities(self.expected.recorded)
        rows = [cell.rows for cell in cells]
        return dispersion(rows, self.recorded.needs_frontier, predicted, units)

    def _hold(self, finding: Finding) -> None:
        self.kept[finding.cell.rows] = False
        self.findings.append(finding)

    def _others(self, cell: Cell, *, without: Sequence[str] = ()) -> Rows:
        """Return the kept rows to compare a cell with."""
        rows = self.kept & ~np.isin(self.fresh.source.astype(str), list(without))
        # A cell that is compared with its own rows hides its own change.
        rows[cell.rows] = False
        return np.flatnonzero(rows)

    def _remaining(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return untrusted cells, without rows already held back, that are still large enough."""
        remaining = (replace(cell, rows=cell.rows[self.kept[cell.rows]]) for cell in cells)
        return [
            cell
            for cell in remaining
            if min(len(cell.rows), len(self._others(cell))) >= self.rules.fewest
            and not self._is_trusted(cell)
        ]

    def _is_trusted(self, cell: Cell) -> bool:
        return set(self.fresh.source[cell.rows]) <= set(self.rules.trusted)


def _cells(examples: Examples, kind: Literal["source", "group"], fewest: int) -> Iterator[Cell]:
    """Yield the cells of a kind that have enough independent labels."""
    names = getattr(examples, kind).astype(str)
    # Rows of one group depend on each other, so a source has as many independent labels as groups.
    # Inside a group, copies of one text do.
    independent = examples.group if kind == "source" else examples.query
    for name in sorted(set(names) - {""}):
        rows = np.flatnonzero(names == name)
        if len(set(independent[rows])) >= fewest:
            yield Cell(kind, name, rows)
