r"""Words: the tokenisation of static encoders, for Hugging Face tokenizers and as ONNX operators.

A to Z become small, and nothing else: so does `StringNormalizer` in locale "C", the only one that
every machine has. Then `WORD` cuts: runs of letters, and every other character alone, digits among
them; ideographs and kana are words by themselves, as they stand without spaces. The letters are
written out, instead of being left to a regular expression's `\p{L}`, so that engines with other
Unicode tables cut alike. White space is what the text view leaves of it, the space.
"""

import json
import string
import sys
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

from querytier.classifier.model.onnx_nodes import CONTRIB_DOMAIN, ML_DOMAIN, Nodes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = [
    "RESERVED",
    "UNKNOWN",
    "add_words",
    "cuts_words",
    "word_pattern",
    "word_tokenizer",
    "words_of",
]

UNKNOWN = 1
# Neither can be a word of a text, as the pattern cuts at "<".
RESERVED = {"<pad>": 0, "<unk>": UNKNOWN}
# Kana, and Han in all its blocks.
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


@cache
def word_pattern() -> str:
    """Return the regular expression of a word, of sets of characters alone."""
    letters = _letters()
    return f"[{letters}]+|[^ {letters}]"


def word_tokenizer(vocabulary: Iterable[str]) -> str:
    """Return the `tokenizer.json` of a vocabulary; ids: 0 padding, 1 unknown, then its words."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    ids = RESERVED | {word: number for number, word in enumerate(vocabulary, len(RESERVED))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))  # noqa: S106
    # The normaliser `Lowercase` would lower all of Unicode, which ONNX's does not.
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(letter, letter.lower()) for letter in string.ascii_uppercase]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(word_pattern()), "removed", invert=True)
    return str(tokenizer.to_str())


def words_of(text: str) -> list[str]:
    """Return the words of a text view.

    Examples
    --------
    >>> words_of("Don't pay €42, ÉMILE!")
    ['don', "'", 't', 'pay', '€', '4', '2', ',', 'Émile', '!']
    """
    cutter = _cutter()
    pieces = cutter.pre_tokenizer.pre_tokenize_str(cutter.normalizer.normalize_str(text))
    return [word for word, _ in pieces]


def cuts_words(tokenizer_json: str) -> bool:
    """Tell whether this is a `word_tokenizer`, which a graph can do without."""
    settings, own = json.loads(tokenizer_json), json.loads(word_tokenizer([]))
    return all(settings[part] == own[part] for part in ("normalizer", "pre_tokenizer")) and (
        settings["model"]["type"] == "WordLevel"
    )


def add_words(nodes: Nodes, text: str, tokenizer_json: str) -> str:
    """Add a `word_tokenizer` to a graph; return the name of the token ids.

    Parameters
    ----------
    nodes : Nodes
    text : str
        Name of text views, string of shape (batch,).
    tokenizer_json : str

    Returns
    -------
    str
        Of int64, shape (batch, length); rows of fewer words than the longest are padded with 0.
    """
    vocabulary = json.loads(tokenizer_json)["model"]["vocab"]
    small = nodes.add("StringNormalizer", [text], case_change_action="LOWER", locale="C")
    words = nodes.add(
        "Tokenizer",
        [small],
        CONTRIB_DOMAIN,
        mark=0,
        mincharnum=1,
        pad_value="<pad>",
        tokenexp=word_pattern(),
    )
    return nodes.add(
        "LabelEncoder",
        [words],
        ML_DOMAIN,
        keys_strings=list(vocabulary),
        values_int64s=list(vocabulary.values()),
        default_int64=UNKNOWN,
    )


@cache
def _letters() -> str:
    """Return the letters, ideographs apart, as the inside of a set of characters."""
    ideographs = _members(_IDEOGRAPHS)
    points = [
        point
        for point in range(sys.maxunicode + 1)
        if unicodedata.category(chr(point)).startswith("L") and point not in ideographs
    ]
    # Points in a row stay as far from their places as the first of them.
    runs = groupby(
        enumerate(points), lambda place_and_point: place_and_point[1] - place_and_point[0]
    )
    ends = ((run[0][1], run[-1][1]) for run in (list(run) for _, run in runs))
    return "".join(
        chr(first) if first == last else f"{chr(first)}-{chr(last)}" for first, last in ends
    )


def _members(ranges: str) -> set[int]:
    ends = [ord(one) for one in ranges.replace("-", "")]
    return {point for at in range(0, len(ends), 2) for point in range(ends[at], ends[at + 1] + 1)}


@cache
def _cutter() -> "Tokenizer":
    from tokenizers import Tokenizer

    return Tokenizer.from_str(word_tokenizer([]))
