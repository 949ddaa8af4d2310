"""What the service reads and answers: requests are checked by it, `/openapi.json` is made of it."""

import json
from dataclasses import dataclass, field
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
from querytier.serve.decision import Decision, Reason
from querytier.serve.http.refusal import Refusal

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
    "ReloadAnswer",
    "parsed",
]

_Any = TypeVar("_Any")
# Identifiers come back in logs and headers, so that they are kept to what is safe in both.
Name = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]
Messages = Annotated[list[dict[str, Any]], Field(max_length=10_000)]
Tiers = Annotated[list[Tier], Field(min_length=1, max_length=2)]
KnownReason = Annotated[str, Field(description="More may come.", examples=list(get_args(Reason)))]
Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Share = Annotated[Finite, Field(ge=0, le=1)]
Cost = Annotated[Finite, Field(ge=0)]


# The same rules as the validators', for those who read /openapi.json.
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
_ASKS_ONCE: dict[str, Any] = {
    "oneOf": [
        {"required": [name], "properties": {name: {"type": kind}, other: {"type": "null"}}}
        for name, kind, other in (("query", "string", "messages"), ("messages", "array", "query"))
    ]
}
_SAYINGS = (
    *("outcome", "feedback", "cost"),
    *("cheap_score", "frontier_score", "cheap_cost", "frontier_cost"),
)
_SAYS_SOMETHING: dict[str, Any] = {
    "anyOf": [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in _SAYINGS
    ]
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Free(_Body):
    allow: Tiers | None = Field(None, description="Tiers that may answer.")
    deny: Tiers | None = Field(None, description="Tiers that may not answer.")
    tenant: Name | None = Field(None, description="On whose behalf is asked.")

    @model_validator(mode="after")
    def _leaves_a_tier(self) -> Self:
        allowed_tiers(self.allow, self.deny)
        return self


class Decide(_Free):
    """One query, or chat messages of which the last user turn is the query."""

    model_config = ConfigDict(json_schema_extra={**_LEAVES_A_TIER, **_ASKS_ONCE})

    query: str | None = None
    messages: Messages | None = Field(None, description="Objects with role and content.")
    conversation: Name | None = Field(None, description="The name of the conversation.")
    id: Name | None = Field(None, description="The id of the decision; made where it is missing.")

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if (self.query is None) == (self.messages is None):
            raise ValueError("give either query or messages")
        return self

    @property
    def asked(self) -> str | list[dict[str, Any]]:
        """What is to be decided."""
        return self.query if self.query is not None else self.messages or []


class Batch(_Free):
    """Many queries, each text or chat messages."""

    model_config = ConfigDict(json_schema_extra=_LEAVES_A_TIER)

    queries: list[str | Messages]


class Outcome(_Body):
    """What came of a decision."""

    model_config = ConfigDict(json_schema_extra=_SAYS_SOMETHING)

    id: Name = Field(description="The id of the decision.")
    outcome: Share | None = Field(None, description="How good the answer was.")
    feedback: Feedback | None = None
    cost: Cost | None = None
    cheap_score: Share | None = Field(
        None, description="How good the cheap answer was, where both tiers were asked."
    )
    frontier_score: Share | None = Field(
        None, description="How good the frontier answer was, where both tiers were asked."
    )
    cheap_cost: Cost | None = Field(None, description="What the cheap answer cost.")
    frontier_cost: Cost | None = Field(None, description="What the frontier answer cost.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.said:
            raise ValueError(f"give any of {', '.join(_SAYINGS)}")
        return self

    @property
    def said(self) -> dict[str, Any]:
        """What is told of the answers, as a decision log takes it."""
        return self.model_dump(exclude={"id"}, exclude_none=True)


@dataclass(frozen=True)
class DecisionAnswer(Decision):
    """A decision, and the id by which its outcome is told."""

    threshold: float | None  # type: ignore[assignment]  # JSON has no infinity
    reason: KnownReason  # type: ignore[assignment]  # clients must bear those that come later
    audit: bool = field(kw_only=True)
    audit_propensity: float = field(kw_only=True)
    id: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The decisions, in the order of the queries."""

    decisions: list[DecisionAnswer]


@dataclass(frozen=True, slots=True)
class OutcomesAnswer:
    """How many outcomes were given to the decision log."""

    recorded: int


@dataclass(frozen=True, slots=True)
class ReloadAnswer:
    """Which model decides now, which did before, and how many golden vectors it reproduced."""

    model_version: str
    previous: str
    vectors: int


@dataclass(frozen=True, slots=True)
class _Error:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """Why there is no answer; `tier` is the one to go to meanwhile."""

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


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def parsed(adapter: TypeAdapter[_Any], body: bytes) -> _Any:
    """Return what a request body says.

    Lone surrogates, which programs that cut strings in UTF-16 send, pass: the text view drops them.

    Raises
    ------
    Refusal
        If the body is not JSON (400), or not as the adapter wants it (422).
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
        raise Refusal(422, "not_as_described", _explained(error)) from error


def _explained(error: ValidationError) -> str:
    """Return the first mistakes, without the values: they may be queries."""
    mistakes = error.errors(include_url=False, include_input=False, include_context=False)
    places = (
        f"{'.'.join(str(part)[:40] for part in mistake['loc']) or 'body'}: "
        f"{mistake['msg'].removeprefix('Value error, ')}"
        for mistake in mistakes[:3]
    )
    return f"{'; '.join(places)}; /openapi.json describes what is read here"
