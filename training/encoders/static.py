"""The static encoder: one vector for each word, distilled from a sentence encoder, the teacher.

The embedding of a query is the direction of the sum of its words' vectors. There is no attention,
so a decision takes microseconds. The teacher encodes every word of the vocabulary on its own (as in
Model2Vec); PCA shortens the vectors; smooth inverse frequency weights them (Arora et al. 2017);
then they are refined until embeddings of the log's queries point in the teacher's directions.

The tokenisation is that of `querytier.classifier.model.words`, which is part of the graph.
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
from querytier.data.arrays import Vectors
from querytier.data.text_view import CUT_MARK, MAX_CHARACTERS
from querytier.errors import TrainingError
from querytier.files import atomic_folder
from querytier.training.encoders.word_vectors import refine, word_projection

if TYPE_CHECKING:
    import torch

__all__ = [
    "STATIC_MAX_TOKENS",
    "distil",
    "read_static",
    "static_encoder",
    "write_static",
]


# The largest number of tokens of a text view: tokens cost almost nothing here, so none is cut.
STATIC_MAX_TOKENS = MAX_CHARACTERS + len(CUT_MARK)
_SMOOTHING = 1e-3
_SMALLEST_LENGTH = 1e-12
_LARGEST = 127
# 127 * 2**5, summed over the words of the longest view, stays below 2**24: exact in float32.
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
    """Distil a static encoder from a teacher on the text views of the training split.

    The same seed gives the same encoder on one machine and one thread.

    Parameters
    ----------
    teacher : Encoder
    views : sequence of str, length n
        Text views of queries; labels are not used.
    words : int
        Largest size of the vocabulary: words that occur at least twice in the views, the most
        frequent first, then whole words of the teacher's own vocabulary.
    dimension : int
        Length of a vector, at most the teacher's.
    seed : int
        Draws the held-out views and the batches of the refinement.
    embeddings : ndarray of float32, shape (n, teacher.dimension), optional
        The teacher's embeddings of the views, if they are known already.
    epochs : int
        Largest number of passes over the views; with 0 the vectors are not refined.

    Returns
    -------
    Encoder

    Raises
    ------
    ValueError
        If the teacher's embeddings are shorter than `dimension`, or their number differs from the
        number of views.
    TrainingError
        If there are fewer than 10 views.
    """
    if dimension > teacher.dimension:
        raise ValueError(f"dimension {dimension} is more than the teacher's {teacher.dimension}")
    if len(views) < 10:
        raise TrainingError(
            f"{len(views)} text views are too few to distil on; give at least 10, better thousands"
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
    word_embeddings = teacher.encode(vocabulary)
    projection = word_projection(word_embeddings, embeddings, dimension)
    vectors = projection.words(word_embeddings) * _smooth_inverse_frequency(vocabulary, counts)
    table = np.pad(vectors, ((len(RESERVED), 0), (0, 0)))
    if epochs:
        # Raises the correlation with the teacher's similarities from 0.33 to 0.63, but not a
        # classifier's AUROC (0.615 on 5,000 rows of MMLU; 0.620 with the teacher).
        tokenizer = ViewTokenizer(word_tokenizer(vocabulary), STATIC_MAX_TOKENS)
        token_ids = [tokenizer.token_ids(view) for view in views]
        table = refine(table, token_ids, projection.views(embeddings), epochs=epochs, seed=seed)
    return static_encoder(f"static-{teacher.name}", table, vocabulary)


def static_encoder(name: str, table: Vectors, vocabulary: Sequence[str]) -> Encoder:
    """Make an encoder from word vectors, stored in 8 bits with a power of two for each word.

    Parameters
    ----------
    name : str
    table : ndarray of float32, shape (2 + len(vocabulary), dimension)
        The vectors of padding (zeros), of unknown words, then of the vocabulary.
    vocabulary : sequence of str
    """
    return _encoder(name, *_in_8_bits(table), word_tokenizer(vocabulary))


def write_static(encoder: Encoder, folder: Path) -> None:
    """Write a static encoder into a folder, complete or not at all."""
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
    """Return the encoder that `write_static` wrote.

    Raises
    ------
    TrainingError
        If the folder holds no static encoder, or the encoder has changed.
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
            f"the static encoder in {folder} has sha256 {encoder.weights_sha256}, but was written "
            f"with {stated}; distil it again"
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
            # A product, as ONNX Runtime sums 130 vectors in 13 us by MatMul and in 57 us by
            # ReduceSum. The vector of padding is zero. A sum of zero stays zero.
            total = (self.powers[ids].unsqueeze(1) @ self.table[ids].float()).squeeze(1)
            length = total.norm(dim=1, keepdim=True).clamp(min=_SMALLEST_LENGTH)
            return {"sentence_embedding": total / length}

    return StaticModel().eval()


def _vocabulary(counts: Counter[str], teacher_tokenizer: str, words: int) -> list[str]:
    frequent = sorted((word for word in counts if counts[word] > 1), key=lambda w: (-counts[w], w))
    # BERT's vocabulary starts with a thousand letters and signs of many scripts: these come last.
    whole = sorted(_whole_words(teacher_tokenizer), key=lambda w: len(w) == 1 and not w.isascii())
    known = dict.fromkeys([*frequent, *whole])
    return list(known)[:words]


def _whole_words(tokenizer_json: str) -> list[str]:
    """Return the words that are one token of a tokenizer, in the order of their ids."""
    model = json.loads(tokenizer_json)["model"]
    if isinstance(model["vocab"], list):
        pieces = [piece for piece, _ in model["vocab"]]
    else:
        pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if model.get("type") in {"BPE", "Unigram"}:
        pieces = [piece[1:] for piece in pieces if piece.startswith(("\u0120", "\u2581"))]
    # `words_of` splits special tokens and pieces inside a word ("##ing") into several words.
    return [words[0] for words in map(words_of, pieces) if len(words) == 1]


def _in_8_bits(table: Vectors) -> tuple[NDArray[np.int8], Vectors]:
    """Return the vectors as integers of 8 bits, up to a common factor, and powers of two."""
    # Sums over a view are then integers that float32 represents exactly, so they do not depend on
    # the order in which a processor or a library adds.
    largest = np.abs(table).max(axis=1)
    steps = table * (_LARGEST * 2.0**_MOST_DOUBLINGS / max(largest.max(), _SMALLEST_LENGTH))
    needed = np.abs(steps).max(axis=1, initial=0) / _LARGEST
    doublings = np.clip(np.ceil(np.log2(np.maximum(needed, 1))), 0, _MOST_DOUBLINGS)
    powers = np.exp2(doublings).astype(np.float32)
    return np.rint(steps / powers[:, np.newaxis]).astype(np.int8), powers


def _smooth_inverse_frequency(vocabulary: Sequence[str], counts: Counter[str]) -> Vectors:
    shares = np.array([[counts[word]] for word in vocabulary]) / counts.total()
    return np.asarray(_SMOOTHING / (_SMOOTHING + shares), dtype=np.float32)
