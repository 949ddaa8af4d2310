"""A service for tests: in a process of its own as users run it, or in this process."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from querytier.serve.http.app import application

ARTIFACTS = Path(__file__).parent / "fixtures" / "artifacts"
ARTIFACT = ARTIFACTS / "format-2"
QUERY = "Where is my order?"
INFER = "/v2/models/querytier/infer"
AS_INSTALLED = ("-m", "querytier")


@dataclass(frozen=True)
class Answer:
    """The answer of a service."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def json(self):
        """The body, parsed."""
        return json.loads(self.content)


@dataclass
class Served:
    """A running service."""

    url: str
    token: str | None = None
    process: subprocess.Popen | None = None
    errors: Path | None = None

    def connect(self, timeout=20):
        """Return a connection that opens with its first request."""
        place = urlsplit(self.url)
        return http.client.HTTPConnection(place.hostname, place.port, timeout=timeout)

    def ask(self, path, body=None, connection=None, **headers):
        """Send a request, over a new connection unless one is given."""
        if connection is None:
            with closing(self.connect()) as own:
                return self.ask(path, body, own, **headers)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            sent.setdefault("authorization", f"Bearer {self.token}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", path, body, sent)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())

    def result(self, path, body=None, connection=None):
        """Return the JSON of an answer that has to be a success."""
        answer = self.ask(path, body, connection)
        assert answer.status == 200, answer.content
        return answer.json

    def decide(self, query=QUERY, connection=None, **options):
        """Return a decision."""
        return self.result("/v1/decide", {"query": query, **options}, connection)

    def socket(self, timeout=20):
        """Return a connection for raw bytes."""
        place = urlsplit(self.url)
        return socket.create_connection((place.hostname, place.port), timeout)

    def exchange(self, sent, timeout=20):
        """Send raw bytes, and return everything until the service closes the connection."""
        with self.socket(timeout) as connection:
            answer = b""
            with suppress(ConnectionError):  # bytes sent into a closed connection reset it
                connection.sendall(sent)
                while received := connection.recv(65_536):
                    answer += received
            return answer

    def head(self, path="/v1/decide", more=""):
        """Return the first bytes of a request; the headers are not ended."""
        token = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{token}{more}".encode()

    def metric(self, name, **labels):
        """Return the sum of a metric's samples with these labels."""
        text = self.ask("/metrics").content.decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@contextmanager
def serving(artifact, *arguments, token=None, errors=None, start=AS_INSTALLED, **process):
    """Run `querytier serve`; it has to end with exit code 0 unless the test kills it."""
    command = [sys.executable, *start, "serve", "--artifact", artifact, "--port", 0, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | (
        {"QUERYTIER_TOKEN": token} if token else {}
    )
    with (
        Path(errors or os.devnull).open("ab") as log,
        subprocess.Popen(
            [*map(str, command)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            **process,
        ) as running,
    ):
        url = re.search(r"http://[\w.:]+", running.stdout.readline()).group()
        try:
            yield Served(url, token, running, errors)
        finally:
            if running.poll() is None:
                running.terminate()
                running.wait(20)
    assert running.returncode in {0, -signal.SIGKILL}


@contextmanager
def in_this_process(settings):
    """Run the application under a server of this process, as any ASGI server may."""
    server = uvicorn.Server(
        uvicorn.Config(application(settings), port=0, log_config=None, ws="none", lifespan="on")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    try:
        yield Served(f"http://{host}:{port}", settings.token)
    finally:
        server.should_exit = True
        thread.join(20)


def wait_until(holds, seconds=15):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.01)


def stable(decision):
    """Return a decision without the fields that differ each time."""
    return {name: value for name, value in decision.items() if name not in {"id", "latency_ms"}}
