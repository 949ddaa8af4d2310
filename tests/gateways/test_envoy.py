"""Envoy itself, on loopback, with querytier as its external processor and two upstreams."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.checkout,
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("envoy"), reason="no Envoy here: make gateway-test"),
]

EXAMPLES = Path(__file__).parents[2] / "examples"
KEY = "sk-stub-of-the-tests"
DELAY = 1.0  # seconds that the frontier model takes


@pytest.fixture(scope="module")
def upstreams(free_port, serving):
    """Start the stub models of both tiers; return their ports."""
    ports = {}
    for tier, delay in {"cheap": 0, "frontier": DELAY}.items():
        ports[tier] = free_port()
        command = ["python", EXAMPLES / "stub_models.py", "--name", tier, "--key", KEY]
        serving([*command, "--delay", delay, "--port", ports[tier]], ports[tier])
    return ports


@pytest.fixture(scope="module")
def started(upstreams, decides, free_port, serving, tmp_path_factory):
    """Start a processor, then Envoy; return Envoy's address and the processor."""

    def stack(*, processed=True):
        port, processor_port, processor = free_port(), free_port(), None
        if processed:
            command = ["python", EXAMPLES / "envoy" / "ext_proc.py", decides, "--port"]
            processor = serving([*command, processor_port], processor_port)
        config = tmp_path_factory.mktemp("envoy") / "envoy.yaml"
        text = (EXAMPLES / "envoy" / "envoy.yaml").read_text()
        ports = {10000: port, 50051: processor_port}
        ports |= {8901: upstreams["cheap"], 8902: upstreams["frontier"]}
        for old, new in ports.items():
            text = text.replace(f"port_value: {old} ", f"port_value: {new} ")
        config.write_text(text)
        command = ["envoy", "-c", config, "--disable-hot-restart", "--concurrency", 1]
        serving(command, port)
        return f"http://127.0.0.1:{port}", processor

    return stack


@pytest.fixture(scope="module")
def envoy(started):
    return started()[0]


@pytest.fixture(scope="module")
def ask(post):
    """Ask the frontier model for an answer; return the upstream and the model that give it."""

    def asked(address, query, model="large-model", **headers):
        body = {"model": model, "temperature": 0, "messages": [{"role": "user", "content": query}]}
        status, answer = send(address, json.dumps(body).encode(), **headers)
        assert status == 200, answer
        upstream, model, *_ = answer["choices"][0]["message"]["content"].split(" ")
        return upstream.removesuffix(":"), model

    def send(address, body, **headers):
        headers = {"authorization": f"Bearer {KEY}"} | headers
        status, _, answer = post(f"{address}/v1/chat/completions", body, headers)
        return status, json.loads(answer)

    asked.send = send
    return asked


def test_a_query_reaches_the_upstream_of_its_tier_with_its_model(envoy, ask, queries):
    assert ask(envoy, queries["cheap"]) == ("cheap", "small-model")
    assert ask(envoy, queries["frontier"]) == ("frontier", "large-model")


def test_a_request_for_the_cheap_model_gets_it(envoy, ask, queries):
    assert ask(envoy, queries["frontier"], model="small-model") == ("cheap", "small-model")


def test_a_client_cannot_name_the_tier_by_a_header(envoy, ask, queries):
    headers = {"x-querytier-tier": "cheap"}
    assert ask(envoy, queries["frontier"], **headers) == ("frontier", "large-model")
    assert ask(envoy, "", **headers) == ("frontier", "large-model")


def test_a_body_of_several_megabytes_arrives_completely(envoy, ask, queries):
    query = f"{queries['cheap']} " + "x" * 3_000_000
    assert ask(envoy, query)


def test_a_body_sent_in_chunks_is_decided_too(envoy, ask, queries):
    body = {"model": "large-model", "messages": [{"role": "user", "content": queries["cheap"]}]}
    status, answer = ask.send(envoy, iter([json.dumps(body).encode()]))
    assert (status, answer["model"]) == (200, "small-model")


@pytest.mark.parametrize(
    "body", [b"no JSON", b"[]", b"{}", b'{"model": "large-model"}', b"[" * 9999]
)
def test_other_requests_reach_the_frontier_upstream_unchanged(envoy, ask, body):
    status, answer = ask.send(envoy, body)
    assert status == 400
    assert answer["error"]["message"].startswith("not a chat request")


def test_slow_answers_do_not_delay_decisions(envoy, ask, queries):
    """More streams are open at once than a pool of threads has."""
    with ThreadPoolExecutor(40) as clients:
        waiting = [clients.submit(ask, envoy, queries["frontier"]) for _ in range(40)]
        time.sleep(DELAY / 2)
        assert ask(envoy, queries["cheap"]) == ("cheap", "small-model")
        assert {future.result() for future in waiting} == {("frontier", "large-model")}


def test_without_a_processor_all_requests_reach_the_frontier_upstream(started, ask, queries):
    address, _ = started(processed=False)
    for query in queries.values():
        assert ask(address, query) == ("frontier", "large-model")


def test_the_frontier_upstream_answers_after_a_processor_dies(started, ask, queries):
    address, processor = started()
    assert ask(address, queries["cheap"]) == ("cheap", "small-model")
    processor.kill()
    processor.wait(timeout=10)
    assert ask(address, queries["cheap"]) == ("frontier", "large-model")


def test_envoy_does_not_wait_for_a_processor_that_hangs(started, ask, queries):
    address, processor = started()
    assert ask(address, queries["cheap"]) == ("cheap", "small-model")
    processor.send_signal(signal.SIGSTOP)
    try:
        began = time.perf_counter()
        assert ask(address, queries["cheap"]) == ("frontier", "large-model")
        assert time.perf_counter() - began < DELAY + 2
    finally:
        processor.send_signal(signal.SIGCONT)
    assert _eventually(lambda: ask(address, queries["cheap"]) == ("cheap", "small-model"))


def _eventually(holds, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
    return False
