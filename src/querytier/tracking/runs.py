"""How a run came to its end: told in words, and by SIGTERM in order."""

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from querytier.errors import QuerytierError

__all__ = ["terminable", "why_ended"]


def why_ended(error: BaseException) -> str:
    """Say why a run ended; a foreign message may quote a query, so its place stands for it."""
    if isinstance(error, QuerytierError | OSError):
        return str(error)
    if type(error) in _INTERRUPTIONS:
        return _INTERRUPTIONS[type(error)]
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__} in {Path(frame.f_code.co_filename).name}, line {line}"


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM unwind the block, as an interruption from the keyboard does.

    Left as it is outside the main thread, and where the process has an answer of its own.
    """
    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Terminated(SystemExit):
    """SIGTERM; uncaught, the process ends with the exit code that shells give for it."""


_INTERRUPTIONS: dict[type[BaseException], str] = {
    KeyboardInterrupt: "interrupted from the keyboard",
    _Terminated: "terminated by SIGTERM",
}


def _terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise _Terminated(128 + number)
