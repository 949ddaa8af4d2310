"""The endpoints of the service: what each reads, does and answers."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from querytier.errors import ArtifactError
from querytier.serve.decision import DecisionRequest
from querytier.serve.http import inference_protocol as oip
from querytier.serve.http.access import read_body
from querytier.serve.http.openapi import Endpoint, Handler, document
from querytier.serve.http.service import DecisionService
from querytier.serve.http.wire import (
    BATCH,
    DECIDE,
    OUTCOMES,
    BatchAnswer,
    DecisionAnswer,
    ErrorAnswer,
    Outcome,
    OutcomesAnswer,
    Refusal,
    ReloadAnswer,
    parse,
)

__all__ = ["ENDPOINTS", "is_of_protocol", "json_response"]

# The page contains its own scripts and styles; it may connect to its own server only.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; connect-src 'self'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}
_BODY_REFUSALS = {
    400: "The body is not JSON.",
    408: "The body arrived too slowly.",
    413: "The body is too large.",
    415: "The body is compressed.",
    422: "The body does not match the schema, or has too many items.",
}
_NO_LOG = {409: "The service keeps no decision log."}
_REJECTED = {409: "The artifact was rejected; the previous artifact stays in service."}
_ENDING = {503: "The service is about to end."}
_MODEL = f"/v2/models/{oip.MODEL}"
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_JSON_LENGTH = "inference-header-content-length"
_ERROR = TypeAdapter(ErrorAnswer)
_PROTOCOL_ERROR = TypeAdapter(dict[str, str])
_OBJECT = TypeAdapter(dict[str, Any])
_RELOADED = TypeAdapter(ReloadAnswer)


def is_of_protocol(path: str) -> bool:
    """Return whether a path belongs to the Open Inference Protocol, which has its own errors."""
    return path == "/v2" or path.startswith("/v2/")


def json_response(content: Mapping[str, Any], status: int = 200) -> Response:
    """Return an answer in JSON."""
    return Response(_ENCODER.encode(content), status, media_type="application/json")


_registered: list[Endpoint] = []


def _endpoint(
    method: Literal["GET", "POST"],
    path: str,
    summary: str,
    answer: TypeAdapter[Any] | str = _OBJECT,
    **more: Any,
) -> Callable[[Handler], Handler]:
    """Register the decorated function as an endpoint; the arguments are those of `Endpoint`."""
    error = _PROTOCOL_ERROR if is_of_protocol(path) else _ERROR

    def register(handler: Handler) -> Handler:
        _registered.append(Endpoint(method, path, summary, handler, answer, error, **more))
        return handler

    return register


def _post(
    path: str,
    summary: str,
    request: TypeAdapter[Any],
    answer: type,
    refusals: Mapping[int, str] | None = None,
) -> Callable[[Handler], Handler]:
    known = {**_BODY_REFUSALS, **(refusals or {})}
    return _endpoint("POST", path, summary, TypeAdapter(answer), request=request, refusals=known)


@_post("/v1/decide", "Decide a query.", DECIDE, DecisionAnswer)
async def _decide(request: Request) -> Response:
    body = parse(DECIDE, await _body(request))
    return json_response(await _service(request).decide(body.request, request.headers))


@_post("/v1/decide/batch", "Decide many queries.", BATCH, BatchAnswer)
async def _decide_batch(request: Request) -> Response:
    body = parse(BATCH, await _body(request))
    _check_count(request, len(body.queries), "queries")
    decisions = await _service(request).decide_many(body.requests, request.headers)
    return json_response({"decisions": decisions})


@_post("/v1/outcomes", "Report outcomes of decisions.", OUTCOMES, OutcomesAnswer, _NO_LOG)
async def _outcomes(request: Request) -> Response:
    body = parse(OUTCOMES, await _body(request))
    outcomes = [body] if isinstance(body, Outcome) else body
    _check_count(request, len(outcomes), "outcomes")
    return json_response({"recorded": _service(request).record_outcomes(outcomes)})


@_endpoint("POST", "/v1/reload", "Load the artifact again.", _RELOADED, refusals=_REJECTED)
async def _reload(request: Request) -> Response:
    service = _service(request)
    # Loading takes a core for seconds: without a token, any local program could keep it busy.
    if service.settings.token is None:
        message = "reloading over HTTP needs a token; set QUERYTIER_TOKEN, or send SIGHUP"
        raise Refusal(403, "no_token", message)
    try:
        return json_response(_RELOADED.dump_python(await service.reload()))
    except ArtifactError as error:
        raise Refusal(409, "not_taken", str(error)) from error


@_endpoint("GET", "/v1/status", "Model, certificate, traffic and log.")
async def _status(request: Request) -> Response:
    return json_response(_service(request).status())


@_endpoint("GET", "/metrics", "Metrics for Prometheus.", "text/plain")
async def _metrics(request: Request) -> Response:
    accept = request.headers.get("accept", "")
    content, media_type = _service(request).metrics.exposition(accept)
    return Response(content, headers={"content-type": media_type})


@_endpoint("GET", "/", "A page for trying queries.", "text/html", open=True)
async def _page(_: Request) -> Response:
    page = files("querytier.serve.http").joinpath("page.html").read_bytes()
    return Response(page, media_type="text/html", headers=_PAGE_HEADERS)


@_endpoint("GET", "/openapi.json", "This document.")
async def _openapi(_: Request) -> Response:
    return json_response(_document())


@cache
def _document() -> dict[str, Any]:
    return document(ENDPOINTS)


@_endpoint("GET", "/v2/health/live", "Whether the service is running.", open=True)
async def _live(_: Request) -> Response:
    return json_response({"live": True})


@_endpoint("GET", "/v2/health/ready", "Whether the service is ready.", refusals=_ENDING, open=True)
async def _ready(request: Request) -> Response:
    ready = not _service(request).activity.draining
    return json_response({"ready": ready}, 200 if ready else 503)


@_endpoint("GET", "/v2", "Name and version of the server.")
async def _server(_: Request) -> Response:
    return json_response(oip.server_metadata())


@_endpoint("GET", _MODEL, "Inputs and outputs of the model.")
async def _model(request: Request) -> Response:
    return json_response(oip.model_metadata(_service(request).manifest))


@_endpoint("GET", f"{_MODEL}/ready", "Whether the model is ready.")
async def _model_ready(request: Request) -> Response:
    ready = not _service(request).activity.draining
    return json_response({"name": oip.MODEL, "ready": ready}, 200 if ready else 503)


@_post(f"{_MODEL}/infer", "Decide queries sent as tensors.", oip.INFER, oip.InferAnswer)
async def _infer(request: Request) -> Response:
    service = _service(request)
    infer, queries = oip.read_infer(await _body(request), request.headers.get(_JSON_LENGTH))
    _check_count(request, len(queries), "queries")
    version = service.manifest.model_version
    # No audits: the protocol has no ids by which a caller could report the scores of both tiers.
    decisions = await service.decide_many(
        [DecisionRequest(query) for query in queries], request.headers, audits=False
    )
    content, json_length = oip.answer_tensors(infer, decisions, version)
    if json_length is None:
        return Response(content, media_type="application/json")
    headers = {_JSON_LENGTH: str(json_length)}
    return Response(content, media_type="application/octet-stream", headers=headers)


def _service(request: Request) -> DecisionService:
    service: DecisionService = request.app.state.service
    return service


async def _body(request: Request) -> bytes:
    return await read_body(request, _service(request).settings.limits)


def _check_count(request: Request, count: int, noun: str) -> None:
    limit = _service(request).settings.limits.batch
    if count > limit:
        raise Refusal(
            422,
            "too_many",
            f"{count} {noun} in one request; send at most {limit}, or start the service with a "
            "larger --max-batch",
        )


ENDPOINTS = tuple(_registered)
