"""OpenTelemetry spans of LLM calls, under the GenAI and the OpenInference names.

Sources: the OpenTelemetry semantic conventions for generative AI, their names before 1.37
(`gen_ai.system`, `gen_ai.usage.prompt_tokens`, `gen_ai.prompt.0.content`) among them; the
OpenInference specification; OTLP/JSON. A line is an export request, which holds many spans, or one
bare span. Dumps made by protobuf libraries are read too: ids in base64, int64 as text, snake case.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from querytier.data.canonical import (
    NESTED_TOO_DEEPLY,
    NOT_A_CALL,
    UnusableRecordError,
    canonical_fields,
    converted,
    logged_query,
    outcomes_of,
    unusable,
)
from querytier.data.loose_values import (
    first_of,
    mapping_in,
    milliseconds_between,
    number_in,
    sequence_in,
    text_in,
    utc_time,
    whole_number_in,
)
from querytier.data.model_pair import ModelPair
from querytier.data.reading import Record

__all__ = ["are_spans", "span_records"]

Attributes = dict[str, object]

_ENVELOPES = (
    "resourceSpans",
    "resource_spans",
    "resourceLogs",
    "resource_logs",
    "resourceMetrics",
    "resource_metrics",
)
_CALL_OPERATIONS = ("chat", "completion", "generate_content", "text_completion")
_CALL_NAMES = ("gen_ai.", "llm.", "openinference.")
_ERROR_CODES = (2, "2", "STATUS_CODE_ERROR", "ERROR")


def are_spans(fields: Mapping[str, object]) -> bool:
    """Tell whether a record is an OTLP export request, or one span of an LLM call."""
    if any(isinstance(fields.get(name), list) for name in _ENVELOPES):
        return True
    has_id = any(name in fields for name in ("spanId", "span_id"))
    return has_id and any(name.startswith(_CALL_NAMES) for name in _attributes(fields))


def span_records(records: Iterator[Record], pair: ModelPair | None) -> Iterator[Record]:
    """Yield a record a span, of the line of its export request and with its own text as raw.

    The conversation is the one that the span names, else its session, else its trace: the calls of
    one trace share their text. A span that is no LLM call becomes a record with the problem
    `NOT_A_CALL`, so that the spans of a file can be counted; `is_passed_over` knows it.

    Memory: one line and its spans.
    """
    for record in records:
        if record.fields is None or record.problem is not None:
            yield record
            continue
        try:
            spans = [_own_record(record, span) for span in _spans(record.fields)]
        except RecursionError:
            yield unusable(record, NESTED_TOO_DEEPLY)
            continue
        if not spans:
            yield unusable(record, "no spans")
        for span in spans:
            yield converted(span, lambda fields: _span_fields(fields, pair))


def _own_record(record: Record, span: object) -> Record:
    raw = json.dumps(span, ensure_ascii=False, default=str)
    if isinstance(span, dict):
        return Record(record.line, span, None, raw)
    return Record(record.line, None, "not a span", raw)


def _spans(fields: Mapping[str, object]) -> Iterator[object]:
    if not any(name in fields for name in _ENVELOPES):
        yield fields
    for resource in _children(fields, "resourceSpans", "resource_spans"):
        for scope in _children(
            resource, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"
        ):
            yield from _children(scope, "spans")


def _children(parent: object, *names: str) -> Iterator[object]:
    for name in names:
        yield from sequence_in(parent.get(name)) if isinstance(parent, Mapping) else ()


def _span_fields(span: Mapping[str, object], pair: ModelPair | None) -> dict[str, object]:
    attributes = _attributes(span)
    _check_call(attributes)
    events = [(_name(event), _attributes(event)) for event in _children(span, "events")]
    start = _span_time(span, "startTimeUnixNano", "start_time_unix_nano", "start_time")
    end = _span_time(span, "endTimeUnixNano", "end_time_unix_nano", "end_time")
    trace = _hex_id(first_of(span, "traceId", "trace_id"), 16)
    own_id = _hex_id(first_of(span, "spanId", "span_id"), 8)
    return canonical_fields(
        pair,
        id="-".join(part for part in (trace, own_id) if part),
        time=start and start.isoformat(),
        conversation=_text(attributes, "gen_ai.conversation.id", "session.id") or trace,
        query=logged_query(*_inputs(attributes, events)),
        requested_model=_text(attributes, "gen_ai.request.model", "llm.request.model_name"),
        served_model=_text(
            attributes, "gen_ai.response.model", "llm.response.model_name", "llm.model_name"
        ),
        provider=_text(
            attributes, "gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"
        ),
        input_tokens=_count(
            attributes, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "prompt"
        ),
        output_tokens=_count(
            attributes, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "completion"
        ),
        cost=number_in(first_of(attributes, "llm.cost.total", "gen_ai.usage.cost")),
        latency_ms=milliseconds_between(start, end),
        status=_status(span, attributes),
        tags=[str(tag) for tag in sequence_in(attributes.get("tag.tags"))],
        propensity=number_in(first_of(attributes, "querytier.propensity", "propensity")),
        outcomes=_outcomes(events),
    )


def _check_call(attributes: Attributes) -> None:
    kind = _text(attributes, "openinference.span.kind")
    operation = _text(attributes, "gen_ai.operation.name", "llm.request.type")
    if kind is not None:
        is_call = kind.upper() == "LLM"
    elif operation is not None:
        is_call = operation.lower() in _CALL_OPERATIONS
    else:
        is_call = any(
            name in attributes for name in ("gen_ai.request.model", "gen_ai.response.model")
        )
    if not is_call:
        raise UnusableRecordError(f"{NOT_A_CALL}: {kind or operation or 'a span of another kind'}")


def _inputs(attributes: Attributes, events: Iterable[tuple[str, Attributes]]) -> Iterator[object]:
    """Yield what may hold the messages, the present convention first."""
    turns = []
    yield sequence_in(attributes.get("gen_ai.input.messages"))
    for name, said in events:
        yield sequence_in(said.get("gen_ai.input.messages"))
        yield said.get("gen_ai.prompt")
        if name.startswith("gen_ai.") and name.endswith(".message"):
            role = name.removeprefix("gen_ai.").removesuffix(".message")
            turns.append({"role": role, "content": said.get("content")})
    yield turns
    yield _numbered(attributes, "llm.input_messages.", "message.")
    yield _numbered(attributes, "gen_ai.prompt.", "")
    yield attributes.get("gen_ai.prompt")
    yield attributes.get("input.value")


def _numbered(attributes: Attributes, before: str, after: str) -> list[Attributes]:
    """Return the mappings that names like `llm.input_messages.0.message.role` spread out."""
    found: dict[int, Attributes] = {}
    for name, value in attributes.items():
        index, _, rest = name.removeprefix(before).partition(".")
        if name.startswith(before) and index.isdecimal() and len(index) < 6:
            found.setdefault(int(index), {})[rest.removeprefix(after)] = value
    for turn in found.values():
        parts = _numbered(turn, "contents.", "message_content.")
        if parts:
            turn["content"] = parts
    return [found[index] for index in sorted(found)]


def _outcomes(events: Iterable[tuple[str, Attributes]]) -> list[dict[str, object]]:
    result = "gen_ai.evaluation"
    return outcomes_of(
        (
            said.get(f"{result}.name"),
            first_of(said, f"{result}.score.value", f"{result}.score.label"),
            f"{result}.result",
        )
        for name, said in events
        if name == f"{result}.result"
    )


def _status(span: Mapping[str, object], attributes: Attributes) -> str:
    """Return "error" or "ok"; instrumentations leave the status of what went well unset."""
    status = mapping_in(span.get("status"))
    code = first_of(status, "code", "status_code")
    failed = "error.type" in attributes or code in _ERROR_CODES
    return "error" if failed else "ok"


def _attributes(holder: object) -> Attributes:
    """Return the attributes of a span or an event, be they OTLP's list or a mapping."""
    attributes = holder.get("attributes") if isinstance(holder, Mapping) else None
    if isinstance(attributes, Mapping):
        return dict(attributes)
    return dict(_named_values(attributes))


def _named_values(pairs: object) -> Iterator[tuple[str, object]]:
    for item in sequence_in(pairs):
        if isinstance(item, Mapping) and isinstance(item.get("key"), str):
            yield item["key"], _value(item.get("value"))


def _value(value: object) -> object:
    """Return what an OTLP value holds, whatever its type is called."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return None
    kind, content = next(iter(value.items()))
    if kind in ("arrayValue", "array_value"):
        return [_value(item) for item in _children(content, "values")]
    if kind in ("kvlistValue", "kvlist_value"):
        return dict(_named_values(mapping_in(content).get("values")))
    return content


def _hex_id(value: object, size: int) -> str | None:
    """Return an id of `size` bytes as hexadecimal digits; what is neither that nor base64, as is.

    The lengths of the two spellings differ, so none is taken for the other.
    """
    text = text_in(value)
    if text is None or len(text) == 2 * size:
        return text and text.lower()
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text
    return content.hex() if len(content) == size else text


def _span_time(span: Mapping[str, object], *names: str) -> datetime | None:
    """Return a time given in nanoseconds, as a number or as text; else one as any log gives it."""
    value = first_of(span, *names)
    try:
        nanoseconds = int(value) if isinstance(value, str | int | float) else 0
    except (ValueError, OverflowError):
        return utc_time(value)
    if nanoseconds <= 0:
        return None
    seconds, rest = divmod(nanoseconds // 1000, 10**6)
    whole = utc_time(seconds)
    return whole and whole.replace(microsecond=rest)


def _text(attributes: Attributes, *names: str) -> str | None:
    return next(filter(None, (text_in(attributes.get(name)) for name in names)), None)


def _count(attributes: Attributes, name: str, old_name: str, kind: str) -> int | None:
    other_names = (f"llm.token_count.{kind}", f"llm.usage.{kind}_tokens")
    return whole_number_in(first_of(attributes, name, old_name, *other_names))


def _name(event: object) -> str:
    name = event.get("name") if isinstance(event, Mapping) else None
    return name if isinstance(name, str) else ""
