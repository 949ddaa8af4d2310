"""Files with a checksum: a damaged or half-written file is never mistaken for a whole one.

A file holds a magic number, the SHA-256 of the content (32 bytes), and the content.
"""

import hashlib
import uuid
from pathlib import Path

__all__ = ["read_checked", "write_checked"]


def read_checked(path: Path, magic: bytes) -> bytes | None:
    """Return the content of a file, or None if it is damaged or of another kind.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        # The magic number comes first, so that a large file of another kind is not read.
        if file.read(len(magic)) != magic:
            return None
        digest, content = file.read(hashlib.sha256().digest_size), file.read()
    return content if hashlib.sha256(content).digest() == digest else None


def write_checked(path: Path, magic: bytes, content: bytes) -> None:
    """Write a file, complete or not at all; `read_checked` returns its content.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    # Not `atomic_file`: it derives the temporary name from the target, and two processes may
    # write the same target at once.
    scratch = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        scratch.write_bytes(magic + hashlib.sha256(content).digest() + content)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
