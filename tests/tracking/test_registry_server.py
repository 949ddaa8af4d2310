"""A real MLflow server: a pipeline registers there, and a service follows the alias."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from querytier.classifier.artifact import MANIFEST, MODEL, file_sha256, verified_manifest
from querytier.pipeline.evaluate import version_tags
from querytier.serve import Router
from querytier.tracking.model_uri import fetch_artifact
from querytier.tracking.store import open_registry
from querytier.tracking.tracker import Tracker

pytest.importorskip("mlflow")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="ends process groups"),
]

CHAMPION = "models:/querytier@champion"
SMALL = """
train: {folds: 2, regularisation: [1.0]}
export: {parity_texts: 200, drift_texts: 200}
evaluate: {bootstrap: 100, latency_decisions: 5}
"""
OTHER = Path(__file__).parents[1] / "fixtures" / "artifacts" / "format-2"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_until(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "the condition never became true"
        time.sleep(0.05)


@dataclass
class MlflowServer:
    """`mlflow server` in its own process; it also serves the artifacts."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def uri(self):
        """Return its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--serve-artifacts", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        wait_until(self.answers)

    def answers(self):
        """Return whether it is healthy."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)) as connection:
            with suppress(OSError):
                connection.request("GET", "/health")
                return connection.getresponse().status == 200
            return False

    def kill(self):
        """Kill it and its workers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(empty_store, tmp_path_factory):
    """Return a server that all processes of this module use."""
    server = MlflowServer(tmp_path_factory.mktemp("server"))
    shutil.copy(empty_store, server.folder / "server.db")
    try:
        server.start()
        os.environ["MLFLOW_TRACKING_URI"] = server.uri
        yield server
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        server.kill()


@pytest.fixture(scope="module")
def run(server, scored_log, scored_map, tmp_path_factory):
    """Return the folder of a pipeline that logged to the server; its model is champion."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "params.yaml").write_text(SMALL)
    answer = querytier(
        *("run", scored_log, "--map", scored_map, "--out", folder / "out"),
        *("--params", folder / "params.yaml"),
    )
    assert answer.returncode == 0, answer.stderr
    assert server.uri in answer.stdout
    return folder / "out"


def querytier(*arguments, **environment):
    command = [sys.executable, "-m", "querytier", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def register(artifact, folder):
    """Register an artifact; return its number and its model version."""
    shutil.copytree(artifact, folder / "model")
    manifest = verified_manifest(folder / "model")
    tracker = Tracker(folder)
    with tracker.start("another", {}):
        example = Router.load(artifact).classifier.feed("an example")
        return tracker.register(
            folder / "model", MODEL, example, version_tags(folder, manifest)
        ), manifest.model_version


def register_broken(artifact, folder):
    """Register an artifact with a truncated file; return its number."""
    shutil.copytree(artifact, folder / "model")
    tags = version_tags(folder, verified_manifest(folder / "model"))
    golden = folder / "model" / "golden.jsonl"
    golden.write_bytes(golden.read_bytes()[:1000])
    tracker = Tracker(folder)
    with tracker.start("broken", {}):
        example = Router.load(artifact).classifier.feed("an example")
        # With the tags of an artifact in the cache, nothing would be fetched.
        tags = {**tags, "model_version": "b" * 12}
        return tracker.register(folder / "model", MODEL, example, tags)


def promote(number):
    with open_registry() as registry:
        registry.record_gate(number, passed=True, reason="")


@dataclass
class Served:
    """A service in its own process."""

    port: int

    def ask(self, path, body=None):
        """Return status and content of an answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            sent = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, sent)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def decide(self):
        """Return a decision."""
        status, content = self.ask("/v1/decide", {"query": "Where is my order?"})
        assert status == 200, content
        return json.loads(content)

    def metric(self, name, **labels):
        """Return the sum of a metric's samples with these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.ask("/metrics")[1])
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@contextmanager
def serving(log):
    command = [sys.executable, "-m", "querytier", "serve", "--artifact", CHAMPION]
    command += ["--watch", "0.5", "--port", "0", "--log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield Served(int(re.search(r":(\d+)", running.stdout.readline())[1]))
        finally:
            running.terminate()
            running.wait(40)
    assert running.returncode == 0


@contextmanager
def asking(served):
    """Ask for decisions within the block; yield the number of answers by status."""
    answered, ended = {}, threading.Event()

    def ask():
        while not ended.is_set():
            try:
                status = served.ask("/v1/decide", {"query": "Where is my order?"})[0]
            except OSError as error:
                status = repr(error)
            answered[status] = answered.get(status, 0) + 1
            time.sleep(0.01)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answered
    finally:
        ended.set()
        thread.join()


def test_an_artifact_registered_at_a_server_comes_back_complete(run, monkeypatch, tmp_path):
    monkeypatch.setenv("QUERYTIER_CACHE", str(tmp_path))
    folder, model = fetch_artifact(CHAMPION), run / "model"
    assert file_sha256(folder / MANIFEST) == file_sha256(model / MANIFEST)
    assert verified_manifest(folder) == verified_manifest(model)
    ours, theirs = Router.load(CHAMPION).decide("Hi"), Router.load(model).decide("Hi")
    assert ours.decision_score == theirs.decision_score


@pytest.mark.usefixtures("run")
def test_processes_that_fetch_at_once_do_not_collide(tmp_path):
    code = f"from querytier.serve import Router; print(Router.load({CHAMPION!r}).decide('Hi').tier)"
    environment = {**os.environ, "QUERYTIER_CACHE": str(tmp_path)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
        for _ in range(2)
    ]
    assert len({one.communicate()[0] for one in running}) == 1
    assert [one.returncode for one in running] == [0, 0]
    assert len([*tmp_path.joinpath("artifacts").iterdir()]) == 1


def test_a_service_follows_the_alias_through_failures_of_the_server(server, run, tmp_path):
    first = verified_manifest(run / "model").model_version
    number, second = register(OTHER, tmp_path / "other")
    broken = register_broken(OTHER, tmp_path / "broken")
    with serving(tmp_path / "log") as served, asking(served) as answered:
        decision = served.decide()
        assert decision["model_version"] == first
        promote(number)
        wait_until(lambda: served.decide()["model_version"] == second)
        promote(broken)
        wait_until(lambda: served.metric("querytier_reloads_total", result="failure") == 1)
        time.sleep(1.5)
        assert served.metric("querytier_reloads_total", result="failure") == 1
        assert served.decide()["model_version"] == second
        server.kill()
        wait_until(lambda: served.metric("querytier_failed_look_ups_total") >= 2)
        assert served.decide()["model_version"] == second
        server.start()
        promote("1")
        wait_until(lambda: served.decide()["model_version"] == first)
        assert served.metric("querytier_reloads_total", result="success") == 2
    assert set(answered) == {200}
    assert answered[200] > 100
    traced = querytier("trace", decision["id"], "--log", tmp_path / "log", "--json")
    assert traced.returncode == 0, traced.stderr
    behind = json.loads(traced.stdout)["registered"]
    assert (behind["version"], behind["model_version"]) == ("1", first)
    assert behind["certificate"]["read_from"] == "manifest.json of version 1"


def test_a_silent_server_delays_a_start_for_a_bounded_time():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        started = time.monotonic()
        answer = querytier(
            *("serve", "--artifact", CHAMPION, "--port", 0),
            MLFLOW_TRACKING_URI=f"http://127.0.0.1:{deaf.getsockname()[1]}",
            MLFLOW_HTTP_REQUEST_TIMEOUT="1",
        )
    assert (answer.returncode, "did not answer" in answer.stderr) == (1, True)
    assert time.monotonic() - started < 20  # two attempts of a second, and mlflow's import
