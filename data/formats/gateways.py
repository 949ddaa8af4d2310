"""Calls as the gateways LiteLLM and Helicone log them.

Sources: LiteLLM's `StandardLoggingPayload` and the table `LiteLLM_SpendLogs` of its proxy;
Helicone's export. Fields with JSON as text are parsed.
"""

import re
from collections.abc import Mapping

from querytier.data.formats.canonical import (
    NOT_A_CALL,
    UnusableRecordError,
    canonical_fields,
    logged_query,
    outcomes_of,
)
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

__all__ = ["helicone_fields", "litellm_fields", "litellm_spend_fields"]

Fields = Mapping[str, object]

# LiteLLM also logs embeddings, images, speech and moderation under `call_type`.
_LITELLM_CALL = re.compile(r"completion|^a?responses$|anthropic_messages|generate_content|pass_thr")
_LITELLM_STATUS = {"success": "ok", "failure": "error"}
_REDACTED = "redacted-by-litellm"
_FEEDBACK = {"true": "thumbs_up", "false": "thumbs_down"}
_HELICONE_SESSION = "Helicone-Session-Id"


def litellm_fields(fields: Fields, pair: ModelPair | None) -> dict[str, object]:
    """Return the canonical fields of a `StandardLoggingPayload`.

    The served model is the one that LiteLLM's router chose (`metadata.routing_decision`), or else
    `model`; `model_group` is the requested alias, and gives no tier. The latency is end minus
    start: `response_time` is the time to the first token if the answer was streamed.

    Raises
    ------
    UnusableRecordError
        If it is not an LLM call, or has no query.
    """
    return _litellm(fields, pair, fields.get("id"), fields.get("response_cost"))


def litellm_spend_fields(fields: Fields, pair: ModelPair | None) -> dict[str, object]:
    """Return the canonical fields of a row of LiteLLM's spend table; raises as `litellm_fields`.

    Recent proxies leave `messages` empty and store the request in `proxy_server_request`.
    """
    return _litellm(fields, pair, fields.get("request_id"), fields.get("spend"))


def helicone_fields(fields: Fields, pair: ModelPair | None) -> dict[str, object]:
    """Return the canonical fields of a request that Helicone logged.

    The requested model gives no tier: the gateway may serve another, which it then names.
    Properties become tags (`name=value`), except the session, which is the conversation. A user's
    rating is the feedback, and also an outcome with the source "feedback"; scores are outcomes with
    the source "score".

    Raises
    ------
    UnusableRecordError
        If it is not an LLM call, or has no query: bodies are only exported on request.
    """
    body = mapping_in(fields.get("request_body"))
    kind = text_in(body.get("_type"))
    if kind or "embeddings" in (text_in(fields.get("request_path")) or ""):
        raise UnusableRecordError(f"{NOT_A_CALL}: {kind or 'embeddings'}")
    properties = mapping_in(first_present(fields, "properties", "request_properties"))
    created = time_in(fields.get("request_created_at"))
    return canonical_fields(
        pair,
        id=text_in(fields.get("request_id")),
        time=created,
        conversation=text_in(properties.get(_HELICONE_SESSION)),
        query=logged_query(body),
        alias=text_in(fields.get("request_model")),
        served_model=text_in(fields.get("response_model")),
        provider=text_in(fields.get("provider")),
        input_tokens=whole_number_in(fields.get("prompt_tokens")),
        output_tokens=whole_number_in(fields.get("completion_tokens")),
        cost=number_in(first_present(fields, "cost", "costUSD")),
        latency_ms=number_in(fields.get("delay_ms")),
        status=_http_status(fields.get("response_status")),
        tags=[f"{name}={properties[name]}" for name in properties if name != _HELICONE_SESSION],
        propensity=number_in(properties.get("propensity")),
        policy=text_in(properties.get("policy")),
        outcomes=_helicone_outcomes(fields),
        feedback=_FEEDBACK.get(str(fields.get("feedback_rating")).strip().lower()),
    )


def _litellm(
    fields: Fields, pair: ModelPair | None, record_id: object, cost: object
) -> dict[str, object]:
    call_type = text_in(fields.get("call_type"))
    if call_type and not _LITELLM_CALL.search(call_type):
        raise UnusableRecordError(f"{NOT_A_CALL}: {call_type}")
    metadata = mapping_in(fields.get("metadata"))
    routing = mapping_in(metadata.get("routing_decision"))
    start, end = time_in(fields.get("startTime")), time_in(fields.get("endTime"))
    return canonical_fields(
        pair,
        id=text_in(record_id),
        time=start,
        conversation=text_in(fields.get("session_id")) or text_in(fields.get("trace_id")),
        query=_litellm_query(fields),
        alias=text_in(fields.get("model_group")),
        served_model=text_in(routing.get("routed_model")) or text_in(fields.get("model")),
        provider=text_in(fields.get("custom_llm_provider")),
        input_tokens=whole_number_in(fields.get("prompt_tokens")),
        output_tokens=whole_number_in(fields.get("completion_tokens")),
        cost=number_in(cost),
        latency_ms=milliseconds_between(start, end),
        status=_LITELLM_STATUS.get(text_in(fields.get("status")) or ""),
        tags=[str(tag) for tag in sequence_in(fields.get("request_tags"))],
        propensity=number_in(first_present({**metadata, **routing}, "propensity")),
        policy=text_in(routing.get("router_type")),
    )


def _litellm_query(fields: Fields) -> str:
    # With message logging off, LiteLLM writes the same fixed text for every query.
    query = logged_query(fields.get("messages"), mapping_in(fields.get("proxy_server_request")))
    if query == _REDACTED:
        raise UnusableRecordError(f"query not logged: {_REDACTED}")
    return query


def _http_status(value: object) -> str | None:
    code = number_in(value)
    if code is None:
        return None
    return "ok" if 200 <= code < 300 else "error"


def _helicone_outcomes(fields: Fields) -> list[dict[str, object]]:
    scores = mapping_in(fields.get("scores")).items()
    given = [
        (name, score.get("value") if isinstance(score, Mapping) else score, "score")
        for name, score in scores
    ]
    return outcomes_of([("feedback_rating", fields.get("feedback_rating"), "feedback"), *given])
