"""The OpenAPI document, made of the endpoints and models that answer requests."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from querytier import __version__

__all__ = ["Endpoint", "Handler", "document"]

Handler = Callable[[Request], Awaitable[Response]]
Mode = Literal["validation", "serialization"]

_GATE_REFUSALS = {
    401: "The token is missing or wrong.",
    403: "There is no token, and the request does not come from this machine.",
    503: "Too many requests are in flight.",
}


@dataclass(frozen=True)
class Endpoint:
    """One path: how it is served, and how it is documented.

    Attributes
    ----------
    method, path, summary : str
    handler : callable
    request : TypeAdapter or None
        Content of the body; None if no body is read.
    answer : TypeAdapter or str
        Content of the answer in JSON, or another media type.
    error : TypeAdapter
        Content of an error answer.
    refusals : mapping of int to str
        Statuses other than 200, and their meaning.
    open : bool
        Whether it answers without a token.
    """

    method: Literal["GET", "POST"]
    path: str
    summary: str
    handler: Handler
    answer: TypeAdapter[Any] | str
    error: TypeAdapter[Any]
    request: TypeAdapter[Any] | None = None
    refusals: Mapping[int, str] | None = None
    open: bool = False


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI document.

    Parameters
    ----------
    endpoints : iterable of Endpoint
    """
    known = list(endpoints)
    adapters: dict[tuple[TypeAdapter[Any], Mode], None] = {}
    for one in known:
        if one.request is not None:
            adapters[one.request, "validation"] = None
        for answer in (one.answer, one.error):
            if not isinstance(answer, str):
                adapters[answer, "serialization"] = None
    # All adapters at once, so that two types of the same name get two definitions.
    schemas, definitions = TypeAdapter.json_schemas(
        [(adapter, mode, adapter) for adapter, mode in adapters],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for one in known:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "querytier",
            "version": __version__,
            "summary": "Does this query need the frontier model, or is the cheap one good enough?",
        },
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(one: Endpoint, schemas: Mapping[tuple[Any, Mode], Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": one.summary, "operationId": _name(one)}
    if one.request is not None:
        schema = schemas[one.request, "validation"]
        operation["requestBody"] = {"required": True, "content": _json(schema)}
    answer = one.answer
    good = {answer: {}} if isinstance(answer, str) else _json(schemas[answer, "serialization"])
    error = _json(schemas[one.error, "serialization"])
    refusals = {} if one.open else _GATE_REFUSALS
    operation["responses"] = {"200": {"description": "The answer.", "content": good}} | {
        str(status): {"description": text, "content": error}
        for status, text in sorted({**refusals, **(one.refusals or {})}.items())
    }
    if not one.open:
        operation["security"] = [{"token": []}, {}]
    return operation


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _name(one: Endpoint) -> str:
    words = one.path.strip("/").replace("/", "_").replace(".", "_")
    return f"{one.method.lower()}_{words or 'page'}"
