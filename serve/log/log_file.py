"""A file of lines that several processes may append to, and that is rotated by size and age."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import accumulate, count
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["LogFile", "utc_text"]

# Owner and group only: the logs contain what people asked.
_MODE = 0o640


class LogFile:
    """Appends lines to a file, and begins a new file when the current one is large or old.

    Closed files are called `NAME-TIME-N.jsonl`; no file is ever overwritten. Processes may share it
    on a local file system, where a lock on the folder keeps them apart (Windows has no such lock:
    one process only). If the file is moved or deleted, the next line begins a new one. If a line
    was cut short (the disk was full, or the machine failed), the next line begins on a new one, so
    that a reader loses that line only. Not thread-safe.

    Parameters
    ----------
    path : Path
    max_bytes : int, optional
        Largest size of a file; a longer line gets a file of its own.
    max_age_s : float, optional
        Largest age in seconds, counted from the time of the first line.
    keep : int, optional
        Number of closed files to keep; the oldest are deleted first.
    clock : callable
        Returns the seconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int | None = None,
        max_age_s: float | None = None,
        keep: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._clock = path, clock
        self._max_bytes, self._max_age_s, self._keep = max_bytes, max_age_s, keep
        self._closed_name = re.compile(
            rf"{re.escape(path.stem)}-(\d{{8}}T\d{{6}}Z)-(\d+){re.escape(path.suffix)}"
        )
        self._file: int | None = None
        self._since = 0.0
        self._unsynced = False

    def append(self, lines: Sequence[bytes]) -> int:
        """Write lines, each with its line end; return how many of them are complete in the file.

        It is fewer than all if the file would grow too large or the disk is full: call again with
        the rest.

        Raises
        ------
        OSError
            If nothing could be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # The lock is taken for each append, not once: every process must look again whether another
        # one has rotated the file in the meantime.
        with _locked(self._path.parent) as folder:
            file = self._open(folder)
            if _size(file) and (self._is_old() or not self._count_that_fit(file, lines[:1])):
                self._rotate(folder)
                file = self._open(folder)
            return self._write(file, lines[: self._count_that_fit(file, lines) or 1])

    def sync(self) -> None:
        """Force the written lines to disk.

        Raises
        ------
        OSError
        """
        if self._file is not None and self._unsynced:
            os.fsync(self._file)
            self._unsynced = False

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self, folder: int | None) -> int:
        if self._file is not None and not self._is_current(self._file):
            with suppress(OSError):
                self.sync()
            self.close()
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, _MODE)
            self._unsynced = True
            self._since = self._time_of_first_line(self._file)
            _sync(folder)
        return self._file

    def _is_current(self, file: int) -> bool:
        # By inode, not by name: after a rotation by another process the name is a new file.
        try:
            return os.path.samestat(self._path.stat(), os.fstat(file))
        except FileNotFoundError:
            return False

    def _is_old(self) -> bool:
        return self._max_age_s is not None and self._clock() - self._since >= self._max_age_s

    def _count_that_fit(self, file: int, lines: Sequence[bytes]) -> int:
        """Return how many of the lines the file has room for."""
        if self._max_bytes is None:
            return len(lines)
        room = self._max_bytes - _size(file) - len(_missing_line_end(file))
        return sum(end <= room for end in accumulate(map(len, lines)))

    def _write(self, file: int, lines: Sequence[bytes]) -> int:
        end = _missing_line_end(file)
        content = end + b"".join(lines)
        if not _size(file):
            self._since = self._clock()
        self._unsynced = True
        # `os.write` may write a part of it when space runs out, without an error.
        written = content[: os.write(file, content)]
        return max(written.count(b"\n") - len(end), 0)

    def _rotate(self, folder: int | None) -> None:
        """Close the file under a name of its own."""
        self.sync()
        self.close()
        self._path.rename(self._free_name())
        _sync(folder)
        if self._keep is not None:
            for path in self._closed_files()[: -self._keep]:
                path.unlink(missing_ok=True)

    def _free_name(self) -> Path:
        at = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%dT%H%M%SZ")
        names = (f"{self._path.stem}-{at}-{number}{self._path.suffix}" for number in count(1))
        return next(path for path in map(self._path.with_name, names) if not path.exists())

    def _closed_files(self) -> list[Path]:
        """Return the closed files, the oldest first."""
        found = [
            (match[1], int(match[2]), path)
            for path in self._path.parent.iterdir()
            if (match := self._closed_name.fullmatch(path.name))
        ]
        return [path for _, _, path in sorted(found)]

    def _time_of_first_line(self, file: int) -> float:
        """Return when the file was begun, or its last change if its first line has no time."""
        if not _size(file):
            return self._clock()
        os.lseek(file, 0, os.SEEK_SET)
        with os.fdopen(os.dup(file), "rb") as content:
            first = content.readline()
        try:
            return datetime.fromisoformat(json.loads(first)["time"]).timestamp()
        except (ValueError, TypeError, KeyError, RecursionError):
            return os.fstat(file).st_mtime


def utc_text(seconds: float) -> str:
    """Return a time in UTC, ISO 8601 with milliseconds.

    Examples
    --------
    >>> utc_text(1_935_900_000.25)
    '2031-05-07T06:00:00.250Z'
    """
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _size(file: int) -> int:
    return os.fstat(file).st_size


def _missing_line_end(file: int) -> bytes:
    """Return a line end if the last line was cut short, else nothing."""
    if not os.lseek(file, 0, os.SEEK_END):
        return b""
    os.lseek(file, -1, os.SEEK_END)
    return b"" if os.read(file, 1) == b"\n" else b"\n"


@contextmanager
def _locked(folder: Path) -> Iterator[int | None]:
    """Keep other processes from appending; yield the open folder, or None on Windows."""
    if sys.platform == "win32":
        yield None
        return
    # The folder is locked and not the file, because a rotation replaces the file.
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # on a file system without locks, only one process may write
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield opened
    finally:
        os.close(opened)


def _sync(folder: int | None) -> None:
    """Force the names in a folder to disk: otherwise a crash may lose a whole new file."""
    if folder is not None:
        os.fsync(folder)
