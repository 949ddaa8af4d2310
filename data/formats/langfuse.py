"""Langfuse: observations joined with scores.

Source: Langfuse's blob storage export (`observations_v2`, `scores`), and its API, which has the
same names in camel case.
"""

import re
from collections.abc import Iterator, Mapping

from querytier.data.formats.canonical import (
    NOT_A_CALL,
    UnusableRecordError,
    canonical_fields,
    converted,
    logged_query,
    outcomes_of,
)
from querytier.data.formats.judgements import Judgement, Judgements
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

__all__ = ["are_observations", "langfuse_records"]

Fields = Mapping[str, object]

_TYPES = (
    *("GENERATION", "SPAN", "EVENT", "AGENT", "TOOL", "CHAIN", "RETRIEVER"),
    *("EVALUATOR", "EMBEDDING", "GUARDRAIL"),
)
_COSTS = ("total_cost", "totalCost", "calculatedTotalCost", "total")


def are_observations(fields: Fields) -> bool:
    """Return whether a record is an observation: of a known type, in a trace, with a start."""
    named = all(first_present(fields, name, _camel(name)) for name in ("trace_id", "start_time"))
    return named and fields.get("type") in _TYPES


def langfuse_records(
    records: Iterator[Record], pair: ModelPair | None, scores: Iterator[Record] | None
) -> Iterator[Record]:
    """Yield a record for each observation, with its scores and those of its trace as outcomes.

    An observation that is not a generation becomes a record with the problem `NOT_A_CALL`. Scores
    that belong to no generation come last, with that as their problem.

    Memory: all scores, none of the observations.
    """
    judgements = Judgements("score without a generation", _score)
    yield from filter(None, map(judgements.add, scores or ()))
    for record in records:
        yield converted(record, lambda fields: _observation(fields, pair, judgements))
    yield from judgements.unmatched()


def _score(record: Record, fields: Fields) -> Judgement:
    """Return a score of the observation that it names, or else of its trace."""
    target = _text(fields, "observation_id") or _text(fields, "trace_id")
    value, words = fields.get("value"), _get(fields, "string_value")
    is_category = _text(fields, "data_type") in ("CATEGORICAL", "TEXT")
    # A category has a number as well, which is only its place in a list.
    value = words if is_category or value in (None, "") else value
    source = text_in(fields.get("source")) or "langfuse"
    judged = outcomes_of([(fields.get("name"), value, source)])
    if target is None or not judged:
        raise UnusableRecordError("score without a name, a value or a target")
    judgement_id = text_in(fields.get("id")) or repr(judged[0])
    return Judgement(record, (target,), judgement_id, time_in(fields.get("timestamp")), judged[0])


def _observation(
    fields: Fields, pair: ModelPair | None, judgements: Judgements
) -> dict[str, object]:
    """Return the canonical fields of a generation.

    The latency is end minus start: the field `latency` is in seconds or in milliseconds, depending
    on when the export was set up, and does not say which.
    """
    kind = text_in(fields.get("type"))
    if kind != "GENERATION":
        raise UnusableRecordError(f"{NOT_A_CALL}: {kind}")
    query = logged_query(fields.get("input"))
    observation, trace = text_in(fields.get("id")), _text(fields, "trace_id")
    start, end = time_in(_get(fields, "start_time")), time_in(_get(fields, "end_time"))
    # The first names are those of the export, the others those of older versions of the API.
    usage = mapping_in(_get(fields, "usage_details") or fields.get("usage"))
    costs = mapping_in(_get(fields, "cost_details"))
    metadata = mapping_in(fields.get("metadata"))
    return canonical_fields(
        pair,
        id=observation,
        time=start,
        conversation=_text(fields, "session_id") or trace,
        query=query,
        served_model=_text(fields, "provided_model_name") or text_in(fields.get("model")),
        input_tokens=whole_number_in(usage.get("input")),
        output_tokens=whole_number_in(usage.get("output")),
        cost=number_in(first_present({**fields, **costs}, *_COSTS)),
        latency_ms=milliseconds_between(start, end),
        status=_status(text_in(fields.get("level"))),
        tags=[str(tag) for tag in sequence_in(fields.get("tags"))],
        propensity=number_in(metadata.get("propensity")),
        policy=text_in(metadata.get("policy")),
        outcomes=judgements.outcomes(observation, trace),
    )


def _status(level: str | None) -> str | None:
    if level is None:
        return None
    return "error" if level == "ERROR" else "ok"


def _get(fields: Fields, name: str) -> object:
    return first_present(fields, name, _camel(name))


def _text(fields: Fields, name: str) -> str | None:
    return text_in(_get(fields, name))


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match.group(1).upper(), name)
