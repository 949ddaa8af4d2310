"""Every known schema becomes canonical records, and no record vanishes on the way."""

import base64
import json
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.column_map import FIELDS
from querytier.data.formats.canonical import is_passed_over
from querytier.data.formats.reading import Record, read_records
from querytier.data.formats.recognise import Format, ModelPair, canonical_records, recognise
from querytier.data.model_pair import closest_model
from querytier.data.values import time_in
from querytier.errors import UsageError

# The canonical names of `querytier.data.formats.canonical`.
CANONICAL_FIELDS = {
    *FIELDS,
    *("conversation", "requested_model", "served_model", "provider"),
    *("latency_ms", "status", "tags", "outcomes"),
}
FOLDER = Path(__file__).parents[2] / "fixtures" / "formats"
PAIR = ModelPair("small-1", "large-2")
ROUTELLM_PAIR = ModelPair("small-8x1b-v0.1", "large-2-preview")
FILES = {
    "otel.jsonl": Format.OTEL,
    "openinference.jsonl": Format.OTEL,
    "litellm.jsonl": Format.LITELLM,
    "litellm_spend.jsonl": Format.LITELLM_SPEND,
    "langfuse.jsonl": Format.LANGFUSE,
    "helicone.jsonl": Format.HELICONE,
    "routellm.csv": Format.ROUTELLM,
    "routerbench.csv": Format.ROUTERBENCH,
    "llmrouter.jsonl": Format.LLMROUTER,
}


def read(name, pair=PAIR, scores=None):
    second = scores and read_records(FOLDER / scores)
    return list(canonical_records(read_records(FOLDER / name), FILES[name], pair, second))


def given_record(fields, line=1):
    return Record(line, fields, None, "raw")


def convert(schema, *rows, pair=PAIR):
    records = (given_record(fields, line) for line, fields in enumerate(rows, 1))
    return list(canonical_records(records, schema, pair))


def problems(records):
    return {record.line: record.problem for record in records if record.problem}


@pytest.mark.parametrize(("name", "expected"), FILES.items())
def test_every_record_of_a_schema_is_recognised(name, expected):
    found = {recognise(record.fields) for record in read_records(FOLDER / name) if record.fields}
    assert found == {expected}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": "Hi", "model": "gpt-4", "score": 1.0},
        {"query": "Hi", "model": "gpt-4", "model_name": "gpt-4", "score": 1.0},
        {"prompt": "Hi", "cheap_ok": True, "frontier_ok": False},
        {"prompt": "Hi", "gpt-4": "a long answer", "gpt-3.5": "an answer"},
        {"prompt": "Hi", "gpt-4-0613": True, "gpt-3.5-turbo": True, "user": "u-1"},
        {"id": "1", "trace_id": "t", "type": "question", "start_time": "2026-05-01", "query": "Hi"},
        {"request_id": "1", "model": "gpt-4", "prompt_tokens": 3, "query": "Hi"},
        {"span_id": "1", "attributes": {"http.method": "GET"}, "query": "Hi"},
        {"name": "correct", "trace_id": "t", "value": 1.0, "source": "EVAL"},
    ],
)
def test_a_log_that_only_resembles_a_schema_is_plain(fields):
    assert recognise(fields) is Format.PLAIN


def test_plain_records_pass_unchanged():
    record = given_record({"prompt": "Hi", "score": float("nan")})
    assert next(canonical_records(iter([record]), Format.PLAIN, None)) is record


def test_spans_of_one_request_become_records_of_its_line():
    records = read("otel.jsonl")
    assert records[0].fields == {
        "id": "5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174",
        "time": "2026-05-01T12:00:00.250000+00:00",
        "conversation": "talk-1",
        "query": "Where is parcel 7?",
        "requested_model": "router-auto",
        "served_model": "small-1-2026-01-15",
        "tier": "cheap",
        "provider": "openai",
        "input_tokens": 41,
        "output_tokens": 9,
        "latency_ms": 750.0,
        "status": "ok",
        "propensity": 0.75,
        "outcomes": [
            {"name": "resolved", "value": 1.0, "source": "gen_ai.evaluation.result"},
            {"name": "tone", "value": "curt", "source": "gen_ai.evaluation.result"},
        ],
    }
    assert [(record.line, record.problem) for record in records[1:3]] == [
        (1, "not an LLM call: execute_tool"),
        (1, "not an LLM call: a span of another kind"),
    ]
    assert json.loads(records[2].raw)["spanId"] == "00000000000000ab"
    assert problems(records[3:]) == {6: "query not logged", 7: "no spans", 8: "not JSON"}


def test_old_names_and_protobuf_dumps_of_spans_are_read():
    by_line = {record.line: record.fields for record in read("otel.jsonl") if record.line > 1}
    assert by_line[2] == {
        "id": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "time": "2026-05-01T13:00:00+00:00",
        "conversation": "0af7651916cd43dd8448eb211c80319c",
        "query": "Draft a letter to the tax office about late filing.",
        "requested_model": "large-2",
        "tier": "frontier",
        "provider": "OpenAI",
        "input_tokens": 120,
        "output_tokens": 300,
        "latency_ms": 2500.0,
        "status": "error",
    }
    assert by_line[3]["id"] == "5b8efff798038103d269b633813fc60c-00f067aa0ba902b7"
    assert by_line[3]["query"] == "Grüß Gott, 日本?"
    assert (by_line[3]["input_tokens"], by_line[3]["tier"]) == (5, "frontier")
    assert by_line[4]["query"] == "Is the shop open today?"
    assert "latency_ms" not in by_line[4]
    assert (by_line[5]["query"], by_line[5]["latency_ms"]) == ("Bare spans too?", 1000.0)


def test_openinference_names_are_read():
    records = read("openinference.jsonl")
    assert records[0].fields == {
        "id": f"{1:032x}-{1:016x}",
        "time": "2026-05-02T05:33:20+00:00",
        "conversation": "s-9",
        "query": "What is 12 times 12?",
        "served_model": "small-1",
        "tier": "cheap",
        "provider": "azure",
        "input_tokens": 33,
        "output_tokens": 4,
        "cost": 0.0004,
        "latency_ms": 1500.0,
        "status": "ok",
        "tags": ["maths", "beta"],
    }
    assert records[1].problem == "not an LLM call: CHAIN"
    assert records[2].fields["query"] == "What is on this picture?"
    assert records[3].fields["query"] == "Only the raw input is here."
    assert records[3].fields["requested_model"] == "auto"
    assert records[3].fields["served_model"] == "large-2"


def test_the_arm_of_litellm_is_the_routed_model_and_not_the_alias():
    first, second, third, *_ = read("litellm.jsonl")
    assert first.fields == {
        "id": "chatcmpl-1",
        "time": "2026-05-03T09:20:00.500000+00:00",
        "conversation": "t-1",
        "query": "When do you open?",
        "requested_model": "auto",
        "served_model": "openai/small-1-0301",
        "tier": "cheap",
        "provider": "openai",
        "input_tokens": 18,
        "output_tokens": 7,
        "cost": 0.00021,
        "latency_ms": 1500.0,
        "status": "ok",
        "tags": ["shop", "eu"],
        "policy": "complexity",
    }
    assert second.fields["query"] == "Compare the two contracts."
    assert second.fields["conversation"] == "s-2"
    assert (second.fields["status"], second.fields["cost"]) == ("error", 0.0)
    assert (second.fields["tier"], second.fields["propensity"]) == ("frontier", 0.9)
    assert third.fields["tier"] == "frontier"
    assert not {"cost", "latency_ms", "propensity"} & third.fields.keys()


def test_litellm_calls_without_a_query_have_their_own_problems():
    records = read("litellm.jsonl")
    assert problems(records) == {
        4: "not an LLM call: aembedding",
        5: "query not logged: redacted-by-litellm",
        6: "query empty",
    }
    assert [is_passed_over(record) for record in records] == [False] * 3 + [True] + [False] * 3
    assert records[6].fields["query"] == "Complete: the quick brown"
    assert records[6].fields["tags"] == ["a"]


def test_litellm_spend_rows_have_messages_in_one_of_two_columns():
    records = read("litellm_spend.jsonl")
    assert records[0].fields == {
        "id": "r-1",
        "time": "2026-05-03T08:00:00+00:00",
        "conversation": "s-1",
        "query": "Plan a week in Lisbon.",
        "requested_model": "auto",
        "served_model": "large-2",
        "tier": "frontier",
        "provider": "anthropic",
        "input_tokens": 210,
        "output_tokens": 95,
        "cost": 0.0031,
        "latency_ms": 3250.0,
        "status": "ok",
        "tags": ["travel"],
    }
    assert records[1].fields["query"] == "And in Porto?"
    assert records[1].fields["time"] == "2026-05-03T08:00:00+00:00"
    assert problems(records) == {3: "query not logged"}
    assert records[3].fields["status"] == "error"
    assert "conversation" not in records[3].fields


def test_langfuse_observations_get_their_scores_and_their_traces():
    records = read("langfuse.jsonl", scores="langfuse_scores.jsonl")
    calls = {record.fields["id"]: record.fields for record in records if record.fields}
    assert calls["o-1"] == {
        "id": "o-1",
        "time": "2026-05-04T09:30:00.250000+00:00",
        "conversation": "se-1",
        "query": "How do I reset the router?",
        "served_model": "small-1-2026-01-15",
        "tier": "cheap",
        "input_tokens": 12,
        "output_tokens": 6,
        "cost": 0.0001,
        "latency_ms": 1250.0,
        "status": "ok",
        "tags": ["support"],
        "propensity": 0.5,
        "outcomes": [
            {"name": "correct", "value": 1.0, "source": "EVAL"},
            {"name": "user-feedback", "value": 1.0, "source": "API"},
        ],
    }
    assert calls["o-3"]["outcomes"] == [{"name": "tone", "value": "rude", "source": "ANNOTATION"}]
    assert calls["o-5"]["outcomes"] == [{"name": "correct", "value": 0.25, "source": "EVAL"}]
    assert [record.problem for record in records if record.problem] == [
        "score without a name, a value or a target",
        "not an LLM call: SPAN",
        "query not logged",
        "score without a generation: o-99",
    ]


def test_langfuse_values_that_are_text_and_names_in_camel_case_are_read():
    calls = {
        record.fields["id"]: record.fields for record in read("langfuse.jsonl") if record.fields
    }
    assert calls["o-3"]["query"] == "A JSON string"
    assert (calls["o-3"]["input_tokens"], calls["o-3"]["cost"]) == (30, 0.02)
    assert (calls["o-3"]["tags"], calls["o-3"]["status"]) == (["a", "b"], "error")
    assert not {"latency_ms", "propensity", "outcomes"} & calls["o-3"].keys()
    assert calls["o-5"] == {
        "id": "o-5",
        "time": "2026-05-04T09:31:00+00:00",
        "conversation": "se-4",
        "query": "From the API.",
        "served_model": "large-2",
        "tier": "frontier",
        "input_tokens": 3,
        "output_tokens": 4,
        "cost": 0.5,
        "latency_ms": 2000.0,
    }
    assert calls["o-6"]["query"] == '{"question": "Is {this} a template?"}'


def test_helicone_requests_are_read_if_their_bodies_were_exported():
    records = read("helicone.jsonl")
    assert records[0].fields == {
        "id": "h-1",
        "time": "2026-05-05T07:00:00+00:00",
        "conversation": "hs-1",
        "query": "Translate 'Brot'.",
        "requested_model": "small-1",
        "served_model": "small-1-0301",
        "tier": "cheap",
        "provider": "OPENAI",
        "input_tokens": 9,
        "output_tokens": 2,
        "cost": 0.00001,
        "latency_ms": 420.0,
        "status": "ok",
        "tags": ["team=kitchen", "propensity=0.25"],
        "propensity": 0.25,
        "outcomes": [
            {"name": "feedback_rating", "value": 1.0, "source": "feedback"},
            {"name": "accuracy", "value": 1.0, "source": "score"},
            {"name": "style", "value": 80.0, "source": "score"},
        ],
        "feedback": "thumbs_up",
    }
    assert records[1].fields["query"] == "Explain tides."
    assert (records[1].fields["status"], records[1].fields["cost"]) == ("error", 0.4)
    assert not {"tier", "served_model", "outcomes", "tags", "feedback"} & records[1].fields.keys()
    assert records[5].fields["query"] == "Two parts,\none turn."
    assert records[5].fields["outcomes"][0]["value"] == 0.0
    assert records[5].fields["feedback"] == "thumbs_down"
    assert problems(records) == {
        3: "query not logged",
        4: "not an LLM call: vector_db",
        5: "not an LLM call: embeddings",
    }


def test_routellm_columns_are_the_scores_of_the_pair():
    records = read("routellm.csv", ROUTELLM_PAIR)
    assert [record.fields for record in records if record.fields] == [
        {
            "query": "Which planet is red?\nA. Venus\nB. Mars",
            "cheap_score": 1.0,
            "frontier_score": 1.0,
        },
        {"query": 'Say "no", politely', "cheap_score": 0.0, "frontier_score": 1.0},
        {"query": "[1, 2] as JSON?", "cheap_score": 0.0, "frontier_score": 0.0},
        {"query": "Unjudged by one", "frontier_score": 1.0},
    ]
    assert list(problems(records).values()) == ["prompt missing"]


def test_routerbench_prompts_are_list_literals():
    records = read("routerbench.csv")
    assert records[0].fields == {
        "id": "planets.0",
        "query": 'Which planet is "red"?\nIt\'s one of four.',
        "cheap_score": 1.0,
        "frontier_score": 1.0,
        "cheap_cost": 0.00001,
        "frontier_cost": 0.002,
        "domain": "planets",
    }
    assert records[1].fields["query"] == "Write a letter.\nNow shorten it."
    assert (records[1].fields["cheap_score"], records[1].fields["frontier_score"]) == (0.25, 0.9)
    assert not {"cheap_score", "cheap_cost"} & records[3].fields.keys()
    assert list(problems(records).values()) == [
        "prompt is not a readable list literal",
        "query empty",
    ]


def test_llmrouter_lines_of_a_query_become_one_record():
    records = read("llmrouter.jsonl")
    assert [(record.line, record.fields) for record in records if record.fields] == [
        (
            4,
            {
                "query": "2 + 2?",
                "cheap_score": 1.0,
                "frontier_score": 1.0,
                "cheap_cost": 0.001,
                "frontier_cost": 0.02,
                "domain": "sums",
            },
        ),
        (7, {"query": "17 * 23?", "cheap_score": 0.0, "frontier_score": 1.0, "domain": "sums"}),
    ]
    assert problems(records) == {
        2: "a model outside the pair: other-3",
        5: "the cheap model answered this query before",
        6: "only the frontier model answered this query",
        8: "query missing",
    }


@pytest.mark.parametrize("name", ["routellm.csv", "routerbench.csv", "llmrouter.jsonl"])
@pytest.mark.parametrize("pair", [None, ModelPair("small-1", "unheard-of-9")])
def test_a_table_without_a_pair_of_its_models_is_a_usage_error(name, pair):
    with pytest.raises(UsageError, match=r"(?i)pair|unheard-of-9.*small-.*large-2"):
        read(name, pair)


def test_the_usage_error_names_the_models_of_the_log():
    with pytest.raises(UsageError, match="from: maker/small-1, large-2, other-3"):
        read("routerbench.csv", None)


def test_without_a_pair_there_is_no_tier():
    for name in ("otel.jsonl", "litellm.jsonl", "langfuse.jsonl", "helicone.jsonl"):
        assert not any("tier" in record.fields for record in read(name, None) if record.fields)


@pytest.mark.parametrize(
    ("served", "tier"),
    [({}, "frontier"), ({"gen_ai.response.model": ""}, "frontier")]
    + [
        ({"gen_ai.response.model": model}, tier)
        for model, tier in [("small-1", "cheap"), ("x", None)]
    ],
)
def test_a_span_without_a_served_model_has_the_requested_tier(served, tier):
    attributes = {"gen_ai.request.model": "large-2", "gen_ai.prompt": "Hi", **served}
    [record] = convert(Format.OTEL, {"spanId": "1", "attributes": attributes})
    assert record.fields.get("tier") == tier


def test_the_requested_model_of_a_gateway_gives_no_tier():
    call = {**SEEDS[Format.LITELLM][0], "model": None, "model_group": "large-2", "metadata": None}
    request = {**SEEDS[Format.HELICONE][0], "request_model": "large-2", "response_model": None}
    for schema, row in ((Format.LITELLM, call), (Format.HELICONE, request)):
        [record] = convert(schema, row)
        assert record.fields["requested_model"] == "large-2"
        assert "tier" not in record.fields


SPAN = {"gen_ai.operation.name": "chat", "gen_ai.prompt": "Hi"}
ROUTING = {"routing_decision": {"router_type": "v3"}}


@pytest.mark.parametrize(
    ("schema", "holder", "silent", "stated"),
    [
        (Format.OTEL, "attributes", SPAN, {**SPAN, "querytier.model_version": "v3"}),
        (Format.OTEL, "attributes", SPAN, {**SPAN, "querytier.policy": "v3"}),
        (Format.LITELLM, "metadata", None, ROUTING),
        (Format.LITELLM_SPEND, "metadata", "{}", json.dumps(ROUTING)),
        (Format.HELICONE, "properties", {}, {"policy": "v3"}),
        (Format.LANGFUSE, "metadata", None, {"policy": "v3"}),
    ],
)
def test_the_policy_is_the_one_that_the_log_states(schema, holder, silent, stated):
    row = {**SEEDS[schema][0], "spanId": "1"}
    row.pop("resourceSpans", None)
    [without], [with_policy] = (convert(schema, {**row, holder: held}) for held in (silent, stated))
    assert "policy" not in without.fields
    assert with_policy.fields["policy"] == "v3"


@pytest.mark.parametrize(
    ("rating", "feedback"),
    [(True, "thumbs_up"), ("False", "thumbs_down"), (None, None), (1, None), (5, None), ("", None)],
)
def test_feedback_is_a_rating_that_is_true_or_false(rating, feedback):
    [record] = convert(Format.HELICONE, {**SEEDS[Format.HELICONE][0], "feedback_rating": rating})
    assert record.fields.get("feedback") == feedback


def test_scores_with_another_format_are_a_usage_error():
    with pytest.raises(UsageError, match="langfuse observations and otel spans, not with helicone"):
        read("helicone.jsonl", scores="langfuse_scores.jsonl")


def test_a_pair_of_one_model_is_a_usage_error():
    with pytest.raises(UsageError, match="two different models"):
        ModelPair("large-2", "large-2")


@pytest.mark.parametrize(
    ("model", "names", "closest"),
    [
        ("gpt-4-0613", ["gpt-4", "gpt-4o"], "gpt-4"),
        ("openai/gpt-4o-2024-08-06", ["gpt-4o-mini", "gpt-4o"], "gpt-4o"),
        ("gpt-4o-mini", ["openai/gpt-4o-mini", "openai/gpt-4o"], "openai/gpt-4o-mini"),
        (
            "us.anthropic.claude-3-5-sonnet-20240620-v1:0",
            ["claude-3-5-sonnet", "x"],
            "claude-3-5-sonnet",
        ),
        (
            "anthropic.claude-3-5-sonnet-20240620-v1:0",
            ["claude-3-5-sonnet-20240620", "x"],
            "claude-3-5-sonnet-20240620",
        ),
        ("claude-3-5-sonnet@20240620", ["claude-3-5-sonnet", "claude-3-opus"], "claude-3-5-sonnet"),
        ("gpt-4-1106-preview", ["gpt-4", "gpt-3.5-turbo"], None),
        ("gpt-4", ["gpt-4-0613", "gpt-4-0314"], None),
        ("gpt-4-0613", ["gpt-4-0314", "gpt-3.5-turbo"], None),
        ("azure/gpt-4o", ["openai/gpt-4o", "gpt-4"], None),
        ("gpt-4o", ["openai/gpt-4o", "azure/gpt-4o"], None),
        ("openai/gpt-4o-2024-08-06", ["gpt-4o", "gpt-4o-2024-08-06"], "gpt-4o-2024-08-06"),
        ("Llama-3-70B", ["meta/llama-3-70b", "meta/llama-3-8b"], "meta/llama-3-70b"),
        ("gpt-4", [], None),
    ],
)
def test_a_name_means_a_model_only_if_it_can_mean_no_other(model, names, closest):
    assert closest_model(model, names) == closest


@given(st.sampled_from(["", "openai/", "a/b/"]), st.sampled_from(["", "-0613", "-2024-08-06"]))
def test_prefix_and_version_of_a_served_model_change_no_tier(prefix, version):
    assert ModelPair("gpt-4o-mini", "gpt-4o").tier_of(f"{prefix}gpt-4o{version}") == "frontier"


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8))
def test_hexadecimal_and_base64_ids_are_the_same(trace, span):
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.prompt": "Hi"}
    records = [
        convert(Format.OTEL, {"traceId": trace_id, "spanId": span_id, "attributes": attributes})
        for trace_id, span_id in (
            (trace.hex().upper(), span.hex().upper()),
            (base64.b64encode(trace).decode(), base64.b64encode(span).decode()),
        )
    ]
    assert records[0][0].fields == records[1][0].fields
    assert records[0][0].fields["id"] == f"{trace.hex()}-{span.hex()}"


@given(st.datetimes(timezones=st.timezones()) | st.datetimes())
def test_any_time_is_read_as_utc(moment):
    time = time_in(moment.isoformat())
    if time is not None:
        assert time.utcoffset().total_seconds() == 0
        assert time_in(time.isoformat()) == time
    assert time == time_in(moment)


NAMES = sorted(
    {
        *("resourceSpans", "scopeSpans", "spans", "events", "key", "value", "role", "content"),
        *("parts", "attributes", "stringValue", "arrayValue", "kvlistValue", "values", "name"),
        *("gen_ai.operation.name", "gen_ai.input.messages", "llm.input_messages.0.message.role"),
        *("resourceLogs", "scopeLogs", "logRecords", "eventName", "gen_ai.response.id"),
        *("observation_id", "string_value", "routing_decision", "input", "task_name", "traceId"),
        *(
            name
            for file in ("litellm", "litellm_spend", "langfuse", "helicone", "llmrouter")
            for line in (FOLDER / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
            for name in json.loads(line)
        ),
        *(FOLDER / "routerbench.csv").read_text(encoding="utf-8").splitlines()[0].split(","),
    }
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(
        [
            "chat",
            "GENERATION",
            "user",
            "gen_ai.evaluation.result",
            "{}",
            "[]",
            '"x"',
            "['a']",
            "[" * 2000,
            "9" * 400,
        ]
    )
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3).map(json.dumps)
    ),
    max_leaves=25,
)
ROWS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=12)

SEEDS = {
    schema: [record.fields for record in read_records(FOLDER / name) if record.fields]
    for name, schema in FILES.items()
    if name not in {"openinference.jsonl", "routellm.csv"}
}
SPANS = [
    span
    for fields in SEEDS[Format.OTEL]
    for resource in fields.get("resourceSpans", [])
    for scope in resource["scopeSpans"]
    for span in scope["spans"]
]
SEEDS[Format.OTEL] = [*SEEDS[Format.OTEL], *SPANS]


@given(st.sampled_from(list(Format)), st.lists(ROWS, max_size=4))
def test_any_record_is_converted_or_has_a_problem(schema, rows):
    try:
        records = convert(schema, *rows)
    except UsageError:
        assert schema in {Format.ROUTELLM, Format.ROUTERBENCH, Format.LLMROUTER}
        return
    halves = 2 if schema is Format.LLMROUTER else 1
    assert len(records) * halves >= len(rows)
    for record in records:
        assert (record.fields is None) == bool(record.problem)
        assert 1 <= record.line <= len(rows)
        if record.fields and schema is not Format.PLAIN:
            assert set(record.fields) <= CANONICAL_FIELDS
            assert isinstance(record.fields["query"], str)
            assert record.fields["query"].strip()


@given(st.data(), st.sampled_from(sorted(SEEDS)))
def test_foreign_values_are_converted_or_give_a_problem(data, schema):
    row = dict(data.draw(st.sampled_from(SEEDS[schema])))
    row.update(data.draw(st.dictionaries(st.sampled_from(sorted(row)), VALUES, max_size=3)))
    assert recognise(row) in Format
    try:
        records = convert(schema, row)
    except UsageError:
        assert schema in {Format.ROUTERBENCH, Format.LLMROUTER}
        return
    assert records
    assert all((record.fields is None) == bool(record.problem) for record in records)


@given(ROWS)
def test_recognising_never_fails(fields):
    assert recognise(fields) in Format


def test_records_with_a_problem_pass_unchanged():
    bad = Record(3, None, "not JSON", "{")
    for schema in Format:
        assert list(canonical_records(iter([bad]), schema, PAIR)) == [bad]


def test_json_that_is_nested_too_deeply_is_a_problem():
    deep = {"messages": "x"}
    for _ in range(2000):
        deep = {"messages": deep}
    call = {**SEEDS[Format.LITELLM][0], "messages": deep}
    span = {"spanId": "1", "attributes": {"llm.model_name": "small-1", "input.value": deep}}
    for schema, fields in ((Format.LITELLM, call), (Format.OTEL, span)):
        assert recognise(fields) is schema
        assert [record.problem for record in convert(schema, fields)] == ["nested too deeply"]


def test_records_come_one_by_one():
    def endless():
        for line in count(1):
            model = PAIR.cheap if line % 2 else PAIR.frontier
            fields = {"query": f"{(line + 1) // 2}", "model_name": model, "performance": 1}
            yield given_record(fields, line)

    records = canonical_records(endless(), Format.LLMROUTER, PAIR)
    assert [next(records).line for _ in range(3)] == [2, 4, 6]
