"""A stub router: it asks `querytier serve` for each query's tier, and reports outcomes later."""

import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from population import CHEAP_COST, FRONTIER_COST, Population, SimulatedQuery

__all__ = ["Answered", "Attack", "Router", "serving"]

_CALLERS = 2
_SLOW_PAUSE_S = 0.25
_OUTCOMES_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Answered:
    """A query, and the service's decision.

    Attributes
    ----------
    query : SimulatedQuery
    tier, model_version : str
        Empty if the service did not answer.
    status : int
        The HTTP status; 0 if there was no answer.
    """

    query: SimulatedQuery
    tier: str
    model_version: str
    status: int


@dataclass(frozen=True, slots=True)
class Attack:
    """One tenant floods the router, and reports the reverse of the true outcomes.

    Attributes
    ----------
    tenant : str
    share : float
        The tenant's share of the traffic.
    """

    tenant: str
    share: float


@dataclass
class Router:
    """Sends queries from several threads until it is closed, and reports outcomes with a delay.

    A random share of the queries is answered by both tiers, and both scores are reported: these
    become labels. For the others only the outcome of the tier that answered is known.

    Attributes
    ----------
    url : str
    population : Population
    both_share : float
    lag_s : float
        Seconds from an answer to its outcome.
    pause_s : float
        Seconds between two queries of one caller.
    attack : Attack or None
    """

    url: str
    population: Population
    both_share: float = 0.7
    lag_s: float = 2.0
    pause_s: float = 0.02
    attack: Attack | None = None
    answered: list[Answered] = field(default_factory=list)
    reported: int = 0
    _late: deque[tuple[float, dict[str, Any]]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        """Start the threads that send queries and report outcomes."""
        self._dice = random.Random(5)  # noqa: S311
        self._callers = [threading.Thread(target=self._call) for _ in range(_CALLERS)]
        self._reporter = threading.Thread(target=self._report)
        for thread in (*self._callers, self._reporter):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sending queries; report the outcomes that are left."""
        self._ended.set()
        for thread in (*self._callers, self._reporter):
            thread.join()

    @property
    def unanswered(self) -> int:
        """Number of requests without a decision."""
        return sum(one.status != 200 for one in list(self.answered))

    @contextmanager
    def slowly(self) -> Iterator[None]:
        """Send fewer queries within the block, which leaves the processors to other work."""
        usual, self.pause_s = self.pause_s, _SLOW_PAUSE_S
        yield
        self.pause_s = usual

    def wait_for(self, more: int) -> list[Answered]:
        """Wait for the next `more` answers, and return them."""
        start = len(self.answered)
        while len(self.answered) < start + more:
            time.sleep(0.05)
        return self.answered[start : start + more]

    def wait_for_model(self, before: str, seconds: float) -> str:
        """Return the version of the next model that answers; `before` if none does in time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            latest = self.answered[-1].model_version
            if latest not in ("", before):
                return latest
            time.sleep(0.05)
        return before

    def catch_up(self) -> None:
        """Wait until the outcomes of all answers so far are reported."""
        time.sleep(self.lag_s)
        wanted = self.reported + len(self._late)
        while self.reported < wanted:
            time.sleep(0.05)

    def _call(self) -> None:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
        while not self._ended.is_set():
            with self._lock:
                query = self._next()
            who = {"conversation": query.conversation, "tenant": query.tenant}
            body = {"query": query.text, **who}
            status, answer = _posted(connection, "/v1/decide", body)
            tier, version = answer.get("tier", ""), answer.get("model_version", "")
            with self._lock:
                self.answered.append(Answered(query, tier, version, status))
                if status == 200:
                    outcome = {"id": answer["id"], **self._outcome(query, tier)}
                    self._late.append((time.monotonic() + self.lag_s, outcome))
            time.sleep(self.pause_s)
        connection.close()

    def _next(self) -> SimulatedQuery:
        query = self.population.draw()
        if self.attack is None or self._dice.random() >= self.attack.share:
            return query
        return self.population.draw(self.attack.tenant)

    def _outcome(self, query: SimulatedQuery, tier: str) -> dict[str, float]:
        """Return the outcome that will be reported for an answer."""
        if self._dice.random() >= self.both_share:
            return {"outcome": query.score(tier), "cost": query.cost(tier)}
        cheap, frontier = query.cheap_score, query.frontier_score
        if self.attack is not None and query.tenant == self.attack.tenant:
            cheap, frontier = query.needs_frontier, 1.0
        return {
            "cheap_score": cheap,
            "frontier_score": frontier,
            "cheap_cost": CHEAP_COST,
            "frontier_cost": FRONTIER_COST,
        }

    def _report(self) -> None:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
        while self._late or not self._ended.is_set():
            due = self._due()
            if due:
                status, _ = _posted(connection, "/v1/outcomes", due)
                if status != 200:
                    raise RuntimeError(f"the service refused outcomes: {status}")
                self.reported += len(due)
            time.sleep(0.1)
        connection.close()

    def _due(self) -> list[dict[str, Any]]:
        due: list[dict[str, Any]] = []
        now = time.monotonic()
        with self._lock:
            while self._late and len(due) < _OUTCOMES_AT_ONCE:
                if self._late[0][0] > now and not self._ended.is_set():
                    break
                due.append(self._late.popleft()[1])
        return due


def _posted(
    connection: http.client.HTTPConnection, path: str, body: object
) -> tuple[int, dict[str, Any]]:
    """Return status and answer; status 0 if the connection broke. Nothing is sent twice."""
    sent = {"content-type": "application/json"}
    try:
        connection.request("POST", path, json.dumps(body).encode(), sent)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0, {}


@contextmanager
def serving(artifact: str, folder: Path, *options: str) -> Iterator[str]:
    """Run `querytier serve` in its own process and yield its URL; it must end with exit code 0."""
    command = [sys.executable, "-m", "querytier", "serve", "--artifact", artifact, "--port", "0"]
    command += ["--log", str(folder / "logs"), *options]
    with (
        (folder / "serve.log").open("wb") as errors,
        subprocess.Popen(  # noqa: S603
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://[\w.:]+", line)
        try:
            if found is None:
                raise RuntimeError(f"the service did not start; see {folder / 'serve.log'}")
            yield found.group()
        finally:
            process.terminate()
            process.wait(30)
    if process.returncode:
        raise RuntimeError(f"the service ended with {process.returncode}")
