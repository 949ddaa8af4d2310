"""Log formats: which format a record has, and how its records become canonical ones."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import partial

from querytier.data.formats.arena import are_arena_fields, arena_fields
from querytier.data.formats.canonical import converted
from querytier.data.formats.decision_log import are_decisions, decision_records
from querytier.data.formats.gateways import helicone_fields, litellm_fields, litellm_spend_fields
from querytier.data.formats.langfuse import are_observations, langfuse_records
from querytier.data.formats.opentelemetry import are_spans, span_records
from querytier.data.formats.reading import Record
from querytier.data.formats.score_tables import (
    are_llmrouter_fields,
    are_routellm_fields,
    are_routerbench_fields,
    llmrouter_records,
    routellm_fields,
    routerbench_fields,
)
from querytier.data.model_pair import ModelPair
from querytier.errors import UsageError

__all__ = ["Format", "ModelPair", "canonical_records", "recognise"]

Fields = Mapping[str, object]


class Format(StrEnum):
    """A schema of log records; `OTEL` includes OpenInference, whose spans are in the same files."""

    PLAIN = "plain"
    QUERYTIER = "querytier"
    OTEL = "otel"
    LITELLM = "litellm"
    LITELLM_SPEND = "litellm_spend"
    LANGFUSE = "langfuse"
    HELICONE = "helicone"
    ROUTELLM = "routellm"
    ROUTERBENCH = "routerbench"
    LLMROUTER = "llmrouter"
    ARENA = "arena"


def recognise(fields: Fields) -> Format:
    """Return the format of a record, by names (and a few values) that no other format has.

    A record of no known format is plain.

    Examples
    --------
    >>> recognise({"prompt": "Hi", "model": "gpt-4", "score": 1.0}).value
    'plain'
    >>> recognise({"query": "Hi", "model_name": "gpt-4", "performance": 1.0}).value
    'llmrouter'
    """
    return next((schema for schema, holds in _MARKS if holds(fields)), Format.PLAIN)


def canonical_records(
    records: Iterator[Record],
    format: Format,  # noqa: A002 named like the option
    pair: ModelPair | None,
    scores: Iterator[Record] | None = None,
    elsewhere: Iterable[Record] | None = (),
) -> Iterator[Record]:
    """Yield records whose fields have the names of `querytier.data.formats.canonical`.

    Records are streamed; `llmrouter_records`, `langfuse_records`, `span_records` and
    `decision_records` state what they keep in memory. No record is lost: each yields at least one
    (two halves of LLMRouter's together yield one), and a record that cannot be used comes with a
    problem, its line number and its text. Plain records are unchanged.

    Parameters
    ----------
    records : iterator of Record
        Records with a problem are passed on unchanged.
    format : Format
    pair : ModelPair or None
        Required for tables of models' scores and votes of the arena; otherwise it gives the tier of
        the model that answered.
    scores : iterator of Record, optional
        Langfuse's scores, from the second file of its export; OpenTelemetry's evaluations, if log
        records are exported to a separate file; the outcomes of our own decisions.
    elsewhere : iterable of Record or None
        The other files of our own decisions, as in `decision_records`.

    Raises
    ------
    UsageError
        If scores are given with another format, or a table of models' scores or votes without a
        pair of its models.
    """
    if scores is not None and format not in (Format.LANGFUSE, Format.OTEL, Format.QUERYTIER):
        raise UsageError(
            "scores are joined with querytier decisions, langfuse observations and otel spans, not "
            f"with {format.value}"
        )
    match format:
        case Format.PLAIN:
            return records
        case Format.QUERYTIER:
            return decision_records(records, scores, elsewhere)
        case Format.OTEL:
            return span_records(records, pair, scores)
        case Format.LANGFUSE:
            return langfuse_records(records, pair, scores)
        case Format.LLMROUTER:
            return llmrouter_records(records, pair)
        case _:
            make = partial(_FIELD_MAKERS[format], pair=pair)
            return (converted(record, make) for record in records)


def _are_litellm(fields: Fields) -> bool:
    return {"id", "call_type", "response_cost", "startTime", "model"} <= fields.keys()


def _are_litellm_spend(fields: Fields) -> bool:
    return {"request_id", "spend", "startTime", "model"} <= fields.keys()


def _are_helicone(fields: Fields) -> bool:
    named = {"request_body", "response_status", "delay_ms", "request_model"} & fields.keys()
    return {"request_id", "request_created_at"} <= fields.keys() and len(named) >= 2


# From the most to the least specific: the first match is the format.
_MARKS: tuple[tuple[Format, Callable[[Fields], bool]], ...] = (
    (Format.QUERYTIER, are_decisions),
    (Format.OTEL, are_spans),
    (Format.LITELLM, _are_litellm),
    (Format.LITELLM_SPEND, _are_litellm_spend),
    (Format.LANGFUSE, are_observations),
    (Format.HELICONE, _are_helicone),
    (Format.ROUTERBENCH, are_routerbench_fields),
    (Format.LLMROUTER, are_llmrouter_fields),
    (Format.ARENA, are_arena_fields),
    (Format.ROUTELLM, are_routellm_fields),
)
_FIELD_MAKERS = {
    Format.LITELLM: litellm_fields,
    Format.LITELLM_SPEND: litellm_spend_fields,
    Format.HELICONE: helicone_fields,
    Format.ROUTELLM: routellm_fields,
    Format.ROUTERBENCH: routerbench_fields,
    Format.ARENA: arena_fields,
}
