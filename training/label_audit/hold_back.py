"""Which fresh rows are held back before they are merged: sources, then groups, then phrases."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.calibrator import sigmoid
from querytier.data.examples import Examples
from querytier.training.label_audit.contradictions import (
    Dispersion,
    contradiction,
    dispersion,
    holm,
)
from querytier.training.label_audit.expected_labels import Against, Cell, Foretold, shares_alike

__all__ = ["HoldRules", "Judged", "Standing", "hold_back"]

Rows = NDArray[np.intp]
Units = NDArray[np.intp]
Counting = Callable[[Examples, Rows], int]
Standing = Literal["held", "drift", "cannot tell"]

_KINDS = 3
_PHRASE_WORDS = (1, 3)
_WORD = r"\w+"
_RECORDED_PHRASES = 300
_FEWEST_SHIFTED_OTHERS = 2


@dataclass(frozen=True, slots=True)
class HoldRules:
    """When fresh rows are held back.

    Attributes
    ----------
    level : float
        The chance that anything is held back of logs where nothing has changed, in (0, 1); sources,
        groups and phrases have a third of it each.
    tolerated : float
        A share of changed labels that nothing is held back for, in [0, 1).
    fewest : int
        Independent labels (of groups; of distinct texts, inside a group) below which a cell is
        not tested.
    trusted : sequence of str
        Sources that are never held back, nor their groups and phrases.
    """

    level: float = 0.01
    tolerated: float = 0.02
    fewest: int = 20
    trusted: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Judged:
    """A cell that contradicts what is recorded, and what follows.

    Attributes
    ----------
    cell : Cell
    against : Against
    standing : {"held", "drift", "cannot tell"}
        Held back; kept as the others shift alike; or kept as nobody could say which of the two.
    """

    cell: Cell
    against: Against
    standing: Standing


@dataclass(eq=False)
class _Round:
    """What is tested, and which rows are still kept."""

    foretold: Foretold
    recorded: Examples
    fresh: Examples
    rules: HoldRules
    kept: NDArray[np.bool_]
    judged: list[Judged] = field(default_factory=list)

    @property
    def level(self) -> float:
        return self.rules.level / _KINDS

    def others(self, cell: Cell, *, outside: Sequence[str] = ()) -> Rows:
        """Return the kept rows that a cell may be compared with."""
        rows = self.kept.copy()
        rows[cell.rows] = False
        if outside:
            rows &= ~np.isin(self.fresh.source.astype(str), list(outside))
        return np.flatnonzero(rows)

    def against(self, cell: Cell, others: Rows, units: Units, spread: Dispersion) -> Against:
        """Test a cell; a cell beside too few others contradicts what is recorded only."""
        weights = shares_alike(self._shared(others))
        return self.foretold.against(cell, (others, weights), units, self.rules.tolerated, spread)

    def contradicts_record(self, cell: Cell, units: Units, spread: Dispersion) -> float:
        """Return the p-value against what is recorded alone."""
        rows = cell.rows
        return contradiction(
            self.foretold.labels[rows],
            self.foretold.by_record(rows),
            units[rows],
            self.rules.tolerated,
            spread,
        ).p_value

    def hold(self, cell: Cell, against: Against) -> None:
        """Hold back the rows of a cell."""
        self.kept[cell.rows] = False
        self.judged.append(Judged(cell, against, "held"))

    def is_trusted(self, cell: Cell) -> bool:
        """Tell whether all rows of a cell are of sources that are trusted."""
        return set(self.fresh.source[cell.rows]) <= set(self.rules.trusted)

    def _shared(self, rows: Rows) -> Sequence[str]:
        sources = self.fresh.source[rows]
        column = sources if any(sources) else self.fresh.group[rows]
        return [str(name) for name in column]


def hold_back(
    foretold: Foretold, recorded: Examples, fresh: Examples, rules: HoldRules
) -> list[Judged]:
    """Judge all cells of labelled fresh rows.

    Sources are taken out one by one, the surest first, so that a large one does not make the others
    look wrong. Where half of the sources or more shift, those that shift are compared with each
    other instead: what they share is drift, and with fewer than two others to compare with nobody
    can tell. Then come groups, then phrases of one to three words as one source uses them.

    Parameters
    ----------
    foretold : Foretold
    recorded, fresh : Examples
        The rows that it is of, in their order.
    rules : HoldRules

    Returns
    -------
    list of Judged
        What contradicts the record beyond chance, in the order in which it was found.
    """
    one = _Round(foretold, recorded, fresh, rules, np.ones(len(fresh), dtype=bool))
    _judge_sources(one)
    _judge_groups(one)
    _judge_phrases(one)
    return one.judged


def _judge_sources(one: _Round) -> None:
    units = _numbered(one.fresh.group)
    spread = _spread_of(one, _cells(one.recorded, "source", one.rules.fewest, _groups_of))
    cells = list(_cells(one.fresh, "source", one.rules.fewest, _groups_of))
    while cells:
        p_values = [one.contradicts_record(cell, units, spread) for cell in cells]
        shifts = holm(p_values, one.level)
        shifted = [cell for cell, shift in zip(cells, shifts, strict=True) if shift]
        found = [_judged_source(one, cell, cells, shifted, (units, spread)) for cell in shifted]
        suspects = [item for item in found if item.standing == "held"]
        if not suspects:
            one.judged += found
            return
        worst = min(suspects, key=lambda item: item.against.p_value)
        one.hold(worst.cell, worst.against)
        cells = [cell for cell in cells if cell is not worst.cell]


def _judged_source(
    one: _Round,
    cell: Cell,
    cells: Sequence[Cell],
    shifted: Sequence[Cell],
    by: tuple[Units, Dispersion],
) -> Judged:
    """Judge a source whose labels are not as recorded."""
    broad = len(shifted) > 1 and 2 * len(shifted) >= len(cells)
    steady = [other.name for other in cells if other not in shifted] if broad else []
    others = one.others(cell, outside=steady)
    against = one.against(cell, others, *by)
    if against.p_value > one.level / len(cells) or one.is_trusted(cell):
        return Judged(cell, against, "drift")
    too_few = len(others) < one.rules.fewest
    if too_few or (broad and len(shifted) - 1 < _FEWEST_SHIFTED_OTHERS):
        return Judged(cell, against, "cannot tell")
    return Judged(cell, against, "held")


def _judge_groups(one: _Round) -> None:
    units = np.arange(len(one.fresh))
    spread = _spread_of(
        one, _cells(one.recorded, "group", one.rules.fewest, _texts_of), by_row=True
    )
    cells = _kept_cells(one, _cells(one.fresh, "group", one.rules.fewest, _texts_of))
    _judge_cells(one, cells, units, spread)


def _judge_phrases(one: _Round) -> None:
    if len(set(one.fresh.source[one.kept])) < 2:
        return
    units = _numbered(one.fresh.group)
    cells = _kept_cells(one, _phrases_of_sources(one))
    recorded = _phrase_cells(one.recorded, one.rules.fewest)[:_RECORDED_PHRASES]
    _judge_cells(one, cells, units, _spread_of(one, recorded))


def _judge_cells(one: _Round, cells: Sequence[Cell], units: Units, spread: Dispersion) -> None:
    """Hold back what differs from the record and from the rest, the surest first."""
    allowed = one.level / max(1, len(cells))
    suspects = [cell for cell in cells if one.contradicts_record(cell, units, spread) <= allowed]
    while suspects:
        tested = [(cell, one.against(cell, _rest(one, cell), units, spread)) for cell in suspects]
        cell, against = min(tested, key=lambda item: item[1].p_value)
        if against.p_value > allowed:
            return
        one.hold(cell, against)
        suspects = _kept_cells(one, [other for other in suspects if other is not cell])


def _rest(one: _Round, cell: Cell) -> Rows:
    return one.others(cell, outside=[cell.source] if cell.kind == "phrase" else ())


def _kept_cells(one: _Round, cells: Sequence[Cell] | Iterator[Cell]) -> list[Cell]:
    """Return the cells with what is left of their rows, where there is enough beside them."""
    found = []
    for cell in cells:
        left = replace(cell, rows=cell.rows[one.kept[cell.rows]])
        enough = _groups_of(one.fresh, left.rows) if cell.kind == "phrase" else len(left.rows)
        if (
            enough >= one.rules.fewest
            and len(_rest(one, left)) >= one.rules.fewest
            and not one.is_trusted(left)
        ):
            found.append(left)
    return found


def _cells(examples: Examples, kind: str, fewest: int, size: Counting) -> Iterator[Cell]:
    names = getattr(examples, kind).astype(str)
    for name in sorted(set(names) - {""}):
        rows = np.flatnonzero(names == name)
        if size(examples, rows) >= fewest:
            yield Cell(kind, name, name if kind == "source" else "", rows)


def _phrases_of_sources(one: _Round) -> Iterator[Cell]:
    """Yield each phrase as each source uses it."""
    for cell in _phrase_cells(one.fresh, one.rules.fewest):
        sources = one.fresh.source[cell.rows]
        for source in sorted(set(sources) - {""}):
            yield replace(cell, source=str(source), rows=cell.rows[sources == source])


def _phrase_cells(examples: Examples, fewest: int) -> list[Cell]:
    """Return the phrases of one to three words that at least so many groups contain."""
    from sklearn.feature_extraction.text import CountVectorizer

    counting = CountVectorizer(ngram_range=_PHRASE_WORDS, binary=True, token_pattern=_WORD)
    found = counting.fit_transform(examples.query).tocsc()
    places = np.flatnonzero(np.diff(found.indptr) >= fewest)
    names = counting.get_feature_names_out()
    cells = []
    for place in places:
        rows = np.sort(found.indices[found.indptr[place] : found.indptr[place + 1]])
        if _groups_of(examples, rows) >= fewest:
            cells.append(Cell("phrase", str(names[place]), "", rows.astype(np.intp)))
    return cells


def _spread_of(
    one: _Round, cells: Sequence[Cell] | Iterator[Cell], *, by_row: bool = False
) -> Dispersion:
    units = np.arange(len(one.recorded)) if by_row else _numbered(one.recorded.group)
    p = sigmoid(one.foretold.recorded)
    rows = [cell.rows for cell in cells]
    return dispersion(rows, one.recorded.needs_frontier, p, units)


def _groups_of(examples: Examples, rows: Rows) -> int:
    return len(set(examples.group[rows]))


def _texts_of(examples: Examples, rows: Rows) -> int:
    return len(set(examples.query[rows]))


def _numbered(names: NDArray[np.object_]) -> Units:
    return np.asarray(np.unique(names.astype(str), return_inverse=True)[1], dtype=np.intp)
