"""OpenTelemetry spans of LLM calls, under the GenAI and the OpenInference names.

Sources: the OpenTelemetry semantic conventions for generative AI, including the names before 1.37
(`gen_ai.system`, `gen_ai.usage.prompt_tokens`, `gen_ai.prompt.0.content`); the OpenInference
specification; OTLP/JSON. A line is an export request with many spans or log records, or one of
them.
"""

from collections.abc import Iterable, Iterator, Mapping

from querytier.data.formats.canonical import (
    NESTED_TOO_DEEPLY,
    NOT_A_CALL,
    UnusableRecordError,
    canonical_fields,
    converted,
    logged_query,
    unusable,
)
from querytier.data.formats.judgements import Judgements
from querytier.data.formats.otel_evaluations import (
    add_evaluation,
    add_evaluations,
    are_log_records,
    evaluations,
    log_records,
    outcomes_in,
    targets_of,
)
from querytier.data.formats.otlp import (
    ENVELOPES,
    Attributes,
    attributes_of,
    children,
    context_of,
    own_record,
    trace_of,
)
from querytier.data.formats.reading import Record
from querytier.data.model_pair import ModelPair
from querytier.data.values import (
    first_present,
    mapping_in,
    milliseconds_between,
    number_in,
    sequence_in,
    text_in,
    time_in,
    whole_number_in,
)

__all__ = ["are_spans", "span_records"]

_CALL_OPERATIONS = ("chat", "completion", "generate_content", "text_completion")
_CALL_NAMES = ("gen_ai.", "llm.", "openinference.")
_ERROR_CODES = (2, "2", "STATUS_CODE_ERROR", "ERROR")


def are_spans(fields: Mapping[str, object]) -> bool:
    """Return whether a record is an OTLP export request, or one span or log record of a call."""
    if any(isinstance(fields.get(name), list) for name in ENVELOPES):
        return True
    has_id = any(name in fields for name in ("spanId", "span_id"))
    return has_id and any(name.startswith(_CALL_NAMES) for name in attributes_of(fields))


def span_records(
    records: Iterator[Record], pair: ModelPair | None, scores: Iterator[Record] | None = None
) -> Iterator[Record]:
    """Yield a record for each span, with the line of its export request and its own raw text.

    The conversation is the one that the span names, or else its session, or else its trace, because
    the calls of one trace share their text. A span that is not an LLM call, and a log record,
    becomes a record with the problem `NOT_A_CALL`, so that it is counted as passed over.

    Evaluations are joined with the spans that come after them. Those that belong to no span come
    last, with that as their problem.

    Memory: all evaluations that are log records, and one line and its spans.
    """
    judgements = evaluations()
    yield from add_evaluations(scores or (), judgements)
    for record in records:
        if record.fields is None or record.problem is not None:
            yield record
            continue
        yield from _records_of(record, record.fields, pair, judgements)
    yield from judgements.unmatched()


def _records_of(
    record: Record, fields: Mapping[str, object], pair: ModelPair | None, judgements: Judgements
) -> Iterator[Record]:
    try:
        logged = [own_record(record, item) for item in log_records(fields)]
        spans = [own_record(record, item) for item in _spans(fields)]
    except RecursionError:
        yield unusable(record, NESTED_TOO_DEEPLY)
        return
    if not spans and not logged:
        yield unusable(record, "no spans")
    # Before the spans of the same line, which may be those that they judge.
    for item in logged:
        yield add_evaluation(item, judgements) or unusable(item, f"{NOT_A_CALL}: an evaluation")
    for span in spans:
        yield converted(span, lambda fields: _span_fields(fields, pair, judgements))


def _spans(fields: Mapping[str, object]) -> Iterator[object]:
    if not any(name in fields for name in ENVELOPES) and not are_log_records(fields):
        yield fields
    for resource in children(fields, "resourceSpans", "resource_spans"):
        for scope in children(resource, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
            yield from children(scope, "spans")


def _span_fields(
    span: Mapping[str, object], pair: ModelPair | None, judgements: Judgements
) -> dict[str, object]:
    attributes = attributes_of(span)
    _check_call(attributes)
    events = [(_name(event), attributes_of(event)) for event in children(span, "events")]
    start = time_in(first_present(span, "startTimeUnixNano", "start_time_unix_nano", "start_time"))
    end = time_in(first_present(span, "endTimeUnixNano", "end_time_unix_nano", "end_time"))
    span_id, response = context_of(span), _text(attributes, "gen_ai.response.id")
    return canonical_fields(
        pair,
        id=span_id,
        time=start,
        conversation=_text(attributes, "gen_ai.conversation.id", "session.id") or trace_of(span),
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
        cost=number_in(first_present(attributes, "llm.cost.total", "gen_ai.usage.cost")),
        latency_ms=milliseconds_between(start, end),
        status=_status(span, attributes),
        tags=[str(tag) for tag in sequence_in(attributes.get("tag.tags"))],
        propensity=number_in(first_present(attributes, "querytier.propensity", "propensity")),
        policy=_text(attributes, "querytier.model_version", "querytier.policy"),
        outcomes=_outcomes(events, judgements.outcomes(*targets_of(span_id, response))),
    )


def _check_call(attributes: Attributes) -> None:
    kind = _text(attributes, "openinference.span.kind")
    operation = _text(attributes, "gen_ai.operation.name", "llm.request.type")
    # OpenInference marks every span, so its kind takes precedence.
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
    """Yield everything that may contain the messages, the current convention first."""
    turns = []
    yield sequence_in(attributes.get("gen_ai.input.messages"))
    for name, of_event in events:
        yield sequence_in(of_event.get("gen_ai.input.messages"))
        yield of_event.get("gen_ai.prompt")
        if name.startswith("gen_ai.") and name.endswith(".message"):
            role = name.removeprefix("gen_ai.").removesuffix(".message")
            turns.append({"role": role, "content": of_event.get("content")})
    yield turns
    yield _numbered(attributes, "llm.input_messages.", "message.")
    yield _numbered(attributes, "gen_ai.prompt.", "")
    yield attributes.get("gen_ai.prompt")
    yield attributes.get("input.value")


def _numbered(attributes: Attributes, before: str, after: str) -> list[Attributes]:
    """Return the mappings that names like `llm.input_messages.0.message.role` flatten."""
    found: dict[int, Attributes] = {}
    for name, value in attributes.items():
        index, _, rest = name.removeprefix(before).partition(".")
        # Short numbers only: int() raises an error for a hostile name with thousands of digits.
        if name.startswith(before) and index.isdecimal() and len(index) < 6:
            found.setdefault(int(index), {})[rest.removeprefix(after)] = value
    for turn in found.values():
        parts = _numbered(turn, "contents.", "message_content.")
        if parts:
            turn["content"] = parts
    return [found[index] for index in sorted(found)]


def _outcomes(
    events: Iterable[tuple[str, Attributes]], logged: Iterable[dict[str, object]]
) -> list[dict[str, object]]:
    """Return all evaluations; one that is both an event and a log record counts once."""
    # Some instrumentations write an evaluation twice, as an event and as a log record.
    outcomes = outcomes_in(events)
    return [*outcomes, *(outcome for outcome in logged if outcome not in outcomes)]


def _status(span: Mapping[str, object], attributes: Attributes) -> str:
    """Return "error" or "ok"; instrumentations do not set the status of successful calls."""
    status = mapping_in(span.get("status"))
    code = first_present(status, "code", "status_code")
    failed = "error.type" in attributes or code in _ERROR_CODES
    return "error" if failed else "ok"


def _text(attributes: Attributes, *names: str) -> str | None:
    return next(filter(None, (text_in(attributes.get(name)) for name in names)), None)


def _count(attributes: Attributes, name: str, old_name: str, kind: str) -> int | None:
    other_names = (f"llm.token_count.{kind}", f"llm.usage.{kind}_tokens")
    return whole_number_in(first_present(attributes, name, old_name, *other_names))


def _name(event: object) -> str:
    name = event.get("name") if isinstance(event, Mapping) else None
    return name if isinstance(name, str) else ""
