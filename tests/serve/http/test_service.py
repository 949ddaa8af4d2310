"""The HTTP service on loopback, as its clients use it."""

import asyncio
import hashlib
import hmac
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import TypeAdapter

from querytier.classifier.artifact import file_sha256
from querytier.classifier.manifest import dump_manifest, load_manifest
from querytier.data.formats.reading import read_records
from querytier.serve import Router, RouterSettings
from querytier.serve.http.app import application
from querytier.serve.http.metrics import ScoreDrift
from querytier.serve.http.settings import Limits, ServiceSettings
from querytier.serve.http.telemetry import record_span
from querytier.serve.http.wire import DecisionAnswer
from querytier.serve.log.decision_log import DecisionLog
from served import ARTIFACTS, INFER, QUERY, Served, in_this_process, serving, stable, wait_until

TOKEN = "a-token-of-this-test"
POSTED = ["/v1/decide", "/v1/decide/batch", "/v1/outcomes", INFER]


@pytest.fixture(scope="module")
def service(artifact, tmp_path_factory):
    errors = tmp_path_factory.mktemp("service") / "errors.jsonl"
    with serving(artifact, "--log-level", "debug", errors=errors) as served:
        yield served


@pytest.fixture(scope="module")
def guarded():
    """Start a service with a token, and with limits that a test can reach."""
    limits = ["--max-body", 5000, "--max-batch", 3, "--arrival-timeout", 0.5]
    with serving(ARTIFACTS / "format-2", *limits, "--max-concurrency", 2, token=TOKEN) as served:
        yield served


# --- decisions


@pytest.mark.parametrize(
    "query",
    [
        QUERY,
        "",
        " \n\t ",
        "请把这句话翻译成英文。",
        "\U0001f468‍\U0001f469‍\U0001f467 كيف",
        "cut off \ud83d",
        "null\x00bell\x07",
        "x" * 100_000,
        "語" * 100_000,
    ],
)
def test_the_service_decides_like_the_router(service, router, query):
    answer = service.ask("/v1/decide", {"query": query})
    assert answer.status == 200
    assert stable(answer.json) == stable(router.decide(query).to_dict())
    assert re.fullmatch("[0-9a-f]{32}", answer.json["id"])


def test_the_last_user_turn_of_messages_is_decided(service, router):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": [{"type": "text", "text": QUERY}, {"type": "image"}]},
    ]
    answer = service.ask("/v1/decide", {"messages": messages, "id": "my-own"})
    assert stable(answer.json) == stable(router.decide(QUERY).to_dict())
    assert answer.json["id"] == "my-own"
    nobody = service.ask("/v1/decide", {"messages": []})
    assert (nobody.status, nobody.json["reason"]) == (200, "fallback:empty")


def test_a_caller_may_allow_only_one_tier(service):
    for tier, other in [("cheap", "frontier"), ("frontier", "cheap")]:
        for choice in ({"allow": [tier]}, {"deny": [other]}):
            answer = service.ask("/v1/decide", {"query": QUERY, **choice})
            assert answer.json["tier"] == tier
    answer = service.ask("/v1/decide", {"query": QUERY, "deny": ["cheap", "frontier"]})
    assert answer.status == 422
    assert "leave no tier" in answer.json["error"]["message"]


def test_router_settings_apply_with_a_deadline():
    router = RouterSettings(deadline_ms=5000, conversations=9)
    with in_this_process(ServiceSettings(ARTIFACTS / "format-2", router)) as served:

        def decided(**more):
            return served.ask("/v1/decide", {"query": QUERY, "conversation": "talk-1", **more}).json

        assert decided()["reason"] == "classifier"
        assert decided(allow=["frontier"])["tier"] == "frontier"
        assert (decided()["tier"], decided()["reason"]) == ("frontier", "conversation")


def test_a_batch_is_decided_in_order(service, router):
    queries = [
        QUERY,
        "",
        [{"role": "user", "content": "Prove it."}],
        "語" * 9,
        *map(str, range(99)),
    ]
    answer = service.ask("/v1/decide/batch", {"queries": queries})
    decisions = answer.json["decisions"]
    expected = [stable(one.to_dict()) for one in router.decide_many(queries)]
    assert [stable(one) for one in decisions] == expected
    assert len({one["id"] for one in decisions}) == len(queries)
    assert service.ask("/v1/decide/batch", {"queries": []}).json == {"decisions": []}


def test_fifty_connections_get_their_own_answers(service):
    def ask_often(number):
        with closing(service.connect()) as connection:
            for turn in range(6):
                name = f"{number}-{turn}"
                body = {"query": f"{QUERY} {name}", "id": name}
                answer = service.ask("/v1/decide", body, connection)
                assert (answer.status, answer.json["id"]) == (200, name)

    with ThreadPoolExecutor(50) as threads:
        list(threads.map(ask_often, range(50)))


# --- bad requests


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"\xff\xfe{\x00}\x00", 400, "not JSON in UTF-8"),
        (b'{"query": NaN}', 400, "NaN is not a JSON number"),
        (b"[" * 5000, 400, "not JSON"),
        (b"9" * 4990, 400, "not JSON"),
        ({}, 422, "give either query or messages"),
        ({"query": "a", "messages": []}, 422, "give either query or messages"),
        ({"query": 7}, 422, "query: Input should be a valid string"),
        ({"query": "a", "alow": ["cheap"]}, 422, "alow: Extra inputs are not permitted"),
        ({"query": "a", "allow": ["gpt"]}, 422, "allow.0: Input should be 'cheap' or 'frontier'"),
        ({"query": "a", "id": "two\nlines"}, 422, "id: String should match"),
        ({"query": "a", "domain": ""}, 422, "domain: String should have at least 1 character"),
        ({"messages": ["a"]}, 422, "messages.0: Input should be a valid dictionary"),
        ([], 422, "body: Input should be a valid dictionary"),
    ],
)
def test_a_body_that_violates_the_schema_is_refused(guarded, body, status, message):
    answer = guarded.ask("/v1/decide", body)
    assert (answer.status, answer.json["tier"]) == (status, "frontier")
    assert message in answer.json["error"]["message"]


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
ANY_JSON = st.recursive(
    LEAVES | st.sampled_from(["cheap", "frontier", "BYTES", "query"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["query", "messages", "queries", "allow", "id", "inputs", "role"])
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=8,
)
INPUT = st.fixed_dictionaries(
    {"name": st.just("query"), "datatype": st.just("BYTES"), "shape": ANY_JSON, "data": ANY_JSON}
)
BODIES = (
    st.binary(max_size=50)
    | ANY_JSON.map(lambda value: json.dumps(value).encode())
    | ANY_JSON.map(lambda value: json.dumps({"query": "a", "messages": value}).encode()[:-1])
    | st.dictionaries(st.sampled_from(["query", "queries", "messages", "id"]), ANY_JSON).map(
        lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
    | INPUT.map(lambda value: json.dumps({"inputs": [value]}).encode())
)


def test_any_body_gets_an_answer_in_json(guarded):
    with closing(guarded.connect()) as connection:

        @settings(max_examples=200)
        @given(st.sampled_from(POSTED), BODIES)
        def check(path, body):
            answer = guarded.ask(path, body, connection)
            assert answer.status in {200, 400, 404, 409, 422}
            assert (answer.status == 200) == ("error" not in answer.json)

        check()
    assert guarded.metric("querytier_requests_total", status="500") == 0


def test_a_body_beyond_the_limit_is_refused(guarded):
    big = {"query": "x" * 5000}
    announced = guarded.ask("/v1/decide", big)
    assert (announced.status, announced.json["error"]["code"]) == (413, "too_large")
    assert "--max-body" in announced.json["error"]["message"]
    assert guarded.ask("/v1/decide", b"x" * 30_000).status == 413
    head = guarded.head()
    huge = guarded.exchange(head + b"Content-Length: 99999999999\r\n\r\n")
    assert huge.startswith(b"HTTP/1.1 413")
    chunks = b"7d0\r\n" + b"x" * 2000 + b"\r\n"
    chunked = guarded.exchange(
        head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks * 4 + b"0\r\n\r\n"
    )
    assert chunked.startswith(b"HTTP/1.1 413")


def test_too_many_items_in_a_request_are_refused(guarded):
    batch = guarded.ask("/v1/decide/batch", {"queries": ["a"] * 4})
    assert (batch.status, batch.json["error"]["code"]) == (422, "too_many")
    tensor = {"name": "query", "datatype": "BYTES", "shape": [4], "data": ["a"] * 4}
    assert guarded.ask(INFER, {"inputs": [tensor]}).status == 422
    assert guarded.ask("/v1/outcomes", [{"id": "a", "outcome": 1}] * 4).status == 422


def test_a_compressed_body_is_refused(guarded):
    answer = guarded.ask("/v1/decide", b"\x1f\x8b", content_encoding="gzip")
    assert (answer.status, answer.json["error"]["code"]) == (415, "compressed")


def test_slow_requests_are_refused(guarded):
    head = guarded.head()
    slow_body = guarded.exchange(head + b"Content-Length: 99\r\n\r\n{")
    assert slow_body.startswith(b"HTTP/1.1 408")
    assert b"--arrival-timeout" in slow_body
    assert guarded.exchange(head) == b""  # no end of the headers: closed without an answer
    assert guarded.exchange(b"") == b""


def test_headers_beyond_the_limit_are_refused(guarded):
    answer = guarded.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000)
    assert answer[:12] in {b"HTTP/1.1 400", b""}
    assert guarded.ask("/v2/health/live").status == 200


def test_too_many_requests_at_once_get_the_fallback_tier(guarded):
    head = guarded.head()
    half = head + b"Content-Length: 99\r\n\r\n{"
    with ThreadPoolExecutor(2) as threads:
        slow = [threads.submit(guarded.exchange, half) for _ in range(2)]
        while guarded.metric("querytier_requests_in_flight") < 2:
            time.sleep(0.01)
        answer = guarded.ask("/v1/decide", {"query": QUERY})
        assert guarded.ask("/v2/health/ready").status == 200
    assert (answer.status, answer.json["tier"]) == (503, "frontier")
    assert answer.headers["retry-after"] == "1"
    assert all(one.result().startswith(b"HTTP/1.1 408") for one in slow)


def test_unknown_paths_are_answered_in_json(service):
    missing = service.ask("/v1/nothing")
    assert (missing.status, missing.json["error"]["code"]) == (404, "no_endpoint")
    wrong = service.ask("/v1/decide")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


# --- access


def test_only_health_and_page_answer_without_the_token(guarded):
    open_ = Served(guarded.url)
    for path in ("/", "/v2/health/live", "/v2/health/ready"):
        assert open_.ask(path).status == 200
    for path in ("/v1/status", "/metrics", "/openapi.json", "/v2", "/v2/models/querytier"):
        assert open_.ask(path).status == 401
    for shown in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", "Bearer t\xf6ken", TOKEN):
        answer = open_.ask("/v1/decide", {"query": QUERY}, authorization=shown)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    good = open_.ask("/v1/decide", {"query": QUERY}, authorization=f"bearer {TOKEN}")
    assert good.status == 200


def test_foreign_web_pages_cannot_use_a_service_without_token(service):
    host = urlsplit(service.url).netloc
    assert service.ask("/v1/status", origin=f"http://{host}").status == 200
    for headers in (
        {"origin": "https://example.com"},
        {"origin": "null"},
        {"host": "rebound.example.com"},
        {"host": "[", "origin": "http://["},
    ):
        answer = service.ask("/v1/decide", {"query": QUERY}, **headers)
        assert (answer.status, answer.json["error"]["code"]) == (403, "foreign")


def test_reloading_over_http_needs_a_token(service):
    answer = service.ask("/v1/reload", b"")
    assert answer.status == 403
    assert "SIGHUP" in answer.json["error"]["message"]


# --- the Open Inference Protocol


def test_the_inference_protocol_describes_the_model(service, router):
    version = router.classifier.manifest.model_version
    assert service.ask("/v2/health/live").json == {"live": True}
    assert service.ask("/v2/health/ready").json == {"ready": True}
    assert service.ask("/v2").json["extensions"] == ["binary_tensor_data"]
    model = service.ask("/v2/models/querytier").json
    assert model["versions"] == [version]
    assert model["inputs"] == [{"name": "query", "datatype": "BYTES", "shape": [-1]}]
    assert [one["datatype"] for one in model["outputs"]] == ["FP32", "FP32", "BYTES", "BYTES"]
    ready = service.ask("/v2/models/querytier/ready")
    assert ready.json == {"name": "querytier", "ready": True}
    assert isinstance(service.ask("/v2/models/other").json["error"], str)


@pytest.mark.parametrize(("shape", "data"), [([3], "flat"), ([3, 1], "flat"), ([3, 1], "nested")])
def test_tensors_are_decided_like_queries(service, router, shape, data):
    queries = [QUERY, "Prove it 語", ""]
    tensor = {"name": "query", "datatype": "BYTES", "shape": shape, "data": queries}
    if data == "nested":
        tensor["data"] = [[query] for query in queries]
    answer = service.ask(INFER, {"id": "42", "inputs": [tensor]}).json
    assert (answer["id"], answer["model_name"]) == ("42", "querytier")
    outputs = {one["name"]: one["data"] for one in answer["outputs"]}
    decisions = [router.decide(query) for query in queries]
    assert outputs["tier"] == [one.tier for one in decisions]
    assert outputs["reason"] == [one.reason for one in decisions]
    assert outputs["p_frontier"] == [*(one.p_frontier for one in decisions[:2]), 1.0]
    assert outputs["decision_score"] == [*(one.decision_score for one in decisions[:2]), 1.0]


def test_tensors_may_be_bytes_after_the_json(service, router):
    queries = [QUERY.encode(), "語".encode()]
    tail = b"".join(struct.pack("<I", len(query)) + query for query in queries)
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "query",
                    "datatype": "BYTES",
                    "shape": [2],
                    "parameters": {"binary_data_size": len(tail)},
                }
            ],
            "outputs": [
                {"name": "tier", "parameters": {"binary_data": True}},
                {"name": "p_frontier", "parameters": {"binary_data": True}},
            ],
        }
    ).encode()
    answer = service.ask(INFER, head + tail, inference_header_content_length=str(len(head)))
    cut = int(answer.headers["inference-header-content-length"])
    tiers, scores = json.loads(answer.content[:cut])["outputs"]
    content, floats = answer.content[cut:], scores["parameters"]["binary_data_size"]
    expected = [router.decide(query.decode()) for query in queries]
    found = struct.unpack("<2f", content[-floats:])
    assert found == pytest.approx([one.p_frontier for one in expected], abs=1e-6)
    names = b"".join(struct.pack("<I", len(one.tier)) + one.tier.encode() for one in expected)
    assert content[:-floats] == names
    assert tiers["parameters"] == {"binary_data_size": len(names)}
    for length in (str(len(head) - 1), str(10**9), "-1", "x"):
        cut_off = service.ask(INFER, head + tail[:-1], inference_header_content_length=length)
        assert cut_off.status == 400


# --- reports


def test_metrics_and_status_count_decisions():
    with in_this_process(ServiceSettings(ARTIFACTS / "format-2")) as served:
        for query in (QUERY, "Prove it.", ""):
            served.ask("/v1/decide", {"query": query})
        served.ask("/v1/decide", b"nothing")
        for name in ("querytier_decisions_total", "querytier_decision_seconds_count"):
            assert served.metric(name) == 3
        assert served.metric("querytier_decisions_total", reason="fallback:empty") == 1
        assert served.metric("querytier_decision_score_count") == 2
        assert served.metric("querytier_requests_total", path="/v1/decide", status="400") == 1
        assert served.metric("querytier_model_info", decision_score="gain") == 1
        assert served.metric("querytier_certificate_info", status="refused") == 1
        assert served.metric("querytier_requests_in_flight") == 0
        status = served.ask("/v1/status").json
    assert status["traffic"]["decisions"] == 3
    assert status["traffic"]["reasons"] == {"classifier": 2, "fallback:empty": 1}
    assert 0 < status["traffic"]["p50_ms"] <= status["traffic"]["p99_ms"]
    assert status["model"]["decision_score"] == "gain"
    assert status["log"] is None


@settings(max_examples=30)
@given(st.lists(st.floats(-1, 1), min_size=100, max_size=100, unique=True), st.floats(0, 0.5))
def test_scores_that_move_drift_and_others_do_not(scores, shift):
    drift = ScoreDrift(window=100)
    for score in scores:
        drift.add(score)
    assert drift.index is None
    for score in scores:
        drift.add(score)
    assert drift.index == pytest.approx(0)
    for score in scores:
        drift.add(score + shift)
    assert drift.index >= 0
    for _ in scores:
        drift.add(10.0)
    assert drift.index > 1


def test_the_page_connects_only_to_its_own_server(service):
    page = service.ask("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'; connect-src 'self'" in page.headers["content-security-policy"]
    assert not re.search(rb"(?:src|href)=[\"']?(?:https?:)?//", page.content)
    assert b"innerHTML" not in page.content


def test_the_openapi_document_describes_every_endpoint(service):
    document = service.ask("/openapi.json").json
    served = {(path, method) for path, item in document["paths"].items() for method in item}
    assert {("/v1/decide", "post"), ("/v1/outcomes", "post"), (INFER, "post")} < served
    for path, method in sorted(served - {("/v1/reload", "post")}):
        answer = service.ask(path, None if method == "get" else {})
        responses = document["paths"][path][method]["responses"]
        assert str(answer.status) in responses
        media_type = answer.headers["content-type"].split(";")[0]
        assert media_type in responses[str(answer.status)]["content"]
    text = json.dumps(document)
    for name in re.findall(r'"#/components/schemas/(\w+)"', text):
        assert name in document["components"]["schemas"]
    for name in ("Decide", "Batch"):
        assert "domain" in document["components"]["schemas"][name]["properties"]
    decision = service.ask("/v1/decide", {"query": QUERY}).json
    assert TypeAdapter(DecisionAnswer).validate_python(decision).id == decision["id"]
    assert set(document["components"]["schemas"]["DecisionAnswer"]["required"]) == set(decision)


def test_logs_are_json_lines_without_queries(service):
    secret = "a word that is nowhere else: xylophonist"
    name = service.ask("/v1/decide", {"query": secret}).json["id"]
    service.ask("/v1/decide", {"query": 1, secret: 2})
    lines = [json.loads(line) for line in service.errors.read_text("utf-8").splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert [line["reason"] for line in lines if line.get("id") == name] == ["classifier"]
    assert "xylophonist" not in service.errors.read_text("utf-8")


def test_a_decision_is_a_child_span_of_the_caller(router):
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    decision = router.decide(QUERY)
    record_span(provider.get_tracer("test"), decision, {"traceparent": caller}, "talk-1")
    (span,) = spans.get_finished_spans()
    assert format(span.parent.span_id, "016x") == "b7ad6b7169203331"
    assert span.attributes["gen_ai.conversation.id"] == "talk-1"
    assert span.attributes["querytier.tier"] == decision.tier
    assert span.attributes["querytier.reason"] == "classifier"
    assert QUERY not in str(span.attributes)


def test_spans_need_a_tracing_process_and_routers_no_server():
    program = (
        "import sys\n"
        "import querytier.serve\n"
        "heavy = {'starlette', 'uvicorn', 'pydantic', 'prometheus_client', 'opentelemetry'}\n"
        "assert not heavy & set(sys.modules)\n"
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from querytier.serve.http.telemetry import tracer\n"
        "assert tracer() is None\n"
        "trace.set_tracer_provider(TracerProvider())\n"
        "assert tracer() is not None\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# --- the decision log


class FailingLog(DecisionLog):
    """A decision log that a test can make fail."""

    fails = False

    def append(self, *arguments, **options):
        """Queue a decision, or fail."""
        if self.fails:
            raise OSError("no space left on the disk")
        return super().append(*arguments, **options)

    def append_outcome(self, *arguments, **judgement):
        """Queue an outcome, or fail."""
        if self.fails:
            raise OSError("no space left on the disk")
        super().append_outcome(*arguments, **judgement)


def logged(folder, name):
    return [record.fields for record in read_records(folder / name)]


def test_decisions_are_logged_and_survive_a_failing_log(tmp_path):
    log = FailingLog(tmp_path)
    with in_this_process(ServiceSettings(ARTIFACTS / "format-2", log=log)) as served:
        place = {"conversation": "talk-1", "domain": "returns & refunds", "tenant": "shop-7"}
        first = served.ask("/v1/decide", {"query": QUERY, **place}).json
        served.ask("/v1/decide/batch", {"queries": ["a", "b"], "domain": "law"})
        outcomes = [
            {"id": first["id"], "feedback": "thumbs_up"},
            {"id": "x", "outcome": 0.5, "cost": 1},
        ]
        assert served.ask("/v1/outcomes", outcomes).json == {"recorded": 2}
        assert served.ask("/v1/outcomes", {"id": "y", "cost": 0}).json == {"recorded": 1}
        paired = {"id": "z", "cheap_score": 0, "frontier_score": 1.0}
        assert served.ask("/v1/outcomes", paired).json == {"recorded": 1}
        assert log.flush()
        assert served.metric("querytier_log_written_total") == 7
        log.fails = True
        assert served.ask("/v1/decide", {"query": QUERY}).json["reason"] == "classifier"
        assert served.ask("/v1/outcomes", outcomes).status == 503
        assert served.metric("querytier_log_refused_total") == 2
    decisions = logged(tmp_path, "decisions.jsonl")
    names = ("id", "query", "group", "domain", "tenant")
    expected = [first["id"], QUERY, "talk-1", "returns & refunds", "shop-7"]
    assert [decisions[0][name] for name in names] == expected
    assert [one["domain"] for one in decisions[1:]] == ["law", "law"]
    assert [
        {k: v for k, v in one.items() if k != "time"} for one in logged(tmp_path, "outcomes.jsonl")
    ] == [
        {"id": first["id"], "feedback": "thumbs_up"},
        {"id": "x", "outcome": 0.5, "cost": 1.0},
        {"id": "y", "cost": 0.0},
        {"id": "z", "cheap_score": 0.0, "frontier_score": 1.0},
    ]
    log.fails = False
    log.append(Router.load(ARTIFACTS / "format-2").decide("Hi"), "Hi")
    assert log.dropped == 1, "the service has closed it"


@pytest.mark.parametrize(
    "outcome",
    [
        {"id": "a"},
        {"id": "a", "outcome": 2},
        {"id": "a", "cheap_score": 0.5, "frontier_score": -0.1},
        {"id": "a", "cheap_score": "0"},
        {"id": "a", "cost": -1},
        {"id": "a", "feedback": "great"},
        {"id": "", "outcome": 1},
        {"outcome": 1},
    ],
)
def test_an_outcome_without_a_valid_judgement_is_refused(service, outcome):
    assert service.ask("/v1/outcomes", outcome).status == 422
    assert service.ask("/v1/outcomes", [outcome]).status == 422


def test_outcomes_need_a_decision_log(service):
    answer = service.ask("/v1/outcomes", {"id": "a", "outcome": 1})
    assert answer.status == 409
    assert "--log DIR" in answer.json["error"]["message"]


# --- another artifact


def place(folder, name):
    """Replace a folder by another artifact."""
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(ARTIFACTS / name, folder))


def damage(folder):
    """Change a golden vector, so that the artifact does not reproduce it."""
    golden = folder / "golden.jsonl"
    lines = golden.read_text().splitlines()
    vector = json.loads(lines[0])
    lines[0] = json.dumps({**vector, "view": "another one"})
    golden.write_text("\n".join(lines) + "\n")
    manifest = load_manifest((folder / "manifest.json").read_text())
    manifest.files["golden.jsonl"] = file_sha256(golden)
    (folder / "manifest.json").write_text(dump_manifest(manifest))


def test_reloads_under_load_accept_good_artifacts_only(tmp_path):
    folder = place(tmp_path / "model", "format-1")
    old, new = (Router.load(ARTIFACTS / name).decide(QUERY) for name in ("format-1", "format-2"))
    with in_this_process(ServiceSettings(folder, token=TOKEN)) as served:
        ended, seen = threading.Event(), []

        def ask_on():
            with closing(served.connect()) as connection:
                while not ended.is_set():
                    seen.append(served.ask("/v1/decide", {"query": QUERY}, connection))

        with ThreadPoolExecutor(4) as threads:
            asking = [threads.submit(ask_on) for _ in range(4)]
            place(folder, "format-2")
            taken = served.ask("/v1/reload", b"")
            damage(folder)
            refused = served.ask("/v1/reload", b"")
            time.sleep(0.1)
            ended.set()
            for one in asking:
                one.result()
        assert served.metric("querytier_reloads_total", result="success") == 1
        assert served.metric("querytier_reloads_total", result="failure") == 1
    assert taken.json["previous"] == old.model_version
    assert taken.json["model_version"] == new.model_version
    assert taken.json["vectors"] >= 200
    assert refused.status == 409
    assert "golden vector" in refused.json["error"]["message"]
    assert f"model {new.model_version} stays in service" in refused.json["error"]["message"]
    assert {one.status for one in seen} == {200}
    known = [stable(one.to_dict()) for one in (old, new)]
    found = [stable(one.json) for one in seen]
    assert all(one in known for one in found)
    assert found[-1] == known[1]


def test_a_signal_or_a_changed_folder_reloads(tmp_path):
    folder = place(tmp_path / "model", "format-1")
    errors = tmp_path / "errors.jsonl"
    with serving(folder, "--watch", 0.1, errors=errors) as served:

        def version():
            return served.ask("/v1/status").json["model"]["model_version"]

        first = version()
        place(folder, "format-2")
        wait_until(lambda: version() != first)
        before = served.metric("querytier_reloads_total", result="success")
        served.process.send_signal(signal.SIGHUP)
        wait_until(lambda: served.metric("querytier_reloads_total", result="success") > before)
        damage(folder)
        wait_until(lambda: served.metric("querytier_reloads_total", result="failure") >= 1)
        assert served.ask("/v1/decide", {"query": QUERY}).status == 200
    assert "the artifact was refused" in errors.read_text()


# --- the end


def test_every_connection_gets_an_answer_at_sigterm(tmp_path):
    log = tmp_path / "log"
    with serving(ARTIFACTS / "format-2", "--log", log) as served:
        connected = threading.Barrier(51)

        def ask_until_sent_away(number):
            with closing(served.connect()) as connection:
                connection.connect()
                connected.wait()
                for turn in range(100_000):
                    body = json.dumps({"query": QUERY, "id": f"{number}-{turn}"})
                    connection.request("POST", "/v1/decide", body)
                    response = connection.getresponse()
                    assert json.loads(response.read())["id"] == f"{number}-{turn}"
                    if response.will_close:
                        return turn + 1
            raise AssertionError("the service does not end")

        with ThreadPoolExecutor(50) as threads:
            asking = [threads.submit(ask_until_sent_away, number) for number in range(50)]
            connected.wait()
            time.sleep(0.3)
            served.process.terminate()
            answered = sum(one.result() for one in asking)
        served.process.wait(20)
        with pytest.raises(OSError, match="refused"):
            served.ask("/v2/health/live")
    logged = [record.fields["id"] for record in read_records(log / "decisions.jsonl")]
    assert len(logged) == len(set(logged)) == answered > 50


# --- the command line


def test_usage_errors_name_the_cure(call, tmp_path, monkeypatch):
    good = ("serve", "--artifact", ARTIFACTS / "format-2", "--port", 0)
    code, _, err = call("serve", "--artifact", tmp_path / "none", "--port", 0)
    assert (code, "is not a querytier artifact" in err) == (1, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = call("serve", "--artifact", ARTIFACTS / "format-2", "--port", port)
    assert (code, "another program listens there; give another --port" in err) == (2, True)
    for arguments, message in (
        (["--host", "0.0.0.0"], "there is no token; set QUERYTIER_TOKEN"),
        (["--host", "192.0.2.1", "--token-file", __file__], "does not contain a token"),
        (["--token-file", tmp_path / "none"], "cannot be read"),
        (["--explore", 2], "epsilon is 2"),
        (["--explore-band", 0.1], "add --explore EPSILON"),
        (["--deadline-ms", 0], "deadline_ms is 0"),
        (["--max-batch", 0], "batch is 0"),
        (["--log-level", "loud"], "the log level is 'loud'"),
        (["--log", tmp_path / "log", "--log-text", "none"], "text is 'none'"),
        (["--log", Path(__file__) / "log"], "decisions cannot be logged"),
        (["--log", tmp_path / "log", "--log-salt-file", __file__], "add --log-text hash"),
        (["--log-shadow"], "add --shadow DIR"),
        (["--shadow", ARTIFACTS / "format-1", "--log-shadow"], "add --log DIR"),
        (["--shadow", ARTIFACTS / "format-1", "--cost-cheap", -1], "the cost of cheap is -1"),
        (["--tenant-cap", 1.5], "share is 1.5"),
        (["--tenant-cap-untypical"], "add --tenant-cap SHARE"),
        (["--neighbours", tmp_path], "No such option: --neighbours"),
    ):
        code, _, err = call(*good, *arguments)
        assert (code, message in err) == (2, True), err
    monkeypatch.setenv("QUERYTIER_TOKEN", "")
    code, _, err = call(*good)
    assert (code, "QUERYTIER_TOKEN does not contain a token" in err) == (2, True)


def test_shadow_cap_and_salt_work_together(tmp_path):
    salt, log = tmp_path / "salt", tmp_path / "log"
    salt.write_text("pepper\n")
    arguments = [
        *("--shadow", ARTIFACTS / "format-1", "--log-shadow", "--cost-cheap", 1),
        *("--cost-frontier", 10, "--tenant-cap", 0.2, "--tenant-window", 10),
        *("--log", log, "--log-text", "hash", "--log-salt-file", salt),
    ]
    with serving(ARTIFACTS / "format-2", *arguments, token=TOKEN) as served:
        body = {"query": QUERY, "tenant": "shop-7"}
        decided = [served.ask("/v1/decide", body).json for _ in range(12)]
        wait_until(lambda: served.ask("/v1/status").json["shadow"]["compared"] > 0)
        assert served.metric("querytier_shadow_decisions_total") > 0
    assert {one["reason"] for one in decided} <= {"classifier", "cap"}
    lines = [record.fields for record in read_records(log / "decisions.jsonl")]
    salted = hmac.new(b"pepper", QUERY.encode(), hashlib.sha256).hexdigest()
    assert {line["query_sha256"] for line in lines} == {salted}
    assert {line["tenant"] for line in lines} == {"shop-7"}
    assert (log / "shadow.jsonl").exists()


def test_the_help_has_an_example(call):
    code, out, _ = call("serve", "--help")
    assert code == 0
    assert "Example: querytier serve" in re.sub(r"\s+", " ", out)


def test_a_missing_extra_is_named():
    program = (
        "import sys\nsys.modules['starlette'] = None\nfrom querytier.cli.main import main\nmain()\n"
    )
    command = [sys.executable, "-c", program, "serve", "--artifact", str(ARTIFACTS / "format-2")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "pip install 'querytier[serve]'" in answer.stderr


def test_limits_are_above_zero():
    with pytest.raises(ValueError, match="concurrency is 0"):
        Limits(concurrency=0)


def test_an_application_is_made_without_a_running_loop():
    app = application(ServiceSettings(ARTIFACTS / "format-2"))
    asyncio.run(app.state.service.decide_many([]))
    app.state.service.close()
