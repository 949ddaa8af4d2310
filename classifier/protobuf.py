"""Protocol buffers without their library, which is not there in the path of a request.

See https://protobuf.dev/programming-guides/encoding.
"""

import mmap
import re
from collections.abc import Iterator

__all__ = ["BYTES", "VARINT", "Content", "Field", "field_at", "fields", "length_prefixed"]

Content = mmap.mmap | bytes
Field = tuple[int, int, int, int]

VARINT, BYTES = 0, 2
_FIXED64, _FIXED32 = 1, 5
# Runs of what attributes list, floats, ints and short strings: trees have hundreds of thousands.
_STRINGS = b"|".join(re.escape(bytes([n])) + rb"[\s\S]{%d}" % n for n in range(32))
_LISTED = re.compile(rb"(?:\x3d[\s\S]{4}|\x40[\x80-\xff]*[\x00-\x7f]|\x4a(?:" + _STRINGS + rb"))++")


def fields(content: Content, start: int, end: int) -> Iterator[Field]:
    """Yield number, wire type, and where the content starts and ends, of a message's fields.

    Runs of listed numbers and short strings are passed over.

    Raises
    ------
    IndexError
        If it is no message, or was cut short.
    """
    at = start
    while at < end:
        run = _LISTED.match(content, at, end)
        if run:
            at = run.end()
            continue
        field = field_at(content, at, end)
        yield field
        at = field[-1]


def field_at(content: Content, at: int, end: int) -> Field:
    """Return the field that starts at `at`, as `fields` yields it; errors are the same."""
    tag, first = _varint(content, at)
    number, kind = tag >> 3, tag & 7
    last = _end_of(content, kind, first)
    if kind == BYTES:
        length, first = _varint(content, first)
        last = first + length
    if last > end:
        raise IndexError
    return number, kind, first, last


def length_prefixed(number: int, content: bytes) -> bytes:
    """Return a field of bytes, or of a message.

    Examples
    --------
    >>> field = length_prefixed(14, b"abc")
    >>> list(fields(field, 0, len(field)))
    [(14, 2, 2, 5)]
    """
    return _as_varint(number << 3 | BYTES) + _as_varint(len(content)) + content


def _end_of(content: Content, kind: int, start: int) -> int:
    if kind in (VARINT, BYTES):
        return _varint(content, start)[1]
    if kind in (_FIXED64, _FIXED32):
        return start + (8 if kind == _FIXED64 else 4)
    raise IndexError


def _varint(content: Content, at: int) -> tuple[int, int]:
    """Return the number that starts here, and where the next field does."""
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
