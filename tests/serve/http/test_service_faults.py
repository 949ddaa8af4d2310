"""The service when its disk, artifact, clients, clock or process fail."""

import asyncio
import http.client
import json
import re
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from querytier.serve import Decision, Router, RouterSettings
from querytier.serve.log.decision_log import DecisionLog, LogSettings
from served import ARTIFACT, ARTIFACTS, AS_INSTALLED, INFER, QUERY, serving, stable, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

OTHER = ARTIFACTS / "format-1"
TOKEN = "a-token-of-these-faults"
WITHOUT_HTTPTOOLS = (
    "-c",
    """import sys; sys.modules["httptools"] = None
from querytier.cli.main import main; sys.exit(main())""",
)


def resident_mb(served):
    """Return the memory that the process uses."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1000


def open_files(served):
    """Return the number of open files and sockets of the process."""
    return len([*Path(f"/proc/{served.process.pid}/fd").iterdir()])


@pytest.fixture
def errors(tmp_path):
    return tmp_path / "errors.jsonl"


@pytest.fixture(scope="module", params=["in C", "in Python"])
def guarded(request, tmp_path_factory):
    """Start a service with a token and reachable limits, with each of the two HTTP parsers."""
    if request.param == "in C":
        pytest.importorskip("httptools")
    errors = tmp_path_factory.mktemp("guarded") / "errors.jsonl"
    limits = ["--max-body", 5000, "--max-batch", 3, "--arrival-timeout", 1]
    told = ["--log-level", "debug"]
    start = WITHOUT_HTTPTOOLS if request.param == "in Python" else AS_INSTALLED
    with serving(ARTIFACT, *limits, *told, errors=errors, token=TOKEN, start=start) as served:
        yield served


def logged(folder):
    """Return the ids of all complete lines of a decision log; only the last may be cut."""
    found = []
    for path in sorted(folder.glob("decisions*.jsonl")):
        found += [json.loads(line)["id"] for line in path.read_bytes().split(b"\n")[:-1]]
    return found


# --- the artifact


def emptied(folder):
    for path in folder.iterdir():
        path.unlink()


def cut_short(folder):
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:1000])


def one_bit_other(folder):
    graph = folder / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)


def without_graph(folder):
    (folder / "model.onnx").unlink()


def unreadable_manifest(folder):
    (folder / "manifest.json").write_text("{")


def without_golden(folder):
    (folder / "golden.jsonl").unlink()


def a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("no folder")


ACCIDENTS = (
    *(shutil.rmtree, emptied, cut_short, one_bit_other),
    *(without_graph, unreadable_manifest, without_golden, a_file),
)


def test_a_damaged_artifact_leaves_the_previous_one_in_service(tmp_path, errors):
    folder = Path(shutil.copytree(ARTIFACT, tmp_path / "model"))
    with serving(folder, errors=errors, token=TOKEN) as served:
        before = stable(served.decide())
        for number, accident in enumerate(ACCIDENTS, 1):
            accident(folder)
            answer = served.ask("/v1/reload", b"")
            assert answer.status == 409, accident
            assert "stays in service" in answer.json["error"]["message"]
            assert stable(served.decide()) == before
            assert served.metric("querytier_reloads_total", result="failure") == number
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink(missing_ok=True)
            shutil.copytree(ARTIFACT, folder)
        shutil.rmtree(folder)
        shutil.copytree(OTHER, folder)
        assert served.ask("/v1/reload", b"").status == 200
        assert served.decide()["model_version"] != before["model_version"]
        assert served.metric("querytier_reloads_total", result="success") == 1


# --- the decision log's disk


def small_files():
    """Limit the size of files that this process writes, like a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_full_disk_costs_log_lines_and_counts_them(tmp_path, errors):
    log, asked = tmp_path / "log", 45 * 256
    with serving(ARTIFACT, "--log", log, errors=errors, preexec_fn=small_files) as served:
        for number in range(45):
            queries = [f"{number} {turn}" for turn in range(256)]
            decisions = served.result("/v1/decide/batch", {"queries": queries})["decisions"]
            assert {one["reason"] for one in decisions} == {"classifier"}
        assert served.metric("querytier_decisions_total") == asked
        written = served.metric("querytier_log_written_total")
        dropped = served.metric("querytier_log_dropped_total")
        assert served.metric("querytier_log_failed_total") > 0
        assert 0 < written == len(logged(log))
        assert dropped > 0
        assert written + dropped >= asked - LogSettings().buffer
        assert served.metric("querytier_requests_total", status="500") == 0
    told = [json.loads(line) for line in errors.read_text().splitlines()]
    at_the_end = next(
        line["message"] for line in told if "lines of the log are lost" in line["message"]
    )
    assert at_the_end.startswith(f"{asked - written - dropped:.0f} lines")


# --- slow clients


def drip(sockets, sent):
    """Send bytes over each open connection; return the number of open ones."""
    left = 0
    for one in sockets:
        with suppress(OSError):
            one.send(sent)
            left += 1
    return left


def test_slow_clients_are_disconnected_and_delay_nobody(guarded):
    before = open_files(guarded)
    half_body = guarded.head(more="Content-Length: 4000\r\n\r\n") + b"{"
    begun = (b"", b"POST /v1/dec", guarded.head(), half_body)
    slow = [guarded.socket() for _ in range(200)]
    for number, one in enumerate(slow):
        one.sendall(begun[number % 4])
    longest, until = 0.0, time.monotonic() + 1.5
    with closing(guarded.connect()) as connection:
        while time.monotonic() < until:
            drip(slow, b"x")
            started = time.monotonic()
            guarded.decide(connection=connection)
            longest = max(longest, time.monotonic() - started)
    assert longest < 1
    wait_until(lambda: open_files(guarded) <= before + 1)
    for one in slow:
        one.close()


def test_a_client_that_sends_empty_lines_is_disconnected(guarded):
    before = open_files(guarded)
    with guarded.socket() as patient:
        patient.sendall(guarded.head("/v1/outcomes", "Content-Length: 2\r\n\r\n") + b"{}")
        assert patient.recv(65_536)
        with suppress(OSError):
            for _ in range(15):
                patient.sendall(b"\r\n")
                time.sleep(0.1)
        wait_until(lambda: open_files(guarded) <= before)


def test_a_client_that_does_not_read_is_disconnected(guarded):
    request = guarded.head("/openapi.json").replace(b"POST", b"GET") + b"\r\n"
    before = open_files(guarded)
    with guarded.socket() as deaf:
        deaf.settimeout(0.2)
        with suppress(TimeoutError):  # 5,000 answers are more than any buffer holds
            deaf.sendall(request * 5000)
        assert guarded.decide()["reason"] == "classifier"
        assert open_files(guarded) > before
        wait_until(lambda: open_files(guarded) <= before)


# --- malformed bodies and requests

GOOD = {"query": QUERY}
VALUES = [None, True, 0, -1, 1.5, "", "a", [], {}, [[]], [None], {"a": 1}, ["a"], 10**30]


def wrong_bodies():
    """Yield paths with bodies that they have to refuse, each of a different kind."""
    paths = ("/v1/decide", "/v1/decide/batch", "/v1/outcomes", INFER)
    whole = {
        "/v1/decide": GOOD,
        "/v1/decide/batch": {"queries": ["a"]},
        "/v1/outcomes": {"id": "a", "outcome": 1},
        INFER: {"inputs": [{"name": "query", "datatype": "BYTES", "shape": [1], "data": ["a"]}]},
    }
    for path in paths:
        good = json.dumps(whole[path]).encode()
        yield from ((path, good[:cut]) for cut in range(0, len(good), 4))
        yield from ((path, good + more) for more in (b"}", b"{}", b"\x00", b",", b"//"))
        yield from (
            (path, good.decode().encode(code)) for code in ("utf-16", "utf-32", "utf-16-be")
        )
        yield from (
            (path, begin * 2400) for begin in (b"[", b'{"a":', b"[[],", b"-", b"1", b"\xff")
        )
        yield path, b"x" * 6000
        yield path, json.dumps({**whole[path], "query": "x" * 20_000}).encode()
        for value in VALUES:
            if not (path == "/v1/outcomes" and value == []):
                yield path, json.dumps(value).encode()
            for name in whole[path]:
                yield from _with(path, whole[path], name, value)


def _with(path, good, name, value):
    """Yield a good body with one wrong field."""
    fits = {
        "query": lambda one: isinstance(one, str),
        "queries": lambda one: (
            isinstance(one, list)
            and len(one) < 4
            and all(isinstance(each, str) or each == [] for each in one)
        ),
        "id": lambda one: one == "a",
        "outcome": lambda one: type(one) in {int, float} and 0 <= one <= 1,
        "inputs": lambda _: False,
    }
    if not fits[name](value):
        yield path, json.dumps({**good, name: value}).encode()


def wrong_requests(head):
    """Yield bytes that are not a request, or one that must not get a decision."""
    body = json.dumps(GOOD).encode()
    size = b"Content-Length: %d\r\n" % len(body)
    yield from (head + one + b"\r\n" + body for one in (
        b"Content-Length: -1\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: x\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked\r\n" + size,
        size + b"Content-Encoding: gzip\r\n",
        size + b"No colon\r\n",
        size + b"Bad name: x\r\n",
        size + b"X: a\x00b\r\n",
        size + b"X: " + b"x" * 300_000 + b"\r\n",
        b"".join(b"X-%d: %s\r\n" % (n, b"x" * 300) for n in range(1000)) + size,
    ))  # fmt: skip
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    yield from (chunked + one for one in (b"x\r\n", b"-1\r\n", b"5;\x00\r\n", b"2\r\n{}xx\r\n"))
    yield chunked + b"1770\r\n" + b"x" * 6000 + b"\r\n0\r\n\r\n"
    rest = head.partition(b"\r\n")[2]
    for line in (
        b"POST /v1/decide HTTP/x",
        b"POST",
        b"P\xc3\x96ST /v1/decide HTTP/1.1",
        b"BREW /v1/decide HTTP/1.1",
        b"POST /v1/d\xc3\xa9cide HTTP/1.1",
        b"POST /v1/nothing HTTP/1.1",
        b"PUT /v1/decide HTTP/1.1",
        b"POST /" + b"x" * 300_000 + b" HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ):
        yield line + b"\r\n" + rest + size + b"\r\n" + body


def status_of(served, sent):
    """Return the status of the answer to raw bytes."""
    with served.socket() as connection:
        with suppress(ConnectionError):  # what is sent into a closed connection resets it
            connection.sendall(sent)
        try:
            return int(connection.recv(65_536)[9:12])
        except ConnectionError:
            return 0  # closed while it was still sending


def test_hundreds_of_wrong_bodies_are_refused(guarded):
    expected, found = stable(guarded.decide()), Counter()
    kinds = dict.fromkeys(wrong_bodies())
    with closing(guarded.connect()) as connection:
        for path, body in kinds:
            answer = guarded.ask(path, body, connection)
            assert 400 <= answer.status < 500, (path, body[:100])
            assert "error" in answer.json
            assert stable(guarded.decide(connection=connection)) == expected
            found[answer.status] += 1
    assert len(kinds) >= 200
    assert set(found) == {400, 413, 422}
    assert guarded.metric("querytier_requests_total", status="500") == 0


def test_malformed_requests_are_refused(guarded):
    expected = stable(guarded.decide())
    for sent in wrong_requests(guarded.head()):
        status = status_of(guarded, sent)
        assert 400 <= status < 500 or (status == 0 and len(sent) > 5000), sent[:200]
        assert stable(guarded.decide()) == expected
    assert guarded.metric("querytier_requests_total", status="500") == 0


def test_the_token_is_in_no_answer_and_no_log(guarded):
    wrong = f"{TOKEN}-and-more"
    request = f"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {wrong}\r\n\r\n"
    assert status_of(guarded, request.encode()) == 401
    told = [
        guarded.ask(path).content.decode() for path in ("/metrics", "/v1/status", "/openapi.json")
    ]
    assert TOKEN not in guarded.errors.read_text() + "".join(told)


# --- the process


def asking(served, answered, ended=lambda: False):
    """Send requests over one connection until the service is gone; note answers and times."""
    with closing(served.connect()) as connection, suppress(OSError, http.client.HTTPException):
        while not ended():
            found = served.decide(connection=connection)["id"]
            answered.append((time.monotonic(), found))


def test_a_killed_service_loses_only_the_last_moment_of_its_log(tmp_path, errors):
    log, answered = tmp_path / "log", []
    with (
        serving(ARTIFACT, "--log", log, errors=errors) as served,
        ThreadPoolExecutor(20) as threads,
    ):
        for _ in range(20):
            threads.submit(asking, served, answered)
        time.sleep(1)
        killed = time.monotonic()
        served.process.kill()
    found = logged(log)
    assert len(found) == len(set(found))
    assert len(answered) > 100
    lost = [moment for moment, name in answered if name not in set(found)]
    assert all(killed - moment < 0.5 for moment in lost)


@pytest.mark.slow
def test_a_busy_minute_leaks_neither_memory_nor_files(tmp_path, errors):
    log, answered = tmp_path / "log", []
    with serving(ARTIFACT, "--log", log, errors=errors) as served:
        files = open_files(served)
        memory = asyncio.run(busy_minute(served, answered))
        assert served.metric("querytier_decisions_total") == len(answered)
        assert served.metric("querytier_requests_total", path="/v1/decide", status="200") == len(
            answered
        )
        assert served.metric("querytier_log_dropped_total") == 0
        wait_until(lambda: open_files(served) <= files + 2)
    assert memory[1] - memory[0] < 8, f"{memory} MB, {len(answered)} answers"
    assert sorted(logged(log)) == sorted(answered)


async def busy_minute(served, answered, warm=15.0, seconds=60.0):
    """Send requests over a hundred connections; return memory after the warm-up and at the end."""
    end = time.monotonic() + seconds
    body = json.dumps({"query": QUERY}).encode()
    request = served.head(more=f"Content-Length: {len(body)}\r\n\r\n") + body

    async def ask_on():
        reader, writer = await asyncio.open_connection(*served.url[7:].split(":"))
        while time.monotonic() < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            size = int(re.search(rb"content-length: (\d+)", head)[1])
            answered.append(json.loads(await reader.readexactly(size))["id"])
        writer.close()

    async def memories():
        await asyncio.sleep(warm)
        first = resident_mb(served)
        await asyncio.sleep(max(end - time.monotonic() - 1, 0))
        return first, resident_mb(served)

    memory, *_ = await asyncio.gather(memories(), *(ask_on() for _ in range(100)))
    return memory


# --- the clock


@dataclass
class Clock:
    """A clock that a test sets."""

    now: float = 2e9
    hops: list = field(default_factory=lambda: [86_400 * 30, -86_400 * 60, 1, 3600, -5, 86_400])

    def __call__(self):
        """Return the time."""
        return self.now


def test_a_clock_that_jumps_costs_no_line_of_the_log(tmp_path):
    clock = Clock()
    decision = Router.load(ARTIFACT).decide(QUERY)
    with DecisionLog(tmp_path, settings=LogSettings(max_bytes=900), clock=clock) as log:
        names = []
        for hop in clock.hops * 5:
            clock.now += hop
            names += [log.append(decision, QUERY) for _ in range(3)]
            assert log.flush()
    assert (log.written, log.dropped, log.failed) == (len(names), 0, 0)
    assert Counter(logged(tmp_path)) == Counter(names)


CLOCK_PROGRAM = """
import sys, time
from pathlib import Path
from querytier.serve import Router, RouterSettings
from querytier.serve.http.service import DecisionService
from querytier.serve.http.settings import ServiceSettings
router = Router.load(Path(sys.argv[1]), RouterSettings(deadline_ms=5000))
service = DecisionService(ServiceSettings(Path(sys.argv[1])))
real, offset = time.time, 0.0
time.time = lambda: real() + offset
for offset in (0.0, 86_400.0 * 400, -86_400.0 * 400):
    started = time.perf_counter()
    decision = router.decide("Where is my order?")
    assert decision.reason == "classifier", decision
    assert 0 <= decision.latency_ms < 5000 and time.perf_counter() - started < 5
    assert 0 <= service.status()["uptime_s"] < 60
"""


def test_deadlines_latencies_and_uptime_ignore_the_wall_clock():
    subprocess.run([sys.executable, "-c", CLOCK_PROGRAM, ARTIFACT], check=True, timeout=60)


def test_a_certificate_expires_by_the_wall_clock(monkeypatch):
    loaded = Router.load(ARTIFACT)
    router = Router(loaded.classifier, RouterSettings(), certified_until=2e9)

    def reason(now: float) -> str:
        monkeypatch.setattr("querytier.serve.router.time.time", lambda: now)
        decided: Decision = router.decide(QUERY)
        return decided.reason

    lapses = [reason(now) for now in (2e9 - 1, 2e9, 3e9, 1e9)]
    assert lapses == ["classifier", "fallback:certificate", "fallback:certificate", "classifier"]
