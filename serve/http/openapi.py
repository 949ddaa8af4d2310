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
    request: TypeAdapter[Any] | None = None
    refusals: Mapping[int, str] | None = None
    open: bool = False


def document(endpoints: Iterable[Endpoint], error_of: Callable[[str], Any]) -> dict[str, Any]:
    """Return the OpenAPI document.

    Parameters
    ----------
    endpoints : iterable of Endpoint
    error_of : callable
        Returns the TypeAdapter of a path's error answers.
    """
    known = list(endpoints)
    schemas, definitions = _schemas(known, error_of)
    paths: dict[str, dict[str, Any]] = {}
    for one in known:
        operation = _operation(one, schemas, error_of)
        paths.setdefault(one.path, {})[one.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "querytier",
            "version": __version__,
            "summary": "Does this query need the frontier model, or will the cheap one do?",
        },
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(
    endpoints: Iterable[Endpoint], error_of: Callable[[str], Any]
) -> tuple[Mapping[tuple[Any, Mode], Any], dict[str, Any]]:
    """Return a schema for each adapter, and the definitions that the schemas refer to."""
    # All adapters at once, so that types of the same name get different definitions. Adapters are
    # not hashable: their ids stand for them.
    adapters: dict[tuple[int, Mode], tuple[int, Mode, TypeAdapter[Any]]] = {}
    for one in endpoints:
        if one.request is not None:
            adapters[id(one.request), "validation"] = (id(one.request), "validation", one.request)
        for answer in (one.answer, error_of(one.path)):
            if not isinstance(answer, str):
                adapters[id(answer), "serialization"] = (id(answer), "serialization", answer)
    schemas, definitions = TypeAdapter.json_schemas(
        adapters.values(), ref_template="#/components/schemas/{model}"
    )
    return schemas, definitions.get("$defs", {})


def _operation(
    one: Endpoint, schemas: Mapping[tuple[Any, Mode], Any], error_of: Callable[[str], Any]
) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": one.summary, "operationId": _name(one)}
    if one.request is not None:
        schema = schemas[id(one.request), "validation"]
        operation["requestBody"] = {"required": True, "content": _json(schema)}
    good = (
        {one.answer: {}}
        if isinstance(one.answer, str)
        else _json(schemas[id(one.answer), "serialization"])
    )
    error = _json(schemas[id(error_of(one.path)), "serialization"])
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
