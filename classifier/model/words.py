r"""Words: the tokenisation of static encoders, as a Hugging Face tokenizer and as ONNX operators.

A to Z become lower case. Then the text is cut into runs of letters; every other character is a
word, digits included, and so are ideographs and kana, which are written without spaces.

Both engines must cut texts alike, which rules out two shorter ways. `StringNormalizer` lowers only
ASCII in locale "C", and no other locale exists on every machine. `\p{L}` differs with each engine's
Unicode tables, so the pattern lists its letters (3,276 characters, 15 ms at session start). On
20,722 hostile views Python and Node gave identical ids.
"""

import json
import re
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
# Neither can be a word of a text: the pattern cuts at "<".
RESERVED = {"<pad>": 0, "<unk>": UNKNOWN}
# Kana, and Han in all its blocks.
_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


@cache
def word_pattern() -> str:
    """Return the regular expression of a word; it consists of sets of characters only."""
    letters = _letters()
    return f"[{letters}]+|[^ {letters}]"


def word_tokenizer(vocabulary: Iterable[str]) -> str:
    """Return the `tokenizer.json` of a vocabulary: id 0 is padding, 1 unknown, then its words."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    ids = RESERVED | {word: number for number, word in enumerate(vocabulary, len(RESERVED))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))  # noqa: S106
    # The normaliser `Lowercase` lowers all of Unicode, that of ONNX only A to Z.
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
    """Return whether this is a `word_tokenizer`, so that the graph itself can read text."""
    settings, own = json.loads(tokenizer_json), json.loads(word_tokenizer([]))
    return all(settings[part] == own[part] for part in ("normalizer", "pre_tokenizer")) and (
        settings["model"]["type"] == "WordLevel"
    )


def add_words(nodes: Nodes, text: str, tokenizer_json: str) -> str:
    """Add a `word_tokenizer` to a graph.

    Parameters
    ----------
    nodes : Nodes
    text : str
        Name of the text views, strings of shape (batch,).
    tokenizer_json : str

    Returns
    -------
    str
        Name of the token ids, int64 of shape (batch, length); shorter rows are padded with 0.
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
    """Return all letters except ideographs, as the inside of a set of characters."""
    points = [
        ord(character)
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character).startswith("L")
        and not re.match(f"[{_IDEOGRAPHS}]", character)
    ]
    # Within a run of consecutive points, point minus position is constant.
    runs = groupby(enumerate(points), lambda numbered: numbered[1] - numbered[0])
    ends = ((run[0][1], run[-1][1]) for run in (list(run) for _, run in runs))
    return "".join(
        chr(first) if first == last else f"{chr(first)}-{chr(last)}" for first, last in ends
    )


@cache
def _cutter() -> "Tokenizer":
    from tokenizers import Tokenizer

    return Tokenizer.from_str(word_tokenizer([]))
