"""`model.onnx` as a file: its permitted contents, its metadata, and its hash without metadata.

The onnx package is not installed on a router. A graph is a protocol buffer
(https://protobuf.dev/programming-guides/encoding), so it is read here by the field numbers of
ONNX's own `onnx.proto`.
"""

import hashlib
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from querytier.errors import ArtifactError

__all__ = [
    "DOMAINS",
    "MAX_GRAPH_BYTES",
    "check_graph",
    "graph_sha256",
    "length_prefixed",
    "read_metadata",
    "write_metadata",
]

# Every ONNX Runtime ships these. Any other domain needs a library that the graph would load.
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
MAX_GRAPH_BYTES = 1 << 30

Field = tuple[int, int, int, int]
Span = tuple[int, int, tuple[str, str] | None]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# The messages inside each kind of message, by field number.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    # An attribute may hold whole graphs (If, Loop), which may hold any message.
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse tensor",
        23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_MODEL_FUNCTIONS, _MODEL_METADATA = 25, 14
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_KEY, _VALUE = 1, 2
# Runs of the floats, integers and short strings that an attribute lists. Trees have hundreds of
# thousands of them, too many for a loop over single fields at every load: one match skips a run.
_STRINGS = b"|".join(re.escape(bytes([n])) + rb"[\s\S]{%d}" % n for n in range(32))
_LISTED = re.compile(rb"(?:\x3d[\s\S]{4}|\x40[\x80-\xff]*[\x00-\x7f]|\x4a(?:" + _STRINGS + rb"))++")


def check_graph(path: Path) -> None:
    """Check a graph before anything runs it.

    Raises
    ------
    ArtifactError
        If it is larger than `MAX_GRAPH_BYTES`, is not an ONNX graph, has an operator of a domain
        that is not in `DOMAINS`, defines functions, or keeps weights in other files.
    """
    size = path.stat().st_size
    if not 0 < size <= MAX_GRAPH_BYTES:
        raise ArtifactError(
            f"{path} has {size:,} bytes; a graph has 1 to {MAX_GRAPH_BYTES:,}: distil or quantise "
            "the encoder"
        )
    with _opened(path) as content:
        _check(content, path, "model", 0, size)


def graph_sha256(path: Path) -> str:
    """Return the sha256 of a graph without its metadata, in hexadecimal digits.

    A certificate states the hash of the graph it was granted for, and is itself part of the graph's
    metadata: so the hash leaves out the fields `metadata_props` of the model, and nothing else.

    Raises
    ------
    ArtifactError
        If the file is not a graph.
    """
    digest = hashlib.sha256()
    with _opened(path) as content, memoryview(content) as view:
        for start, end, entry in _spans(content):
            if entry is None:
                digest.update(view[start:end])
    return digest.hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """Return a graph's metadata; errors as in `graph_sha256`."""
    with _opened(path) as content:
        return dict(entry for _, _, entry in _spans(content) if entry is not None)


def write_metadata(path: Path, key: str, value: str) -> None:
    """Set one entry of a graph's metadata; all other bytes stay the same."""
    with _opened(path) as content:
        parts = [
            content[start:end]
            for start, end, entry in _spans(content)
            if entry is None or entry[0] != key
        ]
    entry = length_prefixed(_KEY, key.encode()) + length_prefixed(_VALUE, value.encode())
    path.write_bytes(b"".join([*parts, length_prefixed(_MODEL_METADATA, entry)]))


def length_prefixed(number: int, content: bytes) -> bytes:
    """Return a field that holds bytes, text or a message.

    Examples
    --------
    >>> list(length_prefixed(14, b"abc"))
    [114, 3, 97, 98, 99]
    """
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(content)) + content


@contextmanager
def _opened(path: Path) -> Iterator[mmap.mmap]:
    """Map a graph into memory; raise ArtifactError if it cannot be read as one."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            yield content
        except (IndexError, RecursionError) as error:
            raise ArtifactError(
                f"{path} is not an ONNX graph, or was cut short; copy the artifact again from its "
                "source"
            ) from error


def _check(content: mmap.mmap, path: Path, kind: str, start: int, end: int) -> None:
    """Check a message of the graph file, and all messages inside it."""
    numbers, texts = set(), {_NODE_OPERATOR: "", _NODE_DOMAIN: ""}
    for number, wire_type, first, last in _fields(content, start, end):
        numbers.add(number)
        if wire_type == _BYTES and number in _INSIDE[kind]:
            _check(content, path, _INSIDE[kind][number], first, last)
        elif kind == "node" and number in texts:
            texts[number] = content[first:last].decode("utf-8", "replace")
        elif kind == "tensor" and (
            number == _TENSOR_EXTERNAL_DATA
            or (number == _TENSOR_DATA_LOCATION and wire_type == _VARINT and content[first])
        ):
            # A location may be any path on the machine that loads the graph.
            raise ArtifactError(
                f"{path} keeps weights in other files; save it without external data"
            )
    if kind == "model" and _MODEL_FUNCTIONS in numbers:
        raise ArtifactError(f"{path} defines functions; export it without them")
    if kind == "model" and not numbers & set(_INSIDE[kind]):
        raise IndexError
    if texts[_NODE_DOMAIN] not in DOMAINS:
        operator = f"{texts[_NODE_DOMAIN]}.{texts[_NODE_OPERATOR]}"
        raise ArtifactError(
            f"{path} has the operator {operator}; an artifact is made of operators of "
            f"{', '.join(sorted(DOMAINS - {''}))}, which every ONNX Runtime ships"
        )


def _spans(content: mmap.mmap) -> Iterator[Span]:
    """Yield start and end of each field of a model, and the entry if the field is metadata.

    Unlike `_fields` this skips nothing: every byte of the file belongs to exactly one span.
    """
    at = 0
    while at < len(content):
        number, wire_type, first, last = _field_at(content, at, len(content))
        is_entry = number == _MODEL_METADATA and wire_type == _BYTES
        yield at, last, _entry(content, first, last) if is_entry else None
        at = last


def _entry(content: mmap.mmap, start: int, end: int) -> tuple[str, str]:
    texts = {number: content[first:last] for number, _, first, last in _fields(content, start, end)}
    key, value = texts.get(_KEY, b""), texts.get(_VALUE, b"")
    return key.decode("utf-8", "replace"), value.decode("utf-8", "replace")


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[Field]:
    """Yield number, wire type, start and end of a message's fields, without runs of listed values.

    Raises
    ------
    IndexError
        If it is not a message, or was cut short.
    """
    at = start
    while at < end:
        run = _LISTED.match(content, at, end)
        if run:
            at = run.end()
            continue
        field = _field_at(content, at, end)
        yield field
        at = field[-1]


def _field_at(content: mmap.mmap, at: int, end: int) -> Field:
    tag, first = _varint(content, at)
    wire_type = tag & 7
    if wire_type == _BYTES:
        length, first = _varint(content, first)
        last = first + length
    elif wire_type == _VARINT:
        _, last = _varint(content, first)
    elif wire_type in (_FIXED64, _FIXED32):
        last = first + (8 if wire_type == _FIXED64 else 4)
    else:
        raise IndexError
    if last > end:
        raise IndexError
    return tag >> 3, wire_type, first, last


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    """Return the number that starts here, and where the next field starts."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise IndexError


def _as_varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
