"""Slices of examples, as a name and a mask, by fields of the log or properties of the query."""

import unicodedata
from collections import Counter
from functools import cache

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Mask, Strings
from querytier.data.examples import Examples
from querytier.data.text_view import is_truncated

__all__ = ["script_of", "slice_masks"]


_CHARACTERS = 500  # enough to see the script; unicodedata.name is slow
_KANA = ("Hiragana", "Katakana")
_SCRIPTS = {"Cjk": "Han", "Fullwidth": "Latin"}


def slice_masks(examples: Examples, fewest_rows: int = 30) -> dict[str, Mask]:
    """Return slices by domain, language, script, length, truncation, source, label source and time.

    Parameters
    ----------
    examples : Examples, length n
    fewest_rows : int
        Smaller slices are left out, and so are those that contain every row.

    Returns
    -------
    dict of str to ndarray of bool, shape (n,)
        Slices of one kind do not overlap. Rows without a value are in no slice of that kind.
    """
    views = examples.views()
    truncated = np.array([is_truncated(query) for query in examples.query.tolist()])
    masks = {
        **_by_value("domain", examples.domain),
        **_by_value("language", examples.language),
        **_by_value("script", np.array([script_of(view) for view in views], dtype=object)),
        **_thirds(np.array([len(view) for view in views])),
        "view: truncated": truncated,
        "view: whole": ~truncated,
        **_by_value("source", examples.source),
        **_by_value("label source", examples.label_source),
        **_halves(examples.time),
    }
    # A slice of all rows repeats the whole table, and would lower the power of every other test.
    return {
        name: mask for name, mask in masks.items() if fewest_rows <= mask.sum() and not mask.all()
    }


def script_of(text: str) -> str:
    """Return the script of most letters, which stands in for the language; empty without letters.

    If a tenth of the letters are kana, the text is Japanese, and its other letters are Han.

    Examples
    --------
    >>> script_of("Where is my order?"), script_of("Где мой заказ?"), script_of("注文はどこですか")
    ('Latin', 'Cyrillic', 'Kana')
    """
    letters = Counter(_script(character) for character in text[:_CHARACTERS] if character.isalpha())
    if not letters:
        return ""
    if 10 * sum(letters[script] for script in _KANA) >= letters.total():
        return "Kana"
    return letters.most_common(1)[0][0]


@cache
def _script(character: str) -> str:
    word = unicodedata.name(character, "other").split()[0].capitalize()
    return _SCRIPTS.get(word, word)


def _by_value(kind: str, values: Strings) -> dict[str, Mask]:
    texts = values.astype(str)
    return {f"{kind}: {value}": texts == value for value in np.unique(texts).tolist() if value}


def _thirds(lengths: NDArray[np.intp]) -> dict[str, Mask]:
    low, high = np.quantile(lengths, [1 / 3, 2 / 3]) if len(lengths) else (0, 0)
    return {
        "length: shortest third": lengths <= low,
        "length: middle third": (lengths > low) & (lengths <= high),
        "length: longest third": lengths > high,
    }


def _halves(times: Strings) -> dict[str, Mask]:
    texts = times.astype(str)
    known = np.sort(texts[texts != ""])
    if not len(known):
        return {}
    middle = known[len(known) // 2]
    return {
        "time: earlier half": (texts != "") & (texts < middle),
        "time: later half": texts >= middle,
    }
