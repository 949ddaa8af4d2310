"""Canonical log records: one set of names for what gateways and tracers log under many names.

A canonical record is flat. Besides the fields of a column map (`querytier.data.column_map.FIELDS`)
it may have conversation, requested_model, served_model, provider, latency_ms, status, tags and
outcomes. A value that the log does not state is absent, and so is one that cannot be read, such as
a cost of NaN; nothing is made up. A record that cannot be used becomes a `Record` with a problem;
`is_passed_over` tells bad records from those that do not concern the two tiers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from querytier.data.formats.reading import Record
from querytier.data.model_pair import ModelPair
from querytier.data.text_view import last_user_text
from querytier.data.values import first_present, json_in, score_in, text_in

__all__ = [
    "EMPTY_QUERY",
    "HASHED_QUERY",
    "NESTED_TOO_DEEPLY",
    "NOT_A_CALL",
    "NO_DECISION",
    "OTHER_MODEL",
    "UnusableRecordError",
    "canonical_fields",
    "converted",
    "is_passed_over",
    "logged_query",
    "outcomes_of",
    "unusable",
]

NOT_A_CALL = "not an LLM call"
NESTED_TOO_DEEPLY = "nested too deeply"
OTHER_MODEL = "a model outside the pair"
HASHED_QUERY = "query kept as a hash only"
EMPTY_QUERY = "decision without a query"
NO_DECISION = "outcome of no decision in these logs"

_PASSED_OVER = (NOT_A_CALL, OTHER_MODEL, HASHED_QUERY, EMPTY_QUERY, NO_DECISION)

# Where request bodies have the query: chat completions, responses, Gemini, completions.
_QUERY_HOLDERS = ("messages", "input", "contents", "prompt")


class UnusableRecordError(ValueError):
    """A record follows its schema but cannot be used; the message becomes its problem."""


def canonical_fields(
    pair: ModelPair | None, *, alias: str | None = None, **values: object
) -> dict[str, object]:
    """Return the values that are present, and the tier if the pair of models gives it.

    The tier is that of the model that answered or, if the log does not name it, of the requested
    one.

    Parameters
    ----------
    pair : ModelPair or None
    alias : str or None
        The model requested from a gateway; it gives no tier, as the gateway may serve another.
    **values : object
        By canonical name; times as datetimes.

    Examples
    --------
    >>> pair = ModelPair("small", "large")
    >>> canonical_fields(pair, query="Hi", served_model="large", cost=None, tags=[])
    {'query': 'Hi', 'served_model': 'large', 'tier': 'frontier'}
    >>> canonical_fields(pair, requested_model="large"), canonical_fields(pair, alias="large")
    ({'requested_model': 'large', 'tier': 'frontier'}, {'requested_model': 'large'})
    """
    model = values.get("served_model") or values.get("requested_model")
    if pair is not None and isinstance(model, str):
        values["tier"] = pair.tier_of(model)
    # Only after the tier is known, as an alias may stand for either model.
    values.setdefault("requested_model", alias)
    if isinstance(time := values.get("time"), datetime):
        values["time"] = time.isoformat()
    return {name: value for name, value in values.items() if value not in (None, "", [])}


def converted(
    record: Record, canonical_of: Callable[[Mapping[str, object]], dict[str, object]]
) -> Record:
    """Return the record with canonical fields, or with the problem that prevents them."""
    if record.problem is not None or record.fields is None:
        return record
    try:
        return replace(record, fields=canonical_of(record.fields))
    except UnusableRecordError as error:
        return unusable(record, str(error))
    except RecursionError:  # JSON inside JSON text, parsed again and again, ends the stack
        return unusable(record, NESTED_TOO_DEEPLY)


def unusable(record: Record, problem: str) -> Record:
    """Return the record with a problem in place of its fields."""
    return replace(record, fields=None, problem=problem)


def is_passed_over(record: Record) -> bool:
    """Return whether a record does not concern the router, rather than being bad.

    Traces contain tool calls, score tables contain other models, and our own log contains decisions
    whose text it was configured not to keep. Such records are counted, but are no sign of a damaged
    log.
    """
    return (record.problem or "").split(":", 1)[0] in _PASSED_OVER


def logged_query(*contents: object) -> str:
    """Return the text of the last user turn in the first content that has any.

    Parameters
    ----------
    *contents : object
        Text, chat messages (also with OpenTelemetry's or Gemini's `parts`), a request body with
        either, or any of these as JSON text.

    Raises
    ------
    UnusableRecordError
        If there is no content, or its last user turn has no text.

    Examples
    --------
    >>> logged_query(None, '{"messages": [{"role": "user", "content": "Hi"}]}')
    'Hi'
    """
    found = [text for text in map(_query_text, contents) if text is not None]
    query = next(filter(str.strip, found), None)
    if query is None:
        raise UnusableRecordError("query empty" if found else "query not logged")
    return query


def outcomes_of(judged: Iterable[tuple[object, object, str]]) -> list[dict[str, object]]:
    """Return the judgements of an answer, without those that have no name or no value.

    Parameters
    ----------
    judged : iterable of tuple
        Name, value and source of each. Numbers and truth values become numbers, other values text.

    Examples
    --------
    >>> outcomes_of([("thumbs_up", True, "feedback"), ("tone", "rude", "EVAL"), ("x", None, "")])
    [{'name': 'thumbs_up', 'value': 1.0, 'source': 'feedback'}, \
{'name': 'tone', 'value': 'rude', 'source': 'EVAL'}]
    """
    return [
        {"name": text_in(name), "value": text_in(value) if number is None else number, "source": by}
        for name, value, by in judged
        for number in (score_in(value),)
        if text_in(name) and (number is not None or text_in(value))
    ]


def _query_text(content: object) -> str | None:
    """Return the last user text; empty if that turn has none, None without any messages."""
    inner = json_in(content)
    if isinstance(inner, Mapping):
        text = _text_of_mapping(inner)
    elif isinstance(inner, Sequence) and not isinstance(inner, str | bytes):
        text = _text_of_turns(inner)
    elif isinstance(inner, str) and inner:
        return inner if inner == content else _query_text(inner)
    else:
        return None
    # A query that is itself JSON ("fix this: {...}" pasted alone) is text, not a request body.
    is_other_json = text is None and inner and isinstance(content, str)
    return str(content) if is_other_json else text


def _text_of_mapping(body: Mapping[str, object]) -> str | None:
    if "role" in body:
        return _text_of_turns([body])
    texts = (_query_text(body.get(name)) for name in _QUERY_HOLDERS)
    return next((text for text in texts if text is not None), None)


def _text_of_turns(turns: Sequence[object]) -> str | None:
    if len(turns) == 1 and not isinstance(turns[0], Mapping):
        return _query_text(turns[0])
    messages = [_message(turn) for turn in turns if isinstance(turn, Mapping)]
    return last_user_text(messages) if any(turn["role"] for turn in messages) else None


def _message(turn: Mapping[str, object]) -> dict[str, object]:
    """Return a turn of OpenAI, OpenTelemetry, Gemini or LangChain as a chat message."""
    role = turn.get("role") or turn.get("type") or ("user" if "parts" in turn else None)
    content = first_present(turn, "content", "parts")
    if isinstance(content, list):
        content = [_part(part) for part in content]
    return {"role": "user" if role == "human" else role, "content": content}


def _part(part: object) -> object:
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, Mapping) and part.get("type") == "text" and "text" not in part:
        return {"text": part.get("content")}
    return part
