"""Bodies of requests and answers, which check the requests and define `/openapi.json`."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from querytier.classifier.threshold import Tier
from querytier.data.label_rules import Feedback
from querytier.serve.choices import allowed_tiers
from querytier.serve.decision import Decision, DecisionRequest, Query, Reason

__all__ = [
    "BATCH",
    "DECIDE",
    "OUTCOMES",
    "Batch",
    "BatchAnswer",
    "Decide",
    "DecisionAnswer",
    "ErrorAnswer",
    "Outcome",
    "OutcomesAnswer",
    "Refusal",
    "ReloadAnswer",
    "parse",
]

_Any = TypeVar("_Any")
# Identifiers come back in logs and headers: only characters that are safe in both are allowed.
Name = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]
# A domain comes from logs, where it may be any text; it is never sent in a header.
Domain = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Messages = Annotated[list[dict[str, Any]], Field(max_length=10_000)]
Tiers = Annotated[list[Tier], Field(min_length=1, max_length=2)]
KnownReason = Annotated[
    str, Field(description="New values may be added.", examples=list(get_args(Reason)))
]
Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Share = Annotated[Finite, Field(ge=0, le=1)]
Cost = Annotated[Finite, Field(ge=0)]


# These repeat the rules of the validators below for readers of /openapi.json: a JSON schema cannot
# call Python.
_LEAVES_A_TIER: dict[str, Any] = {
    "anyOf": [
        {
            "properties": {
                "allow": {"anyOf": [{"type": "null"}, {"contains": {"const": tier}}]},
                "deny": {"anyOf": [{"type": "null"}, {"not": {"contains": {"const": tier}}}]},
            }
        }
        for tier in get_args(Tier)
    ]
}
_HAS_ONE_QUERY: dict[str, Any] = {
    "oneOf": [
        {"required": [name], "properties": {name: {"type": kind}, other: {"type": "null"}}}
        for name, kind, other in (("query", "string", "messages"), ("messages", "array", "query"))
    ]
}
_JUDGEMENT = (
    *("outcome", "feedback", "cost"),
    *("cheap_score", "frontier_score", "cheap_cost", "frontier_cost"),
)
_HAS_A_JUDGEMENT: dict[str, Any] = {
    "anyOf": [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in _JUDGEMENT
    ]
}


class Refusal(Exception):  # noqa: N818 an answer of the service, not a failure of it
    """A request that the service refuses.

    Parameters
    ----------
    status : int
        The HTTP status, 4xx or 503.
    code : str
        One word for programs.
    message : str
        What was wrong, the value, and the cure; for people.
    close : bool
        Whether to close the connection, because the rest of the request is not read.
    """

    def __init__(self, status: int, code: str, message: str, *, close: bool = False) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.message, self.close = message, close


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Options(_Body):
    allow: Tiers | None = Field(None, description="Tiers that may answer.")
    deny: Tiers | None = Field(None, description="Tiers that may not answer.")
    domain: Domain | None = Field(None, description="Domain, for certificates of single domains.")
    tenant: Name | None = Field(None, description="Name of the tenant, for the tenant cap.")

    @model_validator(mode="after")
    def _leaves_a_tier(self) -> Self:
        _ = self.allowed
        return self

    @cached_property
    def allowed(self) -> tuple[Tier, ...] | None:
        """Tiers that the caller accepts, or None; computed once, by the validator."""
        return allowed_tiers(self.allow, self.deny)

    def _request(self, query: Query, **more: str | None) -> DecisionRequest:
        return DecisionRequest(query, self.allowed, domain=self.domain, tenant=self.tenant, **more)


class Decide(_Options):
    """One query, or chat messages of which the last user turn is the query."""

    model_config = ConfigDict(json_schema_extra={**_LEAVES_A_TIER, **_HAS_ONE_QUERY})

    query: str | None = None
    messages: Messages | None = Field(None, description="Objects with role and content.")
    conversation: Name | None = Field(None, description="Name of the conversation.")
    id: Name | None = Field(None, description="Id of the decision; generated if omitted.")

    @model_validator(mode="after")
    def _has_one_query(self) -> Self:
        if (self.query is None) == (self.messages is None):
            raise ValueError("give either query or messages")
        return self

    @property
    def request(self) -> DecisionRequest:
        """The request, for the router."""
        query = self.query if self.query is not None else self.messages or []
        return self._request(query, conversation=self.conversation, id=self.id)


class Batch(_Options):
    """Many queries, each a text or chat messages; the options apply to all of them."""

    model_config = ConfigDict(json_schema_extra=_LEAVES_A_TIER)

    queries: list[str | Messages]

    @property
    def requests(self) -> list[DecisionRequest]:
        """The requests, for the router, in order."""
        return [self._request(query) for query in self.queries]


class Outcome(_Body):
    """The outcome of a decision; both scores and costs if both tiers were asked."""

    model_config = ConfigDict(json_schema_extra=_HAS_A_JUDGEMENT)

    id: Name = Field(description="Id of the decision.")
    outcome: Share | None = Field(None, description="Quality of the answer.")
    feedback: Feedback | None = None
    cost: Cost | None = Field(None, description="Cost of the answer.")
    cheap_score: Share | None = Field(None, description="Quality of the cheap answer.")
    frontier_score: Share | None = Field(None, description="Quality of the frontier answer.")
    cheap_cost: Cost | None = Field(None, description="Cost of the cheap answer.")
    frontier_cost: Cost | None = Field(None, description="Cost of the frontier answer.")

    @model_validator(mode="after")
    def _has_a_judgement(self) -> Self:
        if not self.judgement:
            raise ValueError(f"give at least one of {', '.join(_JUDGEMENT)}")
        return self

    @property
    def judgement(self) -> dict[str, Any]:
        """The given fields except the id, as `DecisionLog.append_outcome` takes them."""
        return self.model_dump(exclude={"id"}, exclude_none=True)


@dataclass(frozen=True)
class DecisionAnswer(Decision):
    """A decision, and the id for its outcome to refer to."""

    threshold: float | None  # type: ignore[assignment]  # JSON has no infinity
    reason: KnownReason  # type: ignore[assignment]  # clients must accept reasons added later
    audit: bool = field(kw_only=True)
    audit_propensity: float = field(kw_only=True)
    id: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The decisions, in the order of the queries."""

    decisions: list[DecisionAnswer]


@dataclass(frozen=True, slots=True)
class OutcomesAnswer:
    """Number of outcomes passed to the decision log."""

    recorded: int


@dataclass(frozen=True, slots=True)
class ReloadAnswer:
    """The new model, the previous one, and the number of golden vectors reproduced."""

    model_version: str
    previous: str
    vectors: int


@dataclass(frozen=True, slots=True)
class _Error:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """The reason for a refusal, and the tier to use in the meantime."""

    error: _Error
    tier: Tier


DECIDE = TypeAdapter(Decide)
BATCH = TypeAdapter(Batch)
OUTCOMES: TypeAdapter[Outcome | list[Outcome]] = TypeAdapter(
    Annotated[
        Annotated[Outcome, Tag("outcome")] | Annotated[list[Outcome], Tag("outcomes")],
        Discriminator(lambda body: "outcomes" if isinstance(body, list) else "outcome"),
    ]
)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


# Python's decoder accepts NaN and Infinity, which JSON does not have, unless told otherwise.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def parse(adapter: TypeAdapter[_Any], body: bytes) -> _Any:
    """Return the content of a request body.

    Lone surrogates pass: programs that cut strings in UTF-16 send them, and the text view drops
    them.

    Raises
    ------
    Refusal
        If the body is not JSON (400), or does not match the adapter (422).
    """
    try:
        content = _DECODER.decode(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise Refusal(
            400, "not_json", f"the body is not JSON in UTF-8 ({error}); send an object"
        ) from error
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        raise Refusal(422, "not_as_described", _mistakes(error)) from error


def _mistakes(error: ValidationError) -> str:
    """Return the first mistakes, without the values: they may be queries."""
    mistakes = error.errors(include_url=False, include_input=False, include_context=False)
    places = (
        f"{'.'.join(str(part)[:40] for part in mistake['loc']) or 'body'}: "
        f"{mistake['msg'].removeprefix('Value error, ')}"
        for mistake in mistakes[:3]
    )
    return f"{'; '.join(places)}; /openapi.json describes the body"
