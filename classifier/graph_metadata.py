"""What a graph says of itself, and the hash of the rest, which that does not change."""

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path

from querytier.classifier.protobuf import BYTES, Content, field_at, fields, length_prefixed
from querytier.errors import ArtifactError

__all__ = ["graph_sha256", "read_metadata", "write_metadata"]

# Field numbers of ONNX's `ModelProto` and `StringStringEntryProto`.
_METADATA, _KEY, _VALUE = 14, 1, 2

Span = tuple[int, int, tuple[str, str] | None]


def graph_sha256(path: Path) -> str:
    """Return the sha256 of a graph without its metadata, in hexadecimal digits.

    It is that of the file's bytes without the fields `metadata_props` of the model.

    Raises
    ------
    ArtifactError
        If the file is no graph.
    """
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
    ):
        for start, end, entry in _spans(content, path):
            if entry is None:
                digest.update(view[start:end])
    return digest.hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """Return a graph's metadata; errors as in `graph_sha256`."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return dict(entry for _, _, entry in _spans(content, path) if entry is not None)


def write_metadata(path: Path, key: str, value: str) -> None:
    """Write an entry of a graph's metadata in place of one of that key; the rest stays as it is."""
    content = path.read_bytes()
    kept = [
        content[start:end]
        for start, end, entry in _spans(content, path)
        if entry is None or entry[0] != key
    ]
    entry = length_prefixed(_KEY, key.encode()) + length_prefixed(_VALUE, value.encode())
    path.write_bytes(b"".join([*kept, length_prefixed(_METADATA, entry)]))


def _spans(content: Content, path: Path) -> Iterator[Span]:
    """Yield where the fields of a model start and end, and the entry where one is of metadata.

    Every byte is in one of them: none is passed over, whatever field it belongs to.
    """
    at = 0
    try:
        while at < len(content):
            number, kind, first, last = field_at(content, at, len(content))
            is_entry = number == _METADATA and kind == BYTES
            yield at, last, _entry(content, first, last) if is_entry else None
            at = last
    except IndexError as error:
        raise ArtifactError(
            f"{path} is not an ONNX graph, or was cut short; copy the artifact again from its "
            "source"
        ) from error


def _entry(content: Content, start: int, end: int) -> tuple[str, str]:
    texts = {number: content[first:last] for number, _, first, last in fields(content, start, end)}
    key, value = texts.get(_KEY, b""), texts.get(_VALUE, b"")
    return key.decode("utf-8", "replace"), value.decode("utf-8", "replace")
