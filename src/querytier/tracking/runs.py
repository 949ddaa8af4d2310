"""A run in MLflow: the reference that stages pass on, and how the run ends.

The reference is `run.json` in a run's folder: train starts the run, export and evaluate reopen it.
"""

import json
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from querytier.errors import QuerytierError
from querytier.files import write_json

__all__ = ["RunReference", "failure_reason", "sigterm_unwinds"]


@dataclass(frozen=True, slots=True)
class RunReference:
    """The store, experiment and id of a run.

    Attributes
    ----------
    tracking_uri, experiment_id, run_id : str
    """

    tracking_uri: str
    experiment_id: str
    run_id: str

    def write(self, path: Path) -> None:
        """Write the reference as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "RunReference":
        """Read a reference that `write` wrote."""
        return cls(**json.loads(path.read_text("utf-8")))


def failure_reason(error: BaseException) -> str:
    """Return why a run ended.

    Messages of our own errors and of the operating system are returned as they are. Any other
    message may quote a query, which must not leave the machine through the tracking server, so only
    the exception's type and place in the code are returned.
    """
    if isinstance(error, QuerytierError | OSError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted from the keyboard"
    if isinstance(error, _Terminated):
        return "terminated by SIGTERM"
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__} in {Path(frame.f_code.co_filename).name}, line {line}"


@contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """Turn SIGTERM into an exception within the block, so that `finally` and `except` run.

    Without this, a container that is stopped leaves its MLflow run as RUNNING forever. Does nothing
    outside the main thread, or if the process has a SIGTERM handler of its own.
    """
    # Only the main thread may set a signal handler; Python raises ValueError in any other.
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Terminated(SystemExit):
    """SIGTERM as an exception; if nothing catches it, the exit code is the shell's 128 + 15."""


def _raise_terminated(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise _Terminated(128 + number)
