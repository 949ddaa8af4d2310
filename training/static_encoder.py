r"""The static encoder: one vector a word, distilled from a sentence encoder, the teacher.

A query is the direction of the sum of its words' vectors: no attention, so a decision takes
microseconds. The teacher encodes every word of the vocabulary alone (as Model2Vec does); PCA
shortens the vectors; smooth inverse frequency weighs them (Arora et al. 2017); then they are
refined until queries of the log come out as the teacher would have them.

The tokenisation is one that stock ONNX operators can run as well: `StringNormalizer` in locale "C"
lowers A to Z and nothing else, and `com.microsoft.Tokenizer` cuts at `WORD`. On text views both
give the same words, save for letters that one of their Unicode tables does not know yet. On raw
text they differ: RE2's `\s` is ASCII white space only, and the text view folds all of it.
Scripts without spaces make one long word a sentence, which is mostly unknown.
"""

import hashlib
import json
import string
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.encoder import Encoder
from querytier.data.atomic import atomic_folder
from querytier.errors import TrainingError
from querytier.training.word_vectors import refined, word_projection

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

__all__ = [
    "STATIC_MAX_TOKENS",
    "UNKNOWN",
    "WORD",
    "distil",
    "read_static",
    "static_encoder",
    "word_tokenizer",
    "words_of",
    "write_static",
]

Vectors = NDArray[np.float32]

WORD = r"[\p{L}]+|[0-9]|[^\s\p{L}0-9]"
UNKNOWN = 1
STATIC_MAX_TOKENS = 512
# Neither can be a word of a text, as WORD cuts at "<".
_RESERVED = {"<pad>": 0, "<unk>": UNKNOWN}
_SMOOTHING = 1e-3
_TABLE, _TOKENIZER = "table.npz", "tokenizer.json"


def distil(
    teacher: Encoder,
    views: Sequence[str],
    *,
    words: int = 20_000,
    dimension: int = 256,
    seed: int,
    embeddings: Vectors | None = None,
    epochs: int = 30,
) -> Encoder:
    """Distil a static encoder from a teacher, on the text views of the training role.

    The same seed gives the same encoder, on one machine and one thread.

    Parameters
    ----------
    teacher : Encoder
    views : sequence of str, length n
        Text views of queries; no label is looked at.
    words : int
        Most words of the vocabulary: those that occur twice or more in the views, the most frequent
        first, then whole words of the teacher's own vocabulary.
    dimension : int
        Length of a vector, at most the teacher's.
    seed : int
        Draws the views that stop the refinement, and its batches.
    embeddings : ndarray of float32, shape (n, teacher.dimension), optional
        The teacher's embeddings of the views, where they are known already.
    epochs : int
        Most passes over the views; with 0 the vectors are not refined.

    Returns
    -------
    Encoder

    Raises
    ------
    ValueError
        If the teacher's embeddings are shorter than `dimension`, or not one a view.
    TrainingError
        If there are fewer than 10 views.
    """
    if dimension > teacher.dimension:
        raise ValueError(f"dimension {dimension} is more than the teacher's {teacher.dimension}")
    if len(views) < 10:
        raise TrainingError(
            f"{len(views)} text views are too few to distil on; give 10 or, better, thousands"
        )
    if embeddings is None:
        embeddings = teacher.encode(views)
    if embeddings.shape != (len(views), teacher.dimension):
        raise ValueError(
            f"embeddings of shape {embeddings.shape} for {len(views)} views of a teacher with "
            f"dimension {teacher.dimension}"
        )
    counts = Counter(word for view in views for word in words_of(view))
    vocabulary = _vocabulary(counts, teacher.tokenizer_json, words)
    of_words = teacher.encode(vocabulary)
    projection = word_projection(of_words, embeddings, dimension)
    table = np.zeros((len(_RESERVED) + len(vocabulary), dimension), dtype=np.float32)
    table[len(_RESERVED) :] = projection.words(of_words) * _smooth_inverse_frequency(
        vocabulary, counts
    )
    name = f"static-{teacher.name}"
    plain = static_encoder(name, table, vocabulary)
    if not epochs:
        return plain
    token_ids = [plain.tokenizer.token_ids(view) for view in views]
    table = refined(table, token_ids, projection.views(embeddings), epochs=epochs, seed=seed)
    return static_encoder(name, table, vocabulary)


def words_of(text: str) -> list[str]:
    """Return the words of a text, as the static encoder cuts it.

    Examples
    --------
    >>> words_of("Don't pay €42, ÉMILE!")
    ['don', "'", 't', 'pay', '€', '4', '2', ',', 'Émile', '!']
    """
    cutter = _cutter()
    pieces = cutter.pre_tokenizer.pre_tokenize_str(cutter.normalizer.normalize_str(text))
    return [word for word, _ in pieces]


def word_tokenizer(vocabulary: Iterable[str]) -> str:
    """Return the `tokenizer.json` of a vocabulary; ids: 0 padding, 1 unknown, then its words."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    ids = _RESERVED | {word: number for number, word in enumerate(vocabulary, len(_RESERVED))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))  # noqa: S106
    # The normaliser `Lowercase` would lower all of Unicode, which ONNX's does not.
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(letter, letter.lower()) for letter in string.ascii_uppercase]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    return str(tokenizer.to_str())


def static_encoder(name: str, table: Vectors, vocabulary: Sequence[str]) -> Encoder:
    """Make an encoder of word vectors.

    Parameters
    ----------
    name : str
    table : ndarray of float32, shape (2 + len(vocabulary), dimension)
        The vectors of padding (zeros), of unknown words, then of the vocabulary.
    vocabulary : sequence of str
    """
    return _encoder(name, table, word_tokenizer(vocabulary))


def write_static(encoder: Encoder, folder: Path) -> None:
    """Write a static encoder into a folder, so that a later stage can read it."""
    table = encoder.model.get_parameter("table").detach().numpy()
    with atomic_folder(folder) as new:
        (new / _TOKENIZER).write_text(encoder.tokenizer_json, "utf-8")
        np.savez(
            new / _TABLE,
            table=table,
            name=np.array(encoder.name),
            weights_sha256=np.array(encoder.weights_sha256),
        )


def read_static(folder: Path) -> Encoder:
    """Read what `write_static` wrote.

    Raises
    ------
    TrainingError
        If there is none, or it is not what was written.
    """
    try:
        tokenizer_json = (folder / _TOKENIZER).read_text("utf-8")
        with np.load(folder / _TABLE, allow_pickle=False) as content:
            table, name = content["table"], str(content["name"])
            stated = str(content["weights_sha256"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise TrainingError(
            f"{folder} holds no static encoder ({error}); distil it again"
        ) from error
    encoder = _encoder(name, table, tokenizer_json)
    if encoder.weights_sha256 != stated:
        raise TrainingError(
            f"the static encoder in {folder} has sha256 {encoder.weights_sha256}, not the {stated} "
            "it was written with; distil it again"
        )
    return encoder


def _encoder(name: str, table: Vectors, tokenizer_json: str) -> Encoder:
    table = np.ascontiguousarray(table, dtype=np.float32)
    weights = hashlib.sha256(table.tobytes() + tokenizer_json.encode()).hexdigest()
    return Encoder(name, weights, _model(table), tokenizer_json, table.shape[1], STATIC_MAX_TOKENS)


def _model(table: Vectors) -> "torch.nn.Module":
    import torch

    class StaticModel(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Parameter(torch.from_numpy(table), requires_grad=False)

        def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            vectors = torch.nn.functional.embedding(features["input_ids"], self.table)
            # The direction of the sum is that of the mean; where there is none it stays zero.
            total = (vectors * features["attention_mask"].unsqueeze(-1)).sum(dim=1)
            return {"sentence_embedding": torch.nn.functional.normalize(total, dim=1)}

    return StaticModel().eval()


def _vocabulary(counts: Counter[str], teacher_tokenizer: str, words: int) -> list[str]:
    frequent = sorted((word for word in counts if counts[word] > 1), key=lambda w: (-counts[w], w))
    # BERT's vocabulary opens with a thousand letters and signs of many scripts.
    whole = sorted(_whole_words(teacher_tokenizer), key=lambda w: len(w) == 1 and not w.isascii())
    known = dict.fromkeys([*frequent, *whole])
    return list(known)[:words]


def _whole_words(tokenizer_json: str) -> list[str]:
    """Return the words that a tokenizer holds in one piece, in the order of their ids."""
    model = json.loads(tokenizer_json)["model"]
    if isinstance(model["vocab"], list):
        pieces = [piece for piece, _ in model["vocab"]]
    else:
        pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if model.get("type") in {"BPE", "Unigram"}:
        pieces = [piece[1:] for piece in pieces if piece.startswith(("\u0120", "\u2581"))]
    # A piece that continues a word ("##ing"), and a special token, are cut into several words.
    return [words[0] for words in map(words_of, pieces) if len(words) == 1]


def _smooth_inverse_frequency(vocabulary: Sequence[str], counts: Counter[str]) -> Vectors:
    shares = np.array([[counts[word]] for word in vocabulary]) / counts.total()
    return np.asarray(_SMOOTHING / (_SMOOTHING + shares), dtype=np.float32)


@cache
def _cutter() -> "Tokenizer":
    from tokenizers import Tokenizer

    return Tokenizer.from_str(word_tokenizer([]))
