"""The file of a watch over a certificate: events are appended, and each is read back once."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from querytier.serve.log.log_file import LogFile

__all__ = ["AuditJournal"]

_log = logging.getLogger(__name__)


class AuditJournal:
    """Appends events to a file that processes may share, and reads what all of them appended.

    What a file system does never raises here: it is counted, and said once. Not safe for threads.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    failed : int
        Lines, or attempts to read them, that failed.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._read = path, LogFile(path), 0
        self.failed = 0

    def write(self, line: Mapping[str, object]) -> None:
        """Append a line; where that fails, it is counted, and said once."""
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        try:
            self._file.append([text])
            if "withdrawn" in line:
                self._file.sync()
        except OSError:
            self._count_failure("written")

    def new_lines(self) -> Iterator[dict[str, Any]]:
        """Yield what was appended since the last time, by whichever process."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                content = file.read()
        except FileNotFoundError:
            return
        except OSError:
            self._count_failure("read")
            return
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        for text in whole.splitlines():
            yield from self._parsed(text)

    def _parsed(self, text: bytes) -> Iterator[dict[str, Any]]:
        try:
            line = json.loads(text)
            float(line["time"])
        except (ValueError, TypeError, KeyError):  # a machine that failed cut it short
            self._count_failure("understood")
            return
        yield line

    def _count_failure(self, what: str) -> None:
        self.failed += 1
        if self.failed == 1:
            _log.warning("%s: a line could not be %s", self._path, what, exc_info=True)
