"""Evaluations that OpenTelemetry logs apart from their spans are joined with them, or not lost."""

import base64
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.formats.canonical import is_passed_over
from querytier.data.formats.reading import Record
from querytier.data.formats.recognise import Format, canonical_records, recognise
from querytier.data.ingest.sources import LogSource
from querytier.data.model_pair import ModelPair

PAIR = ModelPair("small-1", "large-2")
EVENT = "gen_ai.evaluation.result"
TRACE = "5b8efff798038103d269b633813fc60c"


def span_id(number):
    return f"{number + 1:016x}"


def otlp(attributes):
    kinds = {str: "stringValue", float: "doubleValue"}
    return [{"key": name, "value": {kinds[type(v)]: v}} for name, v in attributes.items()]


def span(number, response=None, **more):
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.prompt": f"Query {number}?"}
    if response:
        attributes["gen_ai.response.id"] = response
    return {
        "traceId": TRACE,
        "spanId": span_id(number),
        "attributes": otlp(attributes),
        **more,
    }


def evaluation(number=None, name="correct", score=1.0, response=None, **more):
    attributes = {"gen_ai.evaluation.name": name, "gen_ai.evaluation.explanation": "So it is."}
    attributes["gen_ai.evaluation.score." + ("label" if isinstance(score, str) else "value")] = (
        score
    )
    if response:
        attributes["gen_ai.response.id"] = response
    context = {} if number is None else {"traceId": TRACE, "spanId": span_id(number)}
    return {"eventName": EVENT, **context, "attributes": otlp(attributes), **more}


def logs(*records):
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": list(records)}]}]}


def spans(*children):
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(children)}]}]}


def records_of(*lines):
    return (Record(number, fields, None, "raw") for number, fields in enumerate(lines, 1))


def read(*lines, scores=None):
    second = None if scores is None else records_of(*scores)
    return list(canonical_records(records_of(*lines), Format.OTEL, PAIR, second))


def outcome(name="correct", value=1.0):
    return {"name": name, "value": value, "source": EVENT}


def outcomes(records):
    calls = (record.fields for record in records if record.fields)
    return {fields["query"]: fields.get("outcomes", []) for fields in calls}


def problems(records):
    return [record.problem for record in records if record.problem]


def test_evaluations_in_a_second_file_are_outcomes_of_their_spans():
    said = [logs(evaluation(0), evaluation(0, "tone", "curt")), logs(evaluation(1, score=0.0))]
    records = read(spans(span(0), span(1), span(2)), scores=said)
    assert outcomes(records) == {
        "Query 0?": [outcome(), outcome("tone", "curt")],
        "Query 1?": [outcome(value=0.0)],
        "Query 2?": [],
    }
    assert problems(records) == []


def test_evaluations_before_their_spans_are_joined():
    records = read(logs(evaluation(0), {"body": {"stringValue": "started"}}), spans(span(0)))
    assert outcomes(records) == {"Query 0?": [outcome()]}
    assert problems(records) == [
        "not an LLM call: an evaluation",
        "not an LLM call: a log record",
    ]
    assert all(is_passed_over(record) for record in records if record.problem)


def test_an_evaluation_after_its_span_comes_last_in_a_stream():
    records = read(spans(span(0)), logs(evaluation(0)), spans(span(1)))
    assert problems(records)[-1] == f"evaluation without a span: {TRACE}-{span_id(0)}"
    assert (records[-1].line, json.loads(records[-1].raw)) == (2, evaluation(0))
    assert not is_passed_over(records[-1])


def test_a_second_evaluation_after_its_span_is_not_lost():
    records = read(logs(evaluation(0)), spans(span(0)), logs(evaluation(0, "tone", "curt")))
    assert outcomes(records) == {"Query 0?": [outcome()]}
    assert problems(records)[-1].startswith("evaluation without a span")


def test_an_evaluation_names_its_response_if_it_has_no_span():
    said = [logs(evaluation(response="r-1"), evaluation(response="r-9"))]
    records = read(spans(span(0, "r-0"), span(1, "r-1")), scores=said)
    assert outcomes(records) == {"Query 0?": [], "Query 1?": [outcome()]}
    assert problems(records) == ["evaluation without a span: response r-9"]


def test_an_evaluation_judges_the_response_it_names():
    said = [logs(evaluation(1, response="r-0"))]
    judged, judge = span(0, "r-0"), span(1, "r-1")
    assert outcomes(read(spans(judged, judge), scores=said)) == {
        "Query 0?": [outcome()],
        "Query 1?": [],
    }
    unnamed = read(spans(span(1)), scores=said)
    assert outcomes(unnamed) == {"Query 1?": [outcome()]}
    assert problems(unnamed) == []


@pytest.mark.parametrize(
    "again",
    [
        evaluation(0),
        {**evaluation(0), "timeUnixNano": "1777636802000000000"},
        {
            "event_name": EVENT,
            "trace_id": base64.b64encode(bytes.fromhex(TRACE)).decode(),
            "span_id": base64.b64encode(bytes.fromhex(span_id(0))).decode(),
            "attributes": {"gen_ai.evaluation.name": "correct", "gen_ai.evaluation.score.value": 1},
        },
        {
            "traceId": TRACE.upper(),
            "spanId": span_id(0),
            "attributes": otlp(
                {
                    "event.name": EVENT,
                    "gen_ai.evaluation.name": "correct",
                    "gen_ai.evaluation.score.value": "1",
                }
            ),
        },
    ],
)
def test_a_repeated_evaluation_counts_once_in_any_spelling(again):
    assert recognise(again) is recognise(logs(again)) is Format.OTEL
    for said in (logs(evaluation(0), again), logs(again)):
        records = read(spans(span(0)), scores=[said])
        assert outcomes(records) == {"Query 0?": [outcome()]}
    bare = read(spans(span(0)), scores=[evaluation(0), again])
    assert outcomes(bare) == {"Query 0?": [outcome()]}
    event = {"name": EVENT, "attributes": evaluation(0)["attributes"]}
    both = read(spans(span(0, events=[event])), scores=[logs(again)])
    assert outcomes(both) == {"Query 0?": [outcome()]}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (logs(evaluation()), "evaluation without a name, a value or a target"),
        (logs(evaluation(0, "")), "evaluation without a name, a value or a target"),
        (
            logs({**evaluation(), "traceId": "0" * 32, "spanId": "0" * 16}),
            "evaluation without a name, a value or a target",
        ),
        (logs({"eventName": "gen_ai.choice"}), "not an LLM call: gen_ai.choice"),
        (logs("text"), "not a JSON object"),
        (logs(), "no log records"),
        (spans(span(0)), "no log records"),
    ],
)
def test_a_record_that_is_not_an_evaluation_has_a_problem(line, problem):
    assert problems(read(scores=[line])) == [problem]


def test_bad_lines_of_the_second_file_pass_unchanged():
    bad = Record(3, None, "not JSON", "{")
    assert list(canonical_records(iter(()), Format.OTEL, None, iter([bad]))) == [bad]


def test_an_evaluation_that_is_nested_too_deeply_is_a_problem():
    deep = {"stringValue": "x"}
    for _ in range(2000):
        deep = {"arrayValue": {"values": [deep]}}
    attributes = [{"key": "gen_ai.evaluation.name", "value": deep}]
    line = {"eventName": EVENT, "attributes": attributes}
    assert problems(read(scores=[line])) == ["nested too deeply"]
    assert problems(read({"spanId": "1", "attributes": attributes})) == ["nested too deeply"]


LINES = st.lists(
    st.builds(lambda numbers: spans(*map(span, numbers)), st.lists(st.integers(0, 3), max_size=2))
    | st.builds(
        lambda judged: logs(*(evaluation(*of) for of in judged)),
        st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab"), st.just(1.0)), max_size=3),
    ),
    max_size=6,
)


@given(LINES)
def test_in_any_order_an_evaluation_is_an_outcome_or_comes_last(lines):
    records = read(*lines)
    given_ = {
        (item["spanId"], item["attributes"][0]["value"]["stringValue"])
        for line in lines
        for resource in line.get("resourceLogs", [])
        for item in resource["scopeLogs"][0]["logRecords"]
    }
    joined = {
        (record.fields["id"].rpartition("-")[2], said["name"])
        for record in records
        if record.fields
        for said in record.fields.get("outcomes", [])
    }
    left = [
        (item["spanId"], item["attributes"][0]["value"]["stringValue"])
        for item in (
            json.loads(record.raw)
            for record in records
            if (record.problem or "").startswith("evaluation without")
        )
    ]
    assert joined | set(left) == given_
    assert joined.isdisjoint(left)
    assert len(left) == len(set(left))


@given(st.permutations([logs(evaluation(0), evaluation(1)), spans(span(0)), spans(span(1))]))
def test_in_a_file_the_order_of_spans_and_log_records_does_not_matter(lines):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        path.write_text("\n".join(["{", *map(json.dumps, lines)]))
        source = LogSource(path, pair=PAIR, format=Format.OTEL)
        records = list(source.records())
        assert source.columns().paths["query"] == "query"
    assert outcomes(records) == {"Query 0?": [outcome()], "Query 1?": [outcome()]}
    assert sorted(problems(records)) == ["not JSON"] + ["not an LLM call: an evaluation"] * 2
