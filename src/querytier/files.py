"""Write files completely or not at all, write JSON, and find the cache folder."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["atomic_file", "atomic_folder", "default_cache_folder", "stamp", "write_json"]


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a path next to `target`; its file replaces `target` if the block succeeds.

    Parameters
    ----------
    target : Path
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within one file system.
    scratch = target.with_name(f".{target.name}.partial")
    try:
        yield scratch
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` if the block succeeds, and is deleted if not.

    A folder that already exists at `target` stays as it is until then.

    Parameters
    ----------
    target : Path
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        new = scratch / "new"
        new.mkdir()
        yield new
        _swap(new, target, scratch / "old")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _swap(new: Path, target: Path, old: Path) -> None:
    if target.exists():
        target.rename(old)
    # A folder that is not empty cannot be replaced by one rename, so there are two; if the second
    # one fails, the first is undone.
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, completely or not at all.

    Parameters
    ----------
    path : Path
        Its folder is created if it is missing.
    content : mapping
        Must not contain infinity or NaN, which JSON does not have.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    # Python would write NaN, which JavaScript and most other readers refuse.
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as scratch:
        scratch.write_text(text + "\n", "utf-8")


def stamp() -> dict[str, str]:
    """Return the first two fields of our JSON files: version of querytier, and time in UTC."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"querytier": version("querytier"), "created": now}


def default_cache_folder() -> Path:
    """Return `$QUERYTIER_CACHE`, else `querytier` in `$XDG_CACHE_HOME`, else `~/.cache/querytier`.

    The folder holds embeddings (1.6 kB per text view for all-MiniLM-L6-v2: 22 MB for 14,000 views,
    1.6 GB for a million) and artifacts fetched from a registry. Nothing in it expires, and it can
    be deleted at any time: whatever is needed is computed or fetched again.
    """
    own = os.environ.get("QUERYTIER_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "querytier"
