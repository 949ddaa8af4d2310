"""Surface features: counts and shares of tokens, from a table that is part of the graph.

The counts of a token are computed once, from the text of its vocabulary entry. A graph with the
table needs token ids only, so a router in any language gets the features without porting a regular
expression. Features that no single token shows are not counted (a word cut into pieces, an option
letter before its bracket, a number around its point), and neither are line breaks, because the text
view folds them. With features of the full text, trees rank MMLU better by 0.012 in APGR.
"""

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Vectors
from querytier.errors import TrainingError

if TYPE_CHECKING:
    import torch

__all__ = ["SurfaceTable", "surface_table"]


# Names of padding in vocabularies, which do not always declare it as a special token.
_PADDINGS = ("[PAD]", "<pad>")

_DEVIATIONS = 10.0  # a column that was rare in training must not outweigh all others in serving
_RANK_STEP = 2.0**-12  # sums of its multiples are exact in float32 up to 4,096 tokens
_LONG = 8
_OPTIONS = frozenset("abcde")

_MARKS = {
    "code_marks": "{}[]();=<>_`#|&@~\\",  # code, logs, mark-up
    "maths_marks": "+-*/^=\\$%<>|±×÷¬°′″⁄√∂∇∆∑∏∫∞∅∈∩∪⊂⊆⊕⊗∧∨≈≡≠≤≥⋅−∗∘→⇒↔⁺⁻",
    "quotation_marks": '"“”„«»‹›「」『』',
    "apostrophes": "'’‘",  # contractions: a chat rather than a document
    "question_marks": "?？؟",
    "full_stops": ".。．।",  # sentences, and the points of numbers
    "commas": ",，、،",  # clauses and lists
    "colons": ":：;；",  # fields, options, quoted material
}

_WORD_LISTS = {
    # The five words of the keyword heuristic in eval/rankings.py, without its length.
    "heuristic_words": "why compare analyze strategy tradeoff",
    # Tasks that need an argument; without the five words above, but with their other forms.
    "reasoning_words": """explain prove proof design evaluate derive justify analyse analysis
        analyzing analyzed assess argue argument discuss critique criticism reason reasoning
        determine deduce infer conclude conclusion investigate examine interpret solve optimize
        optimal improve recommend plan planning strategies comparing comparison contrast difference
        differences advantages disadvantages implications impact debug diagnose implement refactor
        architecture calculate compute estimate predict""",
    # Tasks on a given text, or without a single right answer.
    "writing_words": """write rewrite summarize summary translate translation draft edit paraphrase
        essay poem story email letter blog article paragraph title titles headline slogan song joke
        list describe generate create suggest ideas names tweet caption""",
    "fact_questions": "who whom whose when where what which",  # one fact to be looked up
    "open_questions": "why how",  # an explanation
    "verb_questions": "is are was were do does did has have had",  # yes or no
    "maths_words": """equation equations function functions theorem integral derivative polynomial
        matrix vector probability variance mean median sum product ratio percent percentage root
        square cube triangle circle angle radius diameter perimeter area volume prime integer
        integers modulo divided multiplied equals solve graph algebra geometry finite infinite
        maximum minimum frac sqrt cdot leq geq mathbb sin cos tan log theta alpha beta lambda""",
    "code_words": """code program programming function method class object array string integer int
        float boolean return def import print loop python java javascript rust sql html css json xml
        api server client database query algorithm compiler linux git bug error exception syntax
        script file bash variable""",
    "conditions": """if then else suppose assume assuming assumption given let unless whether
        provided because therefore hence thus since implies otherwise""",
    "negations": """not no never none nor neither nothing nobody without except cannot isn aren wasn
        weren don doesn didn wouldn couldn shouldn hasn haven hadn false incorrect""",
    "modal_words": "can could may might must shall should will would ought need",
    "comparisons": """more most less least better best worse worst greater greatest larger largest
        smaller smallest higher highest lower lowest than same equal equally rather likely""",
    "quantifiers": "all any every each some both either only always many several few following",
    "order_words": """first second third next finally last before after step steps process stage
        order sequence during until while""",
    "person_words": "i me my mine we us our you your yours he him his she her they them their",
    "function_words": """the a an of to in on at by for from with as and or but that this these
        those it its into about over under between be been being""",
}

_WORDS = {name: frozenset(words.split()) for name, words in _WORD_LISTS.items()}

_SCRIPTS = {
    "latin_script": "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
    "cyrillic_script": "\u0400-\u052f",
    "arabic_script": "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufeff",
    # Han, kana and hangul.
    "cjk_script": "\u1100-\u11ff\u3040-\u318f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003ffff",
}


@dataclass(frozen=True, eq=False)
class SurfaceTable:
    """The counts of each token by column, and the standardisation of the features.

    The features of a query are log(1 + count) of every column, then the share count / number of
    tokens of every column (0 without tokens); minus `mean`, divided by `scale`, within ±`limit`.

    Attributes
    ----------
    names : tuple of str, length k
        The columns of the table; the first is `tokens`, 1 except for padding and special tokens.
    table : ndarray of float32, shape (vocabulary, k)
        Row 0, which is padding, and the rows of special tokens are 0.
    mean, scale : ndarray of float32, shape (2k,)
        0 and 1 before `fitted_to`.
    limit : float
        Infinity before `fitted_to`.
    """

    names: tuple[str, ...]
    table: Vectors
    mean: Vectors
    scale: Vectors
    limit: float = math.inf

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the 2k features, in order."""
        kinds = ("log count of", "share of")
        return tuple(f"{kind} {name}" for kind in kinds for name in self.names)

    def features(self, token_ids: Sequence[list[int]]) -> Vectors:
        """Return the features of n queries, shape (n, 2k)."""
        features = (self._unscaled(token_ids) - self.mean) / self.scale
        return np.asarray(np.clip(features, -self.limit, self.limit))

    def fitted_to(self, token_ids: Sequence[list[int]]) -> Self:
        """Return the table with the standardisation of these n > 0 queries.

        Every feature gets mean 0 and the same standard deviation; a constant feature keeps its
        scale.
        """
        # A mean squared norm of about 1, like that of sentence embeddings: one regularisation suits
        # both, and blocks of one norm ranked GSM8K better (0.668) than columns of one (0.665).
        features = self._unscaled(token_ids).astype(np.float64)
        constant = np.ptp(features, axis=0) == 0
        norm = math.sqrt(features.shape[1])
        return replace(
            self,
            mean=features.mean(axis=0).astype(np.float32),
            scale=np.where(constant, 1, norm * features.std(axis=0)).astype(np.float32),
            limit=_DEVIATIONS / norm,
        )

    def module(self) -> "torch.nn.Module":
        """Return the module that maps int64 (batch, length), padded with 0, to (batch, 2k)."""
        import torch

        class Surface(torch.nn.Module):
            table: torch.Tensor
            mean: torch.Tensor
            scale: torch.Tensor

            def __init__(self, surface: SurfaceTable) -> None:
                super().__init__()
                for name in ("table", "mean", "scale"):
                    self.register_buffer(name, torch.tensor(getattr(surface, name)))

            def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
                # As a product: ONNX Runtime sums 130 vectors of 256 numbers in 57 us by ReduceSum,
                # in 13 us as a product with a row of ones.
                weights = (token_ids != 0).unsqueeze(1).to(self.table.dtype)
                rows = torch.nn.functional.embedding(token_ids, self.table)
                counts = (weights @ rows).squeeze(1)
                shares = counts / counts[:, :1].clamp(min=1)
                unscaled = torch.cat([torch.log(1 + counts), shares], dim=1)
                return ((unscaled - self.mean) / self.scale).clamp(-limit, limit)

        limit = self.limit
        return Surface(self).eval()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the table whose fields `numpy.savez` wrote, as `numpy.load` reads them."""
        names, limit = tuple(arrays["names"].tolist()), float(arrays["limit"])
        return cls(names, arrays["table"], arrays["mean"], arrays["scale"], limit)

    def _unscaled(self, token_ids: Sequence[list[int]]) -> Vectors:
        sums = [self.table[np.asarray(ids, dtype=np.int64)].sum(axis=0) for ids in token_ids]
        counts = np.array(sums, dtype=np.float32).reshape(len(sums), len(self.names))
        return np.hstack([np.log(1 + counts), counts / np.maximum(counts[:, :1], 1)])


def surface_table(tokenizer_json: str) -> SurfaceTable:
    """Return the table of a tokenizer, not yet fitted to queries.

    Parameters
    ----------
    tokenizer_json : str
        A Hugging Face `tokenizer.json` of WordPiece, WordLevel or byte-level BPE.

    Raises
    ------
    TrainingError
        If the tokenizer is of another kind, or its id 0 is a token of text.
    """
    tokens = _vocabulary(json.loads(tokenizer_json))
    size = 1 + max(token.id for token in tokens)
    names = tuple(_counts(tokens[0], size))
    table = np.zeros((size, len(names)), dtype=np.float32)
    for token in tokens:
        if not token.special:
            table[token.id] = list(_counts(token, size).values())
    if table[0].any():
        raise TrainingError(
            "the tokenizer gives id 0 to a token of text, and the graph reads 0 as padding; use a "
            "tokenizer whose first token is its padding"
        )
    zeros = np.zeros(2 * len(names), dtype=np.float32)
    return SurfaceTable(names, table, zeros, zeros + 1)


@dataclass(frozen=True)
class _Token:
    id: int
    text: str
    starts_word: bool = True
    unknown: bool = False
    special: bool = False


def _vocabulary(settings: Mapping[str, Any]) -> list[_Token]:
    model = settings["model"]
    byte_level = model["type"] == "BPE" and '"ByteLevel"' in json.dumps(settings["decoder"])
    if not (byte_level or model["type"] in ("WordPiece", "WordLevel")):
        raise TrainingError(
            f"no surface features for a tokenizer of model {model['type']!r} and decoder "
            f"{settings['decoder']!r}; use one of WordPiece, WordLevel or byte-level BPE"
        )
    added = {token["content"]: token["id"] for token in settings["added_tokens"]}
    special = {token["content"] for token in settings["added_tokens"] if token["special"]}
    entries = {**model["vocab"], **added}
    return [_token(entry, number, model, special) for entry, number in entries.items()]


def _token(entry: str, number: int, model: Mapping[str, Any], special: set[str]) -> _Token:
    if entry == model["unk_token"]:
        return _Token(number, "", unknown=True, special=number == 0)
    if entry in special or (number == 0 and entry in _PADDINGS):
        return _Token(number, "", special=True)
    if model["type"] == "BPE":
        # The first word of a text has no space before it, but often a capital.
        text = _decoded(entry)
        return _Token(number, text.strip(), starts_word=not text[:1].islower())
    prefix = model.get("continuing_subword_prefix")
    if prefix and entry.startswith(prefix) and entry != prefix:
        return _Token(number, entry.removeprefix(prefix), starts_word=False)
    return _Token(number, entry)


def _decoded(entry: str) -> str:
    """Return the text of a byte-level token, without bytes of characters that are cut in two."""
    return bytes(_BYTES[c] for c in entry if c in _BYTES).decode(errors="ignore")


def _byte_alphabet() -> dict[str, int]:
    """Return the byte of each character of byte-level BPE (Radford et al. 2019, GPT-2)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + n): b for n, b in enumerate(hidden)}


_BYTES = _byte_alphabet()


def _counts(token: _Token, size: int) -> dict[str, float]:
    """Return the counts of a token by column."""
    word = token.text.casefold() if token.starts_word else ""
    scripts = {name: re.findall(f"[{s}]", token.text) for name, s in _SCRIPTS.items()}
    letters = set(filter(str.isalpha, token.text))
    return {
        "tokens": 1,  # length, the oldest heuristic
        "characters": len(token.text),  # its share: how long tokens are
        "word_starts": token.starts_word,  # its share falls with rare words
        "long_tokens": len(token.text) >= _LONG,  # terms of a subject
        "ranks": _rank(token, size),
        "unknown": token.unknown,  # emoji, rare scripts
        "numbers": token.text.isdecimal(),  # quantities to calculate with
        "long_numbers": token.text.isdecimal() and len(token.text) > 2,  # years among them
        "option_letters": word in _OPTIONS,  # exam questions; also the article a
        "symbol_letters": len(word) == 1 and word.isalpha() and word.isascii(),
        "punctuation": sum(unicodedata.category(c).startswith("P") for c in token.text),
        **{name: sum(c in marks for c in token.text) for name, marks in _MARKS.items()},
        **{name: word in words for name, words in _WORDS.items()},
        **{name: bool(found) for name, found in scripts.items()},
        "other_scripts": bool(letters.difference(*scripts.values())),
    }


def _rank(token: _Token, size: int) -> float:
    """Return how rare a token is, in [0, 1], if the vocabulary is in order of frequency."""
    rank = 1.0 if token.unknown else math.log(1 + token.id) / math.log(1 + size)
    return round(rank / _RANK_STEP) * _RANK_STEP
