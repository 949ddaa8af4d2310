"""Evaluations of an LLM's answers under OpenTelemetry's names, as span events and as log records.

Source: the event `gen_ai.evaluation.result` of the OpenTelemetry semantic conventions for
generative AI. A log record of it names what it judges by the span that it was written in, or by
`gen_ai.response.id`; the explanation is not kept.
"""

from collections.abc import Iterable, Iterator, Mapping

from querytier.data.formats.canonical import (
    NESTED_TOO_DEEPLY,
    NOT_A_CALL,
    UnusableRecordError,
    outcomes_of,
    unusable,
)
from querytier.data.formats.judgements import Judgement, Judgements
from querytier.data.formats.otlp import (
    ENVELOPES,
    Attributes,
    attributes_of,
    children,
    context_of,
    own_record,
)
from querytier.data.formats.reading import Record
from querytier.data.values import first_present, text_in, time_in

__all__ = [
    "are_log_records",
    "evaluations",
    "log_records",
    "outcomes_in",
    "take",
    "take_one",
    "targets_of",
]

Fields = Mapping[str, object]

_PREFIX = "gen_ai.evaluation"
_EVENT = f"{_PREFIX}.result"
_LOGS = ("resourceLogs", "resource_logs")


def evaluations() -> Judgements:
    """Return a place for evaluations until their spans come."""
    return Judgements("evaluation without a span", _judgement)


def are_log_records(fields: Fields) -> bool:
    """Tell whether a record holds OTLP log records and no spans: an export of them, or one."""
    exported = [name for name in ENVELOPES if fields.get(name)]
    return all(name in _LOGS for name in exported) if exported else _event_name(fields) == _EVENT


def log_records(fields: Fields) -> Iterator[object]:
    """Yield the log records of an export request, or the record that is one by itself."""
    if _event_name(fields) == _EVENT:
        yield fields
    for resource in children(fields, *_LOGS):
        for scope in children(resource, "scopeLogs", "scope_logs"):
            yield from children(scope, "logRecords", "log_records")


def take(records: Iterable[Record], said: Judgements) -> Iterator[Record]:
    """Keep the evaluations in a file of log records; yield with a problem what is none."""
    for record in records:
        if record.fields is None:
            yield record
            continue
        try:
            logged = [own_record(record, item) for item in log_records(record.fields)]
        except RecursionError:
            yield unusable(record, NESTED_TOO_DEEPLY)
            continue
        if not logged:
            yield unusable(record, "no log records")
        yield from filter(None, (take_one(item, said) for item in logged))


def take_one(record: Record, said: Judgements) -> Record | None:
    """Keep an evaluation; return with a problem a log record of another kind, or one in pieces."""
    name = _event_name(record.fields or {})
    if record.fields is not None and name != _EVENT:
        return unusable(record, f"{NOT_A_CALL}: {name or 'a log record'}")
    return said.take(record)


def outcomes_in(events: Iterable[tuple[str, Attributes]]) -> list[dict[str, object]]:
    """Return the evaluations among events, given by name and attributes."""
    return outcomes_of(
        (
            said.get(f"{_PREFIX}.name"),
            first_present(said, f"{_PREFIX}.score.value", f"{_PREFIX}.score.label"),
            _EVENT,
        )
        for name, said in events
        if name == _EVENT
    )


def targets_of(span: str, response: str | None) -> tuple[str, ...]:
    """Return the names by which evaluations may mean a span.

    An evaluation that names a response is not of a span with another response, though it was
    written in it: an LLM that judges has a span of its own.
    """
    by_response = f"response {response}" if response else f"{span} without a response"
    return (by_response, span)


def _judgement(record: Record, fields: Fields) -> Judgement:
    attributes = attributes_of(fields)
    judged = outcomes_in([(_EVENT, attributes)])
    targets = _judged(context_of(fields), text_in(attributes.get("gen_ai.response.id")))
    if not (targets and judged):
        raise UnusableRecordError("evaluation without a name, a value, or what it judges")
    names = ("timeUnixNano", "time_unix_nano", "observedTimeUnixNano", "observed_time_unix_nano")
    time = time_in(first_present(fields, *names))
    return Judgement(record, targets, repr(judged[0]), time, judged[0])


def _judged(context: str, response: str | None) -> tuple[str, ...]:
    """Return the targets of an evaluation; ids of zeros stand for no context."""
    context = context if context.strip("0-") else ""
    if response is None:
        return (context,) if context else ()
    by_context = (f"{context} without a response",) if context else ()
    return (f"response {response}", *by_context)


def _event_name(fields: Fields) -> str | None:
    name = text_in(first_present(fields, "eventName", "event_name"))
    try:
        return name or text_in(attributes_of(fields).get("event.name"))
    except RecursionError:
        return None
