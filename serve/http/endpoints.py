"""The endpoints of the service: what each reads, does and answers."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from querytier.errors import ArtifactError
from querytier.serve.http import inference_protocol as oip
from querytier.serve.http.access import read_body
from querytier.serve.http.openapi import Endpoint, document
from querytier.serve.http.refusal import Refusal
from querytier.serve.http.service import DecisionService
from querytier.serve.http.settings import Asked
from querytier.serve.http.wire import (
    BATCH,
    DECIDE,
    OUTCOMES,
    BatchAnswer,
    DecisionAnswer,
    ErrorAnswer,
    Outcome,
    OutcomesAnswer,
    ReloadAnswer,
    parsed,
)

__all__ = ["endpoints", "is_of_protocol", "json_response"]

_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; connect-src 'self'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
_UNREADABLE = {
    400: "not JSON",
    408: "slower than the service waits",
    413: "larger than the service reads",
    415: "compressed",
    422: "not as described here, or more than the service takes at once",
}
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_JSON_LENGTH = "inference-header-content-length"
_ERROR = TypeAdapter(ErrorAnswer)
_PROTOCOL_ERROR = TypeAdapter(dict[str, str])
_OBJECT = TypeAdapter(dict[str, Any])
_RELOADED = TypeAdapter(ReloadAnswer)


def is_of_protocol(path: str) -> bool:
    """Tell whether a path is the Open Inference Protocol's, which has errors of its own."""
    return path == "/v2" or path.startswith("/v2/")


def json_response(content: Mapping[str, Any], status: int = 200) -> Response:
    """Return an answer in JSON."""
    return Response(_ENCODER.encode(content), status, media_type="application/json")


async def _decide(request: Request) -> Response:
    service = _service(request)
    body = parsed(DECIDE, await read_body(request, service.settings.limits))
    asked = Asked(
        body.asked,
        body.allow,
        body.deny,
        body.conversation,
        body.id,
        request.headers,
        body.tenant,
    )
    return json_response(await service.decide(asked))


async def _decide_batch(request: Request) -> Response:
    service = _service(request)
    body = parsed(BATCH, await read_body(request, service.settings.limits))
    _check_count(service, len(body.queries), "queries")
    many = [
        Asked(query, body.allow, body.deny, headers=request.headers, tenant=body.tenant)
        for query in body.queries
    ]
    return json_response({"decisions": await service.decide_many(many)})


async def _outcomes(request: Request) -> Response:
    service = _service(request)
    body = parsed(OUTCOMES, await read_body(request, service.settings.limits))
    outcomes = [body] if isinstance(body, Outcome) else body
    _check_count(service, len(outcomes), "outcomes")
    return json_response({"recorded": service.record_outcomes(outcomes)})


async def _reload(request: Request) -> Response:
    service = _service(request)
    if service.settings.token is None:
        raise Refusal(
            403,
            "no_token",
            "only who shows a token may reload; set QUERYTIER_TOKEN, or send SIGHUP",
        )
    try:
        return json_response(_RELOADED.dump_python(await service.reload()))
    except ArtifactError as error:
        raise Refusal(409, "not_taken", str(error)) from error


async def _status(request: Request) -> Response:
    return json_response(_service(request).status())


async def _metrics(request: Request) -> Response:
    accept = request.headers.get("accept", "")
    content, media_type = _service(request).metrics.exposition(accept)
    return Response(content, headers={"content-type": media_type})


async def _page(_: Request) -> Response:
    page = files("querytier.serve.http").joinpath("page.html").read_bytes()
    return Response(page, media_type="text/html", headers=_PAGE_HEADERS)


async def _openapi(_: Request) -> Response:
    return json_response(_document())


async def _live(_: Request) -> Response:
    return json_response({"live": True})


async def _ready(request: Request) -> Response:
    ready = not _service(request).draining
    return json_response({"ready": ready}, 200 if ready else 503)


async def _server(_: Request) -> Response:
    return json_response(oip.server_metadata())


async def _model(request: Request) -> Response:
    return json_response(oip.model_metadata(_service(request).manifest))


async def _model_ready(request: Request) -> Response:
    ready = not _service(request).draining
    return json_response({"name": oip.MODEL, "ready": ready}, 200 if ready else 503)


async def _infer(request: Request) -> Response:
    service = _service(request)
    body = await read_body(request, service.settings.limits)
    infer, queries = oip.read_infer(body, request.headers.get(_JSON_LENGTH))
    _check_count(service, len(queries), "queries")
    version = service.manifest.model_version
    # The protocol has no ids, by which the scores of both tiers could be told.
    many = [Asked(one, headers=request.headers, is_told_audits=False) for one in queries]
    decisions = await service.decide_many(many)
    content, json_length = oip.answer_tensors(infer, decisions, version)
    if json_length is None:
        return Response(content, media_type="application/json")
    headers = {_JSON_LENGTH: str(json_length)}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _service(request: Request) -> DecisionService:
    service: DecisionService = request.app.state.service
    return service


def _check_count(service: DecisionService, count: int, what: str) -> None:
    most = service.settings.limits.batch
    if count > most:
        raise Refusal(
            422,
            "too_many",
            f"{count} {what} at once; send at most {most}, or start the service with a larger "
            "--max-batch",
        )


@cache
def _document() -> dict[str, Any]:
    return document(endpoints(), lambda path: _PROTOCOL_ERROR if is_of_protocol(path) else _ERROR)


@cache
def endpoints() -> tuple[Endpoint, ...]:
    """Return every endpoint; what each answers is described where it is served."""
    return (*_router_endpoints(), *_operator_endpoints(), *_protocol_endpoints())


def _router_endpoints() -> tuple[Endpoint, ...]:
    return (
        Endpoint("GET", "/", "A page to try queries on.", _page, "text/html", open=True),
        Endpoint(
            "POST",
            "/v1/decide",
            "Decide a query.",
            _decide,
            TypeAdapter(DecisionAnswer),
            request=DECIDE,
            refusals=_UNREADABLE,
        ),
        Endpoint(
            "POST",
            "/v1/decide/batch",
            "Decide many queries.",
            _decide_batch,
            TypeAdapter(BatchAnswer),
            request=BATCH,
            refusals=_UNREADABLE,
        ),
        Endpoint(
            "POST",
            "/v1/outcomes",
            "Tell what came of decisions.",
            _outcomes,
            TypeAdapter(OutcomesAnswer),
            request=OUTCOMES,
            refusals={**_UNREADABLE, 409: "the service keeps no decision log"},
        ),
    )


def _operator_endpoints() -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            "POST",
            "/v1/reload",
            "Take the artifact as its folder has it now.",
            _reload,
            _RELOADED,
            refusals={409: "it was not taken; the one before goes on deciding"},
        ),
        Endpoint("GET", "/v1/status", "Model, traffic and log in figures.", _status, _OBJECT),
        Endpoint("GET", "/metrics", "The same, for Prometheus.", _metrics, "text/plain"),
        Endpoint("GET", "/openapi.json", "This document.", _openapi, _OBJECT),
    )


def _protocol_endpoints() -> tuple[Endpoint, ...]:
    model, ending = f"/v2/models/{oip.MODEL}", {503: "it is about to end"}
    return (
        Endpoint("GET", "/v2/health/live", "Whether it runs.", _live, _OBJECT, open=True),
        Endpoint(
            "GET",
            "/v2/health/ready",
            "Whether it takes requests.",
            _ready,
            _OBJECT,
            refusals=ending,
            open=True,
        ),
        Endpoint("GET", "/v2", "What serves.", _server, _OBJECT),
        Endpoint("GET", model, "What it reads and answers.", _model, _OBJECT),
        Endpoint("GET", f"{model}/ready", "Whether it decides.", _model_ready, _OBJECT),
        Endpoint(
            "POST",
            f"{model}/infer",
            "Decide queries, by the Open Inference Protocol.",
            _infer,
            TypeAdapter(oip.InferAnswer),
            request=oip.INFER,
            refusals=_UNREADABLE,
        ),
    )
