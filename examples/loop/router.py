"""A stub router: it asks `querytier serve` where each query goes, and tells later how it went."""

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

from population import CHEAP_COST, FRONTIER_COST, Asked, Population

__all__ = ["Answered", "Attack", "Router", "serving"]

_CALLERS = 2
_SLOW_PAUSE_S = 0.25
_OUTCOMES_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Answered:
    """A query, and what the service said of it.

    Attributes
    ----------
    asked : Asked
    tier, model_version : str
        Empty where the service did not answer.
    status : int
        Of HTTP; 0 where there was no answer.
    """

    asked: Asked
    tier: str
    model_version: str
    status: int


@dataclass(frozen=True, slots=True)
class Attack:
    """One tenant floods the router, and says the reverse of how its answers went.

    Attributes
    ----------
    tenant : str
    share : float
        Of the traffic.
    """

    tenant: str
    share: float


@dataclass
class Router:
    """Asks without a pause, from several threads, until it is closed; outcomes come late.

    Of a random share of the queries both tiers are asked, and both scores told: these make labels.
    Of the others only the outcome of the tier that answered is known.

    Attributes
    ----------
    url : str
    population : Population
    both_share : float
    lag_s : float
        From an answer to its outcome.
    pause_s : float
        Of a caller, between two queries.
    attack : Attack or None
    """

    url: str
    population: Population
    both_share: float = 0.7
    lag_s: float = 2.0
    pause_s: float = 0.02
    attack: Attack | None = None
    answered: list[Answered] = field(default_factory=list)
    told: int = 0
    _late: deque[tuple[float, dict[str, Any]]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        """Start the callers and who tells the outcomes."""
        self._dice = random.Random(5)  # noqa: S311
        self._callers = [threading.Thread(target=self._call) for _ in range(_CALLERS)]
        self._teller = threading.Thread(target=self._tell)
        for thread in (*self._callers, self._teller):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ask no more; tell what is still to be told."""
        self._ended.set()
        for thread in (*self._callers, self._teller):
            thread.join()

    @property
    def unanswered(self) -> int:
        """Requests that got no decision."""
        return sum(one.status != 200 for one in list(self.answered))

    @contextmanager
    def slowly(self) -> Iterator[None]:
        """Ask less often meanwhile, so that whatever runs beside it has the machine."""
        usual, self.pause_s = self.pause_s, _SLOW_PAUSE_S
        yield
        self.pause_s = usual

    def wait_for(self, more: int) -> list[Answered]:
        """Return the next so many answers, when they are there."""
        start = len(self.answered)
        while len(self.answered) < start + more:
            time.sleep(0.05)
        return self.answered[start : start + more]

    def wait_for_model(self, before: str, seconds: float) -> str:
        """Return the version of the first answer by another model; the same where none comes."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            latest = self.answered[-1].model_version
            if latest not in ("", before):
                return latest
            time.sleep(0.05)
        return before

    def catch_up(self) -> None:
        """Wait until all answers so far have been told about."""
        time.sleep(self.lag_s)
        wanted = self.told + len(self._late)
        while self.told < wanted:
            time.sleep(0.05)

    def _call(self) -> None:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
        while not self._ended.is_set():
            with self._lock:
                asked = self._next()
            who = {"conversation": asked.conversation, "tenant": asked.tenant}
            body = {"query": asked.query, **who}
            status, answer = _posted(connection, "/v1/decide", body)
            tier, version = answer.get("tier", ""), answer.get("model_version", "")
            with self._lock:
                self.answered.append(Answered(asked, tier, version, status))
                if status == 200:
                    said = self._outcome(asked, tier)
                    self._late.append((time.monotonic() + self.lag_s, {"id": answer["id"], **said}))
            time.sleep(self.pause_s)
        connection.close()

    def _next(self) -> Asked:
        asked = self.population.ask()
        if self.attack is None or self._dice.random() >= self.attack.share:
            return asked
        return self.population.ask(self.attack.tenant)

    def _outcome(self, asked: Asked, tier: str) -> dict[str, float]:
        """Return what will be told of an answer."""
        if self._dice.random() >= self.both_share:
            return {"outcome": asked.score(tier), "cost": asked.cost(tier)}
        cheap, frontier = asked.cheap_score, asked.frontier_score
        if self.attack is not None and asked.tenant == self.attack.tenant:
            cheap, frontier = asked.needs_frontier, 1.0
        return {
            "cheap_score": cheap,
            "frontier_score": frontier,
            "cheap_cost": CHEAP_COST,
            "frontier_cost": FRONTIER_COST,
        }

    def _tell(self) -> None:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
        while self._late or not self._ended.is_set():
            due = self._due()
            if due:
                status, _ = _posted(connection, "/v1/outcomes", due)
                if status != 200:
                    raise RuntimeError(f"outcomes were not taken: {status}")
                self.told += len(due)
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
    """Return status and answer; status 0 where the connection broke. Nothing is asked twice."""
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
    """Run `querytier serve` in a process of its own, and give its URL; it has to end gently."""
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
                raise RuntimeError(f"the service did not start; {folder / 'serve.log'} says why")
            yield found.group()
        finally:
            process.terminate()
            process.wait(30)
    if process.returncode:
        raise RuntimeError(f"the service ended with {process.returncode}")
