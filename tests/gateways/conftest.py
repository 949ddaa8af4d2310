"""Fixtures of the gateways: an artifact, its decisions, servers that end with the tests."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUERIES = (
    "Where is my order?",
    "Design a database schema for multi-tenant billing and explain how each part can fail.",
    "Hi",
    "?",
)


@pytest.fixture(scope="session")
def decides():
    """Return the folder of an artifact: the demo's if it has run."""
    demo = ROOT / "artifacts" / "model"
    return demo if demo.is_dir() else ROOT / "tests" / "fixtures" / "artifacts" / "format-2"


@pytest.fixture(scope="session")
def queries(decides):
    """Return a query for each tier, as the artifact decides."""
    from querytier.serve import Router

    router = Router.load(decides)
    return {router.decide(query).tier: query for query in reversed(QUERIES)}


@pytest.fixture(scope="session")
def free_port():
    def found():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return listener.getsockname()[1]

    return found


@pytest.fixture(scope="session")
def serving(tmp_path_factory):
    """Start a program of this environment and wait for its port; it ends with the session."""
    with ExitStack() as servers:

        def started(command, port, *, folder=ROOT, **environment):
            log = tmp_path_factory.mktemp("server") / "log.txt"
            server = servers.enter_context(_running(command, log, folder, environment))
            _wait_for(port, server, log)
            return server

        yield started


@contextmanager
def _running(command, log, folder, environment):
    with log.open("wb") as output:
        server = subprocess.Popen(
            [_installed(command[0]), *map(str, command[1:])],
            cwd=folder,
            env=os.environ | {name: str(value) for name, value in environment.items()},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield server
        finally:
            server.terminate()
            server.wait(timeout=30)


def _installed(program):
    return str(Path(sys.executable).parent / program)


def _wait_for(port, server, log, seconds=90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"nothing answers on port {port}; its log ends:\n{log.read_text()[-4000:]}")


@pytest.fixture(scope="session")
def post():
    """Send JSON; return status, headers and body."""

    def sent(url, body, headers=()):
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        for name, value in dict(headers).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    return sent
