"""The embedding cache: when a log has grown, only its new text views are encoded.

Embeddings are saved in chunks, files of `querytier.training.checked_files` that never change::

    CACHE/embeddings/ENCODER/NAME.embeddings

    rows       key (32 bytes), embedding (dimension times a little-endian float32)

A key is the SHA-256 of encoder and view, so no text is saved. An embedding still reveals something
of its text, so only the owner may enter the folder.
"""

import hashlib
import json
import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.encoder import Encoder
from querytier.files import default_cache_folder
from querytier.training.checked_files import read_checked, write_checked

__all__ = ["EmbeddingCache"]

Embeddings = NDArray[np.float32]

_MAGIC = b"qt-embed-v1\n"
_KEY_BYTES = 32
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmbeddingCache:
    """Embeddings by encoder and text view, saved between runs.

    Processes may share a folder. If two encode the same views at once, both save them, which costs
    disk space only.

    Parameters
    ----------
    folder : Path
    rows_per_chunk : int
        Number of views that are encoded and then saved, and the most that an interruption loses.
    """

    folder: Path = field(default_factory=default_cache_folder)
    rows_per_chunk: int = 1000

    def encode(
        self, encoder: Encoder, views: Sequence[str], *, progress: bool = True
    ) -> Embeddings:
        """Return the embeddings of text views; encode those that are not saved yet.

        An embedding may differ from `Encoder.encode`'s by rounding (about 1e-7), as the view may be
        in a batch of another size here.

        Parameters
        ----------
        encoder : Encoder
        views : sequence of str, length n
        progress : bool
            Whether to show a progress bar while encoding.

        Returns
        -------
        ndarray of float32, shape (n, dimension)
        """
        identity = _identity(encoder)
        keys = [_key(identity, view) for view in views]
        # In the order of the keys: batches are then the same whatever the order and number of the
        # views, and so is every bit of the result.
        view_of = dict(sorted(zip(keys, views, strict=True)))
        row_of = {key: row for row, key in enumerate(view_of)}
        chunks = _Chunks(self.folder / "embeddings" / identity.hex()[:16], encoder.dimension)
        embeddings = np.empty((len(row_of), encoder.dimension), dtype=np.float32)
        for key, embedding in chunks.rows():
            if view_of.pop(key, None) is not None:
                embeddings[row_of[key]] = embedding
        for new_keys, new in self._encode_chunks(encoder, view_of, progress):
            chunks.write(new_keys, new)
            embeddings[[row_of[key] for key in new_keys]] = new
        return embeddings[[row_of[key] for key in keys]]

    def _encode_chunks(
        self, encoder: Encoder, view_of: dict[bytes, str], progress: bool
    ) -> Iterator[tuple[list[bytes], Embeddings]]:
        from tqdm import tqdm

        keys = list(view_of)
        hidden = None if progress and keys else True  # None shows it on terminals only
        with tqdm(total=len(keys), desc="encode", unit="query", disable=hidden) as bar:
            for start in range(0, len(keys), self.rows_per_chunk):
                chunk = keys[start : start + self.rows_per_chunk]
                yield chunk, encoder.encode([view_of[key] for key in chunk])
                bar.update(len(chunk))


@dataclass(frozen=True, slots=True)
class _Chunks:
    """The chunks of one encoder."""

    folder: Path
    dimension: int

    def rows(self) -> Iterator[tuple[bytes, Embeddings]]:
        """Yield key and embedding of every row, with one chunk in memory at a time."""
        for path in sorted(self.folder.glob("*.embeddings")):
            rows = self._read(path)
            if rows is None:
                _log.warning(
                    "%s is damaged or holds no embeddings; its views are encoded again: delete the "
                    "file",
                    path,
                )
                continue
            for key, embedding in zip(rows["key"], rows["embedding"], strict=True):
                yield key.tobytes(), embedding

    def write(self, keys: Sequence[bytes], embeddings: Embeddings) -> None:
        """Write a chunk; if that fails, log a warning and continue without it."""
        rows = np.empty(len(keys), self._row)
        rows["key"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, _KEY_BYTES)
        rows["embedding"] = embeddings
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self.folder / f"{uuid.uuid4().hex}.embeddings"
            write_checked(path, _MAGIC, rows.tobytes())
        except OSError as error:
            _log.warning(
                "cannot save embeddings for the next run: %s; set QUERYTIER_CACHE to a folder that "
                "can be written",
                error,
            )

    def _read(self, path: Path) -> NDArray[np.void] | None:
        try:
            content = read_checked(path, _MAGIC)
        except OSError:
            return None
        if content is None or len(content) % self._row.itemsize:
            return None
        return np.frombuffer(content, self._row)

    @property
    def _row(self) -> np.dtype[np.void]:
        return np.dtype([("key", np.uint8, _KEY_BYTES), ("embedding", "<f4", self.dimension)])


def _identity(encoder: Encoder) -> bytes:
    """Return the hash of everything but the view that an embedding depends on."""
    tokenizer = encoder.tokenizer
    parts = [
        encoder.name,
        encoder.weights_sha256,
        encoder.dimension,
        tokenizer.json,
        tokenizer.max_tokens,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def _key(identity: bytes, view: str) -> bytes:
    return hashlib.sha256(identity + view.encode("utf-8", "surrogatepass")).digest()
