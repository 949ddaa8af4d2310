"""Embeddings kept between runs: of a log that grew, only the new text views are encoded.

They lie in chunks, each a file that appears complete and is never written again::

    CACHE/embeddings/ENCODER/NAME.embeddings

    12 bytes   what the file is
    32 bytes   sha256 of all that follows
    rows       key (32 bytes), embedding (dimension times a little-endian float32)

A key is the sha256 of encoder and view: no text is kept. As an embedding still tells something of
its text, only the owner may enter the folder.
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
from querytier.files import atomic_file, default_cache_folder

__all__ = ["EmbeddingCache"]

Embeddings = NDArray[np.float32]

_MAGIC = b"qt-embed-v1\n"
_KEY_BYTES = 32
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmbeddingCache:
    """Embeddings by content: by what the encoder is and what the view says.

    Processes may share a folder. Two that encode the same views at once both keep them; that costs
    space only.

    Parameters
    ----------
    folder : Path
    rows_per_chunk : int
        Views that are encoded, then kept; the most that an interruption loses.
    """

    folder: Path = field(default_factory=default_cache_folder)
    rows_per_chunk: int = 1000

    def encode(
        self, encoder: Encoder, views: Sequence[str], *, progress: bool = True
    ) -> Embeddings:
        """Return the embeddings of text views; those not kept yet are encoded, chunk by chunk.

        Views are encoded in the order of their keys: the order and the number in which they come
        do not change a bit of the result. An embedding differs from `Encoder.encode`'s by rounding
        (about 1e-7) where that put the view into a batch of another size.

        Parameters
        ----------
        encoder : Encoder
        views : sequence of str, length n
        progress : bool
            Whether to show a progress bar over what has to be encoded.

        Returns
        -------
        ndarray of float32, shape (n, dimension)
        """
        identity = _identity(encoder)
        keys = [_key(identity, view) for view in views]
        view_of = dict(sorted(zip(keys, views, strict=True)))
        row_of = {key: row for row, key in enumerate(view_of)}
        chunks = _Chunks(self.folder / "embeddings" / identity.hex()[:16], encoder.dimension)
        embeddings = np.empty((len(row_of), encoder.dimension), dtype=np.float32)
        for key, embedding in chunks.kept():
            if view_of.pop(key, None) is not None:
                embeddings[row_of[key]] = embedding
        for new_keys, new in self._encoded(encoder, view_of, progress):
            chunks.keep(new_keys, new)
            embeddings[[row_of[key] for key in new_keys]] = new
        return embeddings[[row_of[key] for key in keys]]

    def _encoded(
        self, encoder: Encoder, view_of: dict[bytes, str], progress: bool
    ) -> Iterator[tuple[list[bytes], Embeddings]]:
        from tqdm import tqdm

        keys = list(view_of)
        hidden = None if progress and keys else True  # None shows it on terminals only
        with tqdm(total=len(keys), desc="encode", unit="query", disable=hidden) as bar:
            for start in range(0, len(keys), self.rows_per_chunk):
                chunk = keys[start : start + self.rows_per_chunk]
                yield chunk, encoder.encode([view_of[key] for key in chunk], progress=False)
                bar.update(len(chunk))


@dataclass(frozen=True, slots=True)
class _Chunks:
    """The chunks of one encoder."""

    folder: Path
    dimension: int

    def kept(self) -> Iterator[tuple[bytes, Embeddings]]:
        """Yield key and embedding of every row, one chunk in memory at a time."""
        for path in sorted(self.folder.glob("*.embeddings")):
            rows = self._read(path)
            if rows is None:
                _log.warning(
                    "%s holds no embeddings, or was damaged; its views are encoded again: "
                    "delete the file",
                    path,
                )
                continue
            for key, embedding in zip(rows["key"], rows["embedding"], strict=True):
                yield key.tobytes(), embedding

    def keep(self, keys: Sequence[bytes], embeddings: Embeddings) -> None:
        """Write a chunk; where the disk does not take it, say so and go on without."""
        rows = np.empty(len(keys), self._row)
        rows["key"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, _KEY_BYTES)
        rows["embedding"] = embeddings
        content = rows.tobytes()
        path = self.folder / f"{uuid.uuid4().hex}.embeddings"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic_file(path) as scratch:
                scratch.write_bytes(_MAGIC + hashlib.sha256(content).digest() + content)
        except OSError as error:
            _log.warning(
                "embeddings are not kept for the next run: %s; set QUERYTIER_CACHE to a folder "
                "that can be written",
                error,
            )

    def _read(self, path: Path) -> NDArray[np.void] | None:
        try:
            with path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    return None
                digest, content = file.read(hashlib.sha256().digest_size), file.read()
        except OSError:
            return None
        whole = len(content) % self._row.itemsize == 0
        if not whole or hashlib.sha256(content).digest() != digest:
            return None
        return np.frombuffer(content, self._row)

    @property
    def _row(self) -> np.dtype[np.void]:
        return np.dtype([("key", np.uint8, _KEY_BYTES), ("embedding", "<f4", self.dimension)])


def _identity(encoder: Encoder) -> bytes:
    """Return the hash of all that an embedding depends on, but the view."""
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
