"""Load on a service: requests arrive independently of the answers to earlier ones.

python benchmarks/serving_load.py

Each line on standard input is a JSON object with the fields of `Load`; the answer has the fields of
`Measured`. It is a separate process so that it can have its own processors. It waits with `select`,
in microseconds: `epoll` and asyncio wait in whole milliseconds, which would distort the times.
"""

import json
import random
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

__all__ = ["Load", "Measured", "measure"]

_HEAD = "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_LONGEST_WAIT_S = 0.05


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to send.

    Attributes
    ----------
    port : int
        Port on loopback.
    path : str
    bodies : str
        A file with one body per line; they are sent in turn.
    rate : float or None
        Arrivals per second, with exponential gaps; None sends the next one after each answer.
    seconds : float
        Duration of the arrivals.
    connections : int
        Number of open connections; a request waits for a free one, and its time includes that.
    hopeless_s : float
        The load is aborted if a request waits longer: the service does not keep up.
    seed : int
    """

    port: int
    path: str
    bodies: str
    rate: float | None
    seconds: float
    connections: int = 50
    hopeless_s: float = 0.5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurements of a load.

    Attributes
    ----------
    arrived, answered, refused : int
        Number of requests due, answered with 200, and answered with another status.
    a_second : float
        Answers per second, from the first arrival to the last answer.
    p50_ms, p99_ms, longest_ms : float
        From the intended arrival to the end of the answer; infinite without an answer.
    """

    arrived: int
    answered: int
    refused: int
    a_second: float
    p50_ms: float
    p99_ms: float
    longest_ms: float


class _Connection:
    """A connection that carries one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self.due = 0.0

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._socket.fileno()

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at a time."""
        self.due = due
        self._socket.sendall(request)

    def status(self) -> int | None:
        """Return the status of the answer; None until it is complete."""
        more = self._socket.recv(1 << 18)
        if not more:
            raise ConnectionError("the service closed a connection")
        self._received += more
        head, end, content = self._received.partition(b"\r\n\r\n")
        if not end or len(content) < _content_length(head):
            return None
        self._received = b""
        return int(head[9:12])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class _Run:
    """One load in progress."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._requests = _requests(load)
        self._connections = [_Connection(load.port) for _ in range(load.connections)]
        self._free = deque(self._connections)
        self._ready = select.epoll()
        for one in self._connections:
            self._ready.register(one.fileno(), select.EPOLLIN)
        self._by_number = {one.fileno(): one for one in self._connections}
        self._started = self._last = time.perf_counter()
        self._gaps = random.Random(load.seed)  # noqa: S311 not used for security
        self._next = self._started
        self._waiting: deque[float] = deque()
        self._seconds: list[float] = []
        self._arrived = self._refused = 0

    def finish(self) -> None:
        """Run until every request is answered, or the load is hopeless."""
        while self._is_arriving() or len(self._seconds) < self._arrived:
            self._arrive(time.perf_counter())
            while self._waiting and self._free:
                self._free.popleft().send(next(self._requests), self._waiting.popleft())
            if self._is_hopeless():
                return
            self._wait()
            for number, _ in self._ready.poll(0):
                self._receive(self._by_number[number])

    def measured(self) -> Measured:
        """Return the measurements; a request without an answer counts as infinitely slow."""
        lost = self._arrived - len(self._seconds)
        times = np.array(self._seconds + [np.inf] * lost) * 1000
        middle, late = np.percentile(times, [50, 99], method="inverted_cdf")
        answered = len(self._seconds) - self._refused
        a_second = answered / max(self._last - self._started, 1e-9)
        longest = float(times.max())
        return Measured(
            self._arrived, answered, self._refused, a_second, float(middle), float(late), longest
        )

    def close(self) -> None:
        """Close all connections."""
        for one in self._connections:
            one.close()
        self._ready.close()

    def _is_arriving(self) -> bool:
        now = time.perf_counter() if self._load.rate is None else self._next
        return now < self._started + self._load.seconds

    def _arrive(self, now: float) -> None:
        if self._load.rate is None:
            due = [now] * len(self._free) if self._is_arriving() else []
        else:
            due = [*self._due(now)]
        self._waiting.extend(due)
        self._arrived += len(due)

    def _due(self, now: float) -> Iterator[float]:
        assert self._load.rate is not None
        while self._is_arriving() and self._next <= now:
            yield self._next
            self._next += self._gaps.expovariate(self._load.rate)

    def _is_hopeless(self) -> bool:
        """Return whether a request waits too long for a connection, or at the end for an answer."""
        oldest = self._waiting[0] if self._waiting else max(self._last, self._next)
        return time.perf_counter() - oldest > self._load.hopeless_s

    def _wait(self) -> None:
        until = self._next - time.perf_counter() if self._load.rate and self._is_arriving() else 1
        select.select([self._ready], [], [], min(max(until, 0.0), _LONGEST_WAIT_S))

    def _receive(self, connection: _Connection) -> None:
        status = connection.status()
        if status is None:
            return
        self._last = time.perf_counter()
        self._seconds.append(self._last - connection.due)
        self._refused += status != 200
        self._free.append(connection)


def measure(load: Load) -> Measured:
    """Send a load, and wait for its answers unless it is hopeless."""
    run = _Run(load)
    try:
        run.finish()
        return run.measured()
    finally:
        run.close()


def _requests(load: Load) -> Iterator[bytes]:
    """Yield requests, cycling through the bodies."""
    head = _HEAD.format(path=load.path).encode()
    bodies = Path(load.bodies).read_bytes().splitlines()
    return cycle(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(one), one) for one in bodies)


def _content_length(head: bytes) -> int:
    fields = head.lower()
    start = fields.index(b"content-length:") + len(b"content-length:")
    return int(fields[start:].split(b"\r\n", 1)[0])


def main() -> int:
    """Answer each load with its measurements."""
    for line in sys.stdin:
        print(json.dumps(asdict(measure(Load(**json.loads(line))))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
