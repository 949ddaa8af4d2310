"""One thread that writes lines to log files, so that no caller waits for a disk."""

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

MakeRecord = Callable[[], Mapping[str, object]]
Attempt = Literal["write", "sync"]

_log = logging.getLogger(__name__)

_BATCH_LINES = 500
# The writer waits this long for more lines before it writes: waking the thread for every record
# would cost a busy service more than making the record.
_BATCH_WAIT_S = 0.01
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.05, 5.0
_LONGEST_CLOSE_S = 30.0


class WriteBehind:
    """Accepts records within microseconds, and writes them as JSON lines in its own thread.

    No error of a file system is raised here, and no wait is unlimited. A failed write is tried
    again after longer and longer delays of up to five seconds; an incident logs one warning, and
    one line when it is over. Threads may share it; its own thread starts with the first record, so
    that a process may fork before.

    Parameters
    ----------
    settings : LogSettings
    files : sequence of LogFile
        The files to write to.

    Attributes
    ----------
    written : int
        Number of lines in the files.
    dropped : int
        Number of records that found the buffer full, came after the end, or could not be written by
        then.
    failed : int
        Number of failed attempts to write.
    """

    def __init__(self, settings: LogSettings, files: Sequence[LogFile]) -> None:
        self._settings, self._files = settings, files
        self.written = self.dropped = self.failed = 0
        self._queue: deque[tuple[LogFile, MakeRecord]] = deque()
        # Only the writer touches the encoded lines. They outlive a failed write, so that they are
        # neither encoded twice nor lost.
        self._lines: deque[tuple[LogFile, bytes]] = deque()
        # Numbers of records: received >= finished (written or dropped) >= durable (forced to disk).
        # `flush` waits until `_durable` reaches the number received when it was called.
        self._received = self._finished = self._durable = self._flush_target = 0
        self._unsafe_since: float | None = None
        self._failing: Attempt | None = None
        self._is_idle = self._is_closing = False
        self._delay = _FIRST_DELAY_S
        # Two conditions on one lock: `_work` wakes the writer, `_progress` the callers that wait
        # for it.
        self._lock = Lock()
        self._work, self._progress = Condition(self._lock), Condition(self._lock)
        self._end = Event()
        self._thread = self._new_thread()

    def put(self, file: LogFile, make_record: MakeRecord) -> None:
        """Queue a record; `make_record` is called by the thread that writes."""
        with self._lock:
            self._start()
            if self._settings.when_full == "block" and self._thread.is_alive():
                self._progress.wait_for(
                    lambda: not self._is_full() or self._failing or self._is_closing
                )
            if self._is_full() or self._is_closing:
                self.dropped += 1
                return
            self._queue.append((file, make_record))
            self._received += 1
            # A writer that is not idle finds the record by itself; only an idle one is woken.
            if self._is_idle or self._is_full():
                self._is_idle = False
                self._work.notify()

    def flush(self, timeout_s: float) -> bool:
        """Wait until every queued record is in the files, on disk unless `fsync` is `never`.

        Returns
        -------
        bool
            False if that took longer than the timeout.
        """
        with self._lock:
            self._flush_target = target = self._received
            self._work.notify()
            return self._progress.wait_for(lambda: self._durable >= target, timeout_s)

    def close(self) -> None:
        """Write all queued records, and end; those that cannot be written are dropped and counted.

        Do not call it in a signal handler: it may have interrupted `put`, whose lock it needs.
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
            _log.warning("the log is still being written; %d lines are pending", self._pending())

    def _new_thread(self) -> Thread:
        # A daemon, so that a disk that hangs cannot keep the interpreter from ending.
        return Thread(target=self._run, name="querytier-log", daemon=True)

    def _start(self) -> None:
        """Start the thread if it is not running: not yet, or not any more after a fork."""
        if self._thread.is_alive() or self._is_closing:
            return
        self._thread = self._new_thread()
        try:
            self._thread.start()
        except RuntimeError:
            _log.exception("no thread to write the log; its lines are written at the end")

    def _pending(self) -> int:
        return self._received - self._finished

    def _is_full(self) -> bool:
        return self._pending() >= self._settings.buffer

    def _run(self) -> None:
        while self._wait_for_work():
            self._encode_batch()
            self._write_all()
            self._sync_if_due()
        for file in self._files:
            file.close()

    def _wait_for_work(self) -> bool:
        """Wait for records, or until lines have to be forced to disk; return False at the end."""
        with self._lock:
            self._is_idle = True
            self._work.wait_for(lambda: self._queue or self._is_urgent(), self._until_sync())
            self._is_idle = False
            if 0 < len(self._queue) < _BATCH_LINES:
                self._work.wait_for(self._is_urgent, _BATCH_WAIT_S)
            return bool(self._queue) or not self._is_closing or self._finished > self._durable

    def _is_urgent(self) -> bool:
        return self._is_closing or self._flush_target > self._durable or self._is_full()

    def _encode_batch(self) -> None:
        with self._lock:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH_LINES))]
        for file, make_record in batch:
            try:
                self._lines.append((file, _line(make_record())))
            except Exception:  # noqa: BLE001 one bad record must not stop the log
                _log.exception("a record could not be encoded, and is not in the log")
                self._finish(dropped=1)

    def _write_all(self) -> None:
        while self._lines:
            try:
                self._write_batch()
            except OSError as error:
                is_last = self._is_closing
                self._note_failure("write", error)
                if is_last:
                    self._give_up()

    def _write_batch(self) -> None:
        """Write the lines at the front that belong to the same file."""
        file = self._lines[0][0]
        of_file = takewhile(lambda item: item[0] is file, islice(self._lines, _BATCH_LINES))
        count = file.append([line for _, line in of_file])
        for _ in range(count):
            self._lines.popleft()
        if self._unsafe_since is None:
            self._unsafe_since = time.monotonic()
        self._finish(written=count)
        self._note_success("write")

    def _until_sync(self) -> float | None:
        """Return the seconds until lines have to be forced to disk; None if none have to be."""
        window = {"always": 0.0, "interval": self._settings.interval_s, "never": math.inf}
        if self._unsafe_since is None or self._settings.fsync == "never":
            return None
        return max(self._unsafe_since + window[self._settings.fsync] - time.monotonic(), 0.0)

    def _sync_if_due(self) -> None:
        """Force lines to disk if it is time, or if `flush` or `close` waits for it."""
        if self._settings.fsync != "never" and self._unsafe_since is not None:
            is_end = self._is_closing and not self._queue
            is_wanted = is_end or self._durable < self._flush_target <= self._finished
            if not is_wanted and self._until_sync():
                return
            # At the end a failed sync counts as done: the lines are in the files, and trying again
            # forever would keep the process alive.
            if not self._sync() and not is_end:
                return
        self._unsafe_since = None
        with self._lock:
            self._durable = self._finished
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
        self._finish(dropped=count)

    def _finish(self, *, written: int = 0, dropped: int = 0) -> None:
        with self._lock:
            self.written += written
            self.dropped += dropped
            self._finished += written + dropped
            self._progress.notify_all()

    def _note_failure(self, attempt: Attempt, error: OSError) -> None:
        """Count a failure, log it if it is the first of an incident, and wait."""
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
        # An event and not a sleep, so that `close` does not wait for the delay.
        self._end.wait(self._delay)
        self._delay = min(2 * self._delay, _LONGEST_DELAY_S)

    def _note_success(self, attempt: Attempt) -> None:
        # A write that works does not end an incident of syncing, and vice versa: otherwise a disk
        # that takes lines and cannot sync would log a warning for each of them.
        if self._failing == attempt:
            _log.info("the log is written again; %d lines were dropped so far", self.dropped)
            self._failing, self._delay = None, _FIRST_DELAY_S


def _line(record: Mapping[str, object]) -> bytes:
    """Return a record as a line of JSON: readable text, lone surrogates escaped as in JSON."""
    finite = {name: _finite(value) for name, value in record.items()}
    text = json.dumps(finite, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _finite(value: object) -> object:
    """Return None for a number that JSON does not have: a threshold may be infinite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
