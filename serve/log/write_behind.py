"""One thread that writes lines to log files, behind whoever has them to write."""

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, takewhile
from threading import Condition, Event, Lock, Thread
from typing import Literal

from querytier.serve.log.log_file import LogFile
from querytier.serve.log.settings import LogSettings

__all__ = ["WriteBehind"]

Make = Callable[[], Mapping[str, object]]
Attempt = Literal["write", "sync"]

_log = logging.getLogger(__name__)

_LINES_AT_ONCE = 500
# A busy service wakes the thread once in so long, and not for every record.
_GATHERING_S = 0.01
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.05, 5.0
_LONGEST_CLOSE_S = 30.0


class WriteBehind:
    """Takes records in microseconds, and writes them as JSON lines when it can.

    Nothing that a file system does raises here, or is waited for without a limit. While writing
    fails it is tried again, at longer and longer intervals up to five seconds; an incident is one
    warning in the log, and one line when it is over. Threads may share it; the own thread starts
    with the first record, so that a process may fork before.

    Parameters
    ----------
    settings : LogSettings
    files : sequence of LogFile
        Those that are written to.

    Attributes
    ----------
    written : int
        Lines in the files.
    dropped : int
        Records that found no room, came after the end, or could not be written by then.
    failed : int
        Attempts to write that failed.
    """

    def __init__(self, settings: LogSettings, files: Sequence[LogFile]) -> None:
        self._settings, self._files = settings, files
        self.written = self.dropped = self.failed = 0
        self._queue: deque[tuple[LogFile, Make]] = deque()
        self._lines: deque[tuple[LogFile, bytes]] = deque()
        self._taken = self._settled = self._safe = self._wanted = 0
        self._unsafe_since: float | None = None
        self._failing: Attempt | None = None
        self._is_idle = self._is_closing = False
        self._delay = _FIRST_DELAY_S
        self._lock = Lock()
        self._work, self._progress = Condition(self._lock), Condition(self._lock)
        self._end = Event()
        self._thread = self._new_thread()

    def put(self, file: LogFile, make: Make) -> None:
        """Have a record written, later; `make` is called by the thread that writes."""
        with self._lock:
            self._start()
            if self._settings.when_full == "block" and self._thread.is_alive():
                self._progress.wait_for(
                    lambda: not self._is_full() or self._failing or self._is_closing
                )
            if self._is_full() or self._is_closing:
                self.dropped += 1
                return
            self._queue.append((file, make))
            self._taken += 1
            if self._is_idle or self._is_full():
                self._is_idle = False
                self._work.notify()

    def flush(self, timeout_s: float) -> bool:
        """Wait until what was put before is in the files, on disk unless `fsync` is `never`.

        Returns
        -------
        bool
            False where that took longer.
        """
        with self._lock:
            self._wanted = target = self._taken
            self._work.notify()
            return self._progress.wait_for(lambda: self._safe >= target, timeout_s)

    def close(self) -> None:
        """Write what was put, and end; where writing fails even now, it is dropped and counted.

        Not in a signal's handler: it may have interrupted `put`, for which this would wait.
        """
        with self._lock:
            self._is_closing = True
            self._work.notify_all()
            self._progress.notify_all()
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(_LONGEST_CLOSE_S)
        elif self._queue:
            self._run()
        if self._thread.is_alive():
            _log.warning("writing the log does not end; %d lines are left to it", self._pending())

    def _new_thread(self) -> Thread:
        return Thread(target=self._run, name="querytier-log", daemon=True)

    def _start(self) -> None:
        """Start the thread where there is none yet, or none any more: a fork leaves it behind."""
        if self._thread.is_alive() or self._is_closing:
            return
        self._thread = self._new_thread()
        try:
            self._thread.start()
        except RuntimeError:
            _log.exception("no thread to write the log; its lines are written at the end")

    def _pending(self) -> int:
        return self._taken - self._settled

    def _is_full(self) -> bool:
        return self._pending() >= self._settings.buffer

    def _run(self) -> None:
        while self._wait_for_work():
            self._encode_some()
            self._write_all()
            self._make_safe()
        for file in self._files:
            file.close()

    def _wait_for_work(self) -> bool:
        """Wait for records, for the time to force lines to disk, or for the end: False."""
        with self._lock:
            self._is_idle = True
            self._work.wait_for(lambda: self._queue or self._is_urgent(), self._until_sync())
            self._is_idle = False
            if 0 < len(self._queue) < _LINES_AT_ONCE:
                self._work.wait_for(self._is_urgent, _GATHERING_S)
            return bool(self._queue) or not self._is_closing or self._settled > self._safe

    def _is_urgent(self) -> bool:
        return self._is_closing or self._wanted > self._safe or self._is_full()

    def _encode_some(self) -> None:
        with self._lock:
            some = [self._queue.popleft() for _ in range(min(len(self._queue), _LINES_AT_ONCE))]
        for file, make in some:
            try:
                self._lines.append((file, _line(make())))
            except Exception:  # noqa: BLE001 one record is less than the log
                _log.exception("a record could not be put into words, and is not in the log")
                self._settle(dropped=1)

    def _write_all(self) -> None:
        while self._lines:
            try:
                self._write_some()
            except OSError as error:
                is_last = self._is_closing
                self._note_failure("write", error)
                if is_last:
                    self._give_up()

    def _write_some(self) -> None:
        """Write lines to the file of the first."""
        file = self._lines[0][0]
        of_file = takewhile(lambda item: item[0] is file, islice(self._lines, _LINES_AT_ONCE))
        count = file.append([line for _, line in of_file])
        for _ in range(count):
            self._lines.popleft()
        if self._unsafe_since is None:
            self._unsafe_since = time.monotonic()
        self._settle(written=count)
        self._note_success("write")

    def _until_sync(self) -> float | None:
        """Return the seconds until lines have to be forced to disk; None where none has to be."""
        window = {"always": 0.0, "interval": self._settings.interval_s, "never": math.inf}
        if self._unsafe_since is None or self._settings.fsync == "never":
            return None
        return max(self._unsafe_since + window[self._settings.fsync] - time.monotonic(), 0.0)

    def _make_safe(self) -> None:
        """Force lines to disk where it is time, or wanted."""
        if self._settings.fsync != "never" and self._unsafe_since is not None:
            is_end = self._is_closing and not self._queue
            is_wanted = is_end or self._safe < self._wanted <= self._settled
            if not is_wanted and self._until_sync():
                return
            if not self._sync() and not is_end:
                return
        self._unsafe_since = None
        with self._lock:
            self._safe = self._settled
            self._progress.notify_all()

    def _sync(self) -> bool:
        try:
            for file in self._files:
                file.sync()
        except OSError as error:
            self._note_failure("sync", error)
            return False
        self._note_success("sync")
        return True

    def _give_up(self) -> None:
        with self._lock:
            count = len(self._lines) + len(self._queue)
            self._queue.clear()
        self._lines.clear()
        _log.error("%d lines of the log are lost: they could not be written by the end", count)
        self._settle(dropped=count)

    def _settle(self, *, written: int = 0, dropped: int = 0) -> None:
        with self._lock:
            self.written += written
            self.dropped += dropped
            self._settled += written + dropped
            self._progress.notify_all()

    def _note_failure(self, attempt: Attempt, error: OSError) -> None:
        """Count a failure, say so where it is the first, and wait."""
        with self._lock:
            is_first, self._failing = self._failing is None, attempt
            self.failed += 1
            self._progress.notify_all()
        if is_first:
            _log.warning(
                "the log cannot be written: %s; it is tried again, and up to %d lines wait",
                error,
                self._settings.buffer,
            )
        self._end.wait(self._delay)
        self._delay = min(2 * self._delay, _LONGEST_DELAY_S)

    def _note_success(self, attempt: Attempt) -> None:
        if self._failing == attempt:
            _log.info("the log is written again; %d lines were dropped so far", self.dropped)
            self._failing, self._delay = None, _FIRST_DELAY_S


def _line(record: Mapping[str, object]) -> bytes:
    """Return a record as a line of JSON: text readable, lone surrogates as JSON escapes them."""
    known = {name: _number(value) for name, value in record.items()}
    text = json.dumps(known, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _number(value: object) -> object:
    """Return null for a number that JSON does not have: a threshold may be infinite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
