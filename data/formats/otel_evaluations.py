"""Evaluations of an LLM's answers under OpenTelemetry's names, as span events and as log records.

Source: the event `gen_ai.evaluation.result` of the OpenTelemetry semantic conventions for
generative AI. A log record names the answer that it judges by the span in which it was written, or
by `gen_ai.response.id`; the explanation is not kept.
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
    "add_evaluation",
    "add_evaluations",
    "are_log_records",
    "evaluations",
    "log_records",
    "outcomes_in",
    "targets_of",
]

Fields = Mapping[str, object]

_PREFIX = "gen_ai.evaluation"
_EVENT = f"{_PREFIX}.result"
_LOGS = ("resourceLogs", "resource_logs")


def evaluations() -> Judgements:
    """Return an empty collection of evaluations that wait for their spans."""
    return Judgements("evaluation without a span", _judgement)


def are_log_records(fields: Fields) -> bool:
    """Return whether a record is an export of OTLP log records without spans, or one of them."""
    exported = [name for name in ENVELOPES if fields.get(name)]
    return all(name in _LOGS for name in exported) if exported else _event_name(fields) == _EVENT


def log_records(fields: Fields) -> Iterator[object]:
    """Yield the log records of an export request, or the record itself if it is one."""
    if _event_name(fields) == _EVENT:
        yield fields
    for resource in children(fields, *_LOGS):
        for scope in children(resource, "scopeLogs", "scope_logs"):
            yield from children(scope, "logRecords", "log_records")


def add_evaluations(records: Iterable[Record], judgements: Judgements) -> Iterator[Record]:
    """Keep the evaluations in a file of log records; yield all others with a problem."""
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
        yield from filter(None, (add_evaluation(item, judgements) for item in logged))


def add_evaluation(record: Record, judgements: Judgements) -> Record | None:
    """Keep an evaluation; return a record that is not one, or is incomplete, with a problem."""
    name = _event_name(record.fields or {})
    if record.fields is not None and name != _EVENT:
        return unusable(record, f"{NOT_A_CALL}: {name or 'a log record'}")
    return judgements.add(record)


def outcomes_in(events: Iterable[tuple[str, Attributes]]) -> list[dict[str, object]]:
    """Return the evaluations among events, given by name and attributes."""
    return outcomes_of(
        (
            attributes.get(f"{_PREFIX}.name"),
            first_present(attributes, f"{_PREFIX}.score.value", f"{_PREFIX}.score.label"),
            _EVENT,
        )
        for name, attributes in events
        if name == _EVENT
    )


def targets_of(span: str, response: str | None) -> tuple[str, ...]:
    """Return the names by which evaluations may refer to a span.

    An evaluation that names a response does not judge a span with another response, even if it was
    written in that span: an LLM judge has its own span.
    """
    # One text for both cases, so that a lookup by either name is a lookup in one table.
    by_response = f"response {response}" if response else f"{span} without a response"
    return (by_response, span)


def _judgement(record: Record, fields: Fields) -> Judgement:
    attributes = attributes_of(fields)
    judged = outcomes_in([(_EVENT, attributes)])
    targets = _judged(context_of(fields), text_in(attributes.get("gen_ai.response.id")))
    if not (targets and judged):
        raise UnusableRecordError("evaluation without a name, a value or a target")
    names = ("timeUnixNano", "time_unix_nano", "observedTimeUnixNano", "observed_time_unix_nano")
    time = time_in(first_present(fields, *names))
    return Judgement(record, targets, repr(judged[0]), time, judged[0])


def _judged(context: str, response: str | None) -> tuple[str, ...]:
    """Return the targets of an evaluation; ids of zeros mean that there is no span."""
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
