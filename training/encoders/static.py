"""The static encoder: one vector a word, distilled from a sentence encoder, the teacher.

A query is the direction of the sum of its words' vectors: no attention, so a decision takes
microseconds. The teacher encodes every word of the vocabulary alone (as Model2Vec does); PCA
shortens the vectors; smooth inverse frequency weighs them (Arora et al. 2017); then they are
refined until queries of the log come out as the teacher would have them.

The tokenisation is that of `querytier.classifier.model.words`, which the graph does by itself.
"""

import hashlib
import json
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.encoder import Encoder
from querytier.classifier.model.words import RESERVED, word_tokenizer, words_of
from querytier.classifier.tokens import ViewTokenizer
from querytier.data.text_view import CUT_MARK, MAX_CHARACTERS
from querytier.errors import TrainingError
from querytier.files import atomic_folder
from querytier.training.encoders.word_vectors import refined, word_projection

if TYPE_CHECKING:
    import torch

__all__ = [
    "STATIC_MAX_TOKENS",
    "distil",
    "read_static",
    "static_encoder",
    "write_static",
]

Vectors = NDArray[np.float32]

# As many as a text view can have: none has to be left out where a token costs nothing.
STATIC_MAX_TOKENS = MAX_CHARACTERS + len(CUT_MARK)
_SMOOTHING = 1e-3
_SMALLEST_LENGTH = 1e-12
_LARGEST = 127
# 127 * 2**5, summed over the most words of a view, stays below 2**24: exact in float32.
_MOST_DOUBLINGS = 5
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
    """Distil a static encoder from a teacher, on the text views of the training split.

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
    table = np.zeros((len(RESERVED) + len(vocabulary), dimension), dtype=np.float32)
    table[len(RESERVED) :] = projection.words(of_words) * _smooth_inverse_frequency(
        vocabulary, counts
    )
    if epochs:
        tokenizer = ViewTokenizer(word_tokenizer(vocabulary), STATIC_MAX_TOKENS)
        token_ids = [tokenizer.token_ids(view) for view in views]
        table = refined(table, token_ids, projection.views(embeddings), epochs=epochs, seed=seed)
    return static_encoder(f"static-{teacher.name}", table, vocabulary)


def static_encoder(name: str, table: Vectors, vocabulary: Sequence[str]) -> Encoder:
    """Make an encoder of word vectors, each kept in 8 bits and a power of two.

    Parameters
    ----------
    name : str
    table : ndarray of float32, shape (2 + len(vocabulary), dimension)
        The vectors of padding (zeros), of unknown words, then of the vocabulary.
    vocabulary : sequence of str
    """
    return _encoder(name, *_in_8_bits(table), word_tokenizer(vocabulary))


def write_static(encoder: Encoder, folder: Path) -> None:
    """Write a static encoder into a folder, so that a later stage can read it."""
    model = encoder.model
    with atomic_folder(folder) as new:
        (new / _TOKENIZER).write_text(encoder.tokenizer_json, "utf-8")
        np.savez(
            new / _TABLE,
            table=model.get_buffer("table").numpy(),
            powers=model.get_buffer("powers").numpy(),
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
            table, powers, name = content["table"], content["powers"], str(content["name"])
            stated = str(content["weights_sha256"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise TrainingError(
            f"{folder} holds no static encoder ({error}); distil it again"
        ) from error
    encoder = _encoder(name, table, powers, tokenizer_json)
    if encoder.weights_sha256 != stated:
        raise TrainingError(
            f"the static encoder in {folder} has sha256 {encoder.weights_sha256}, not the {stated} "
            "it was written with; distil it again"
        )
    return encoder


def _encoder(name: str, table: NDArray[np.int8], powers: Vectors, tokenizer_json: str) -> Encoder:
    content = table.tobytes() + powers.tobytes() + tokenizer_json.encode()
    weights, model = hashlib.sha256(content).hexdigest(), _model(table, powers)
    return Encoder(name, weights, model, tokenizer_json, table.shape[1], STATIC_MAX_TOKENS)


def _model(table: NDArray[np.int8], powers: Vectors) -> "torch.nn.Module":
    import torch

    class StaticModel(torch.nn.Module):
        table: torch.Tensor
        powers: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.from_numpy(table))
            self.register_buffer("powers", torch.from_numpy(powers))

        def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            ids = features["input_ids"]
            # As a product, which ONNX Runtime computes several times faster than a sum. The vector
            # of padding is zero. Its direction is that of the mean; without one it stays zero.
            total = (self.powers[ids].unsqueeze(1) @ self.table[ids].float()).squeeze(1)
            length = total.norm(dim=1, keepdim=True).clamp(min=_SMALLEST_LENGTH)
            return {"sentence_embedding": total / length}

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


def _in_8_bits(table: Vectors) -> tuple[NDArray[np.int8], Vectors]:
    """Return vectors in the same proportions as whole numbers, and the power of two of each word.

    The sum of a view's words is a whole number that float32 holds exactly, so it is the same in
    whatever order a processor or a library adds them up.
    """
    largest = np.abs(table).max(axis=1)
    steps = table * (_LARGEST * 2.0**_MOST_DOUBLINGS / max(largest.max(), _SMALLEST_LENGTH))
    needed = np.abs(steps).max(axis=1, initial=0) / _LARGEST
    doublings = np.clip(np.ceil(np.log2(np.maximum(needed, 1))), 0, _MOST_DOUBLINGS)
    powers = np.exp2(doublings).astype(np.float32)
    return np.rint(steps / powers[:, np.newaxis]).astype(np.int8), powers


def _smooth_inverse_frequency(vocabulary: Sequence[str], counts: Counter[str]) -> Vectors:
    shares = np.array([[counts[word]] for word in vocabulary]) / counts.total()
    return np.asarray(_SMOOTHING / (_SMOOTHING + shares), dtype=np.float32)
