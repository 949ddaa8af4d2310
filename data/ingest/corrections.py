"""Corrections: labels that a person has corrected in the table of an audit, read and applied.

The table is made for spreadsheets, which change what they open:

- A text that starts with ``=``, ``+``, ``-`` or ``@`` becomes a formula, and queries are written by
  strangers (CWE-1236). `review_text` puts an apostrophe before it, at the start and after
  semicolons, at which spreadsheets of many countries split a line. Every cell is quoted, and the id
  comes first, so that no split can fall into it. These cells are never read back.
- An id that looks like a number, a date or a formula becomes one: ``007`` comes back as ``7``.
  `review_id` puts an apostrophe before every id, and `read_corrections` removes it, unless the
  spreadsheet did. So ids survive the round trip.
- The file may come back with semicolons for commas and commas for points; both are read.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from querytier.data.examples import Examples
from querytier.data.text_view import text_view
from querytier.errors import UsageError

__all__ = [
    "CORRECTION",
    "Correction",
    "Corrections",
    "Corrector",
    "read_corrections",
    "review_id",
    "review_query",
    "review_text",
]

CORRECTION = "correction"
_SHOWN_CHARACTERS = 300
# The last four are the full-width forms of =, +, - and @, which Excel reads as formulas as well.
_FORMULA = re.compile(r"(^|;)(?=[\s\"]*[=+\-@\uff1d\uff0b\uff0d\uff20])")
_NO_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Correction:
    """One corrected label.

    Attributes
    ----------
    id : str
        Id of the example.
    needs_frontier : float
        The label that a person set, in [0, 1].
    query : str
        The query as the table shows it; empty if the file does not have it.
    line : int
        Line of the file on which the row ends.
    """

    id: str
    needs_frontier: float
    query: str
    line: int


@dataclass(frozen=True, slots=True)
class Corrections:
    """The corrections of one file.

    Attributes
    ----------
    source : str
        The path of the file, as given.
    rows : sequence of Correction
        In the order of the file; ids are unique.
    """

    source: str
    rows: Sequence[Correction]


def read_corrections(path: Path) -> Corrections:
    """Read the rows of an audit's table in which `corrected_label` is filled in.

    A table written by hand needs only the columns `id` and `corrected_label`.

    Parameters
    ----------
    path : Path
        As `querytier.training.label_audit.label_errors.write_suspects` wrote it, or as a
        spreadsheet saved it.

    Raises
    ------
    UsageError
        If the file does not exist or is not such a table, a corrected label is not in [0, 1], or an
        id is repeated.
    """
    rows: dict[str, Correction] = {}
    for line, cells in _filled_rows(path):
        correction = _correction(path, line, cells)
        first = rows.setdefault(correction.id, correction)
        if first is not correction:
            raise UsageError(
                f"{path}, line {line}: the id {correction.id!r} is already corrected on line "
                f"{first.line}; leave the corrected_label of one of them empty"
            )
    return Corrections(str(path), tuple(rows.values()))


class Corrector:
    """Applies corrections to examples batch by batch, as a log streams by.

    Parameters
    ----------
    corrections : Corrections

    Attributes
    ----------
    corrected : int
        Examples corrected so far.
    """

    def __init__(self, corrections: Corrections) -> None:
        self._source = corrections.source
        self._open = {correction.id: correction for correction in corrections.rows}
        self.corrected = 0

    def apply(self, examples: Examples) -> Examples:
        """Return the examples with corrected labels.

        The `label_source` of a corrected example is `CORRECTION`, even if the person confirmed the
        label.

        Raises
        ------
        UsageError
            If a correction belongs to another query: ids like `line-7`, which replace missing ids,
            are only valid while the lines of the log do not change.
        """
        found = [row for row, identity in enumerate(examples.id.tolist()) if identity in self._open]
        if not found:
            return examples
        labels, sources, unlabelled = (
            getattr(examples, name).copy()
            for name in ("needs_frontier", "label_source", "unlabelled")
        )
        for row in found:
            correction = self._open.pop(examples.id[row])
            place = f"{self._source}, line {correction.line}"
            _check_same_query(place, correction, examples.query[row])
            labels[row], sources[row] = correction.needs_frontier, CORRECTION
            unlabelled[row] = ""
        self.corrected += len(found)
        return replace(examples, needs_frontier=labels, label_source=sources, unlabelled=unlabelled)

    def check_all_used(self) -> None:
        """Raise an error if there are corrections of examples that the log does not have.

        Raises
        ------
        UsageError
        """
        for correction in self._open.values():
            raise UsageError(
                f"{self._source}, line {correction.line}: no example has the id "
                f"{correction.id!r}; use the table of an audit of this log and do not change its "
                "ids, or clear its corrected_label"
            )


def review_id(example_id: str) -> str:
    """Return an id in a form that every spreadsheet reads as text.

    Examples
    --------
    >>> review_id("007")
    "'007"
    """
    return f"'{example_id}"


def review_text(text: str) -> str:
    r"""Return a text on one line, in a form that no spreadsheet reads as a formula.

    Examples
    --------
    >>> review_text("=1+1"), review_text("why;\n=1+1"), review_text("a - b")
    ("'=1+1", "why;' =1+1", 'a - b')
    """
    line = " ".join(text.split())
    return _FORMULA.sub(r"\1'", "".join(sign for sign in line if sign.isprintable()))


def review_query(query: str) -> str:
    r"""Return the start of a query's text view in the same form.

    Examples
    --------
    >>> review_query("@here what is\na quorum?")
    "'@here what is a quorum?"
    """
    view = text_view(query)
    return review_text(view if len(view) <= _SHOWN_CHARACTERS else f"{view[:_SHOWN_CHARACTERS]}...")


def _filled_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and cells of the rows that have a corrected label."""
    if not path.is_file():
        raise UsageError(f"no such file: {path}; give the path of the table that the audit wrote")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8; save the table as CSV in UTF-8") from error
    # A spreadsheet saves with the separator of its locale, whatever it opened.
    header = text.partition("\n")[0]
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    try:
        if not {"id", "corrected_label"} <= set(table.fieldnames or ()):
            raise UsageError(
                f"{path} has no columns id and corrected_label (first line: {header[:80]!r}); keep "
                "the first line that the audit wrote"
            )
        for cells in table:
            if (cells["corrected_label"] or "").strip():
                yield table.line_num, cells
    except csv.Error as error:
        raise UsageError(
            f"{path} cannot be read as CSV after line {table.line_num} ({error}); save it again"
        ) from error


def _correction(path: Path, line: int, cells: dict[str, str]) -> Correction:
    value = cells["corrected_label"].strip()
    try:
        label = float(value.replace(",", "."))
    except ValueError:
        label = -1.0
    if not 0 <= label <= 1:
        raise UsageError(
            f"{path}, line {line}: corrected_label is {value!r}; write a number from 0 (the cheap "
            "model is enough) to 1 (needs the frontier model), or leave it empty"
        )
    example_id = (cells["id"] or "").removeprefix("'")
    return Correction(example_id, label, cells.get("query") or "", line)


def _check_same_query(place: str, correction: Correction, query: str) -> None:
    shown, known = _words(correction.query), _words(review_query(query))
    if shown and shown != known:
        raise UsageError(
            f"{place}: the id {correction.id!r} belongs to another query, "
            f"{review_query(query)[:60]!r}; audit this log again, or, if only a spreadsheet has "
            "changed the text, clear the cell of the query"
        )


def _words(text: str) -> str:
    """Return the letters and digits of a text, which no spreadsheet changes."""
    return _NO_WORD.sub("", text)
