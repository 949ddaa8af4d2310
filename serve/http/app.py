"""The HTTP service as an application for any ASGI server."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from querytier.serve.http.access import Gate
from querytier.serve.http.endpoints import ENDPOINTS, is_of_protocol, json_response
from querytier.serve.http.service import DecisionService
from querytier.serve.http.settings import ServiceSettings
from querytier.serve.http.wire import Refusal

__all__ = ["application"]


def application(settings: ServiceSettings) -> Starlette:
    """Return the service.

    Parameters
    ----------
    settings : ServiceSettings

    Returns
    -------
    Starlette
        Its `state.service` is the DecisionService. The server has to run its lifespan, which closes
        the decision log at the end.

    Raises
    ------
    ArtifactError
        If the artifact is missing or damaged, or does not reproduce its golden vectors here.
    """
    service = DecisionService(settings)
    errors = _Errors(service)
    paths = frozenset(one.path for one in ENDPOINTS)

    def count(path: str, status: int) -> None:
        # Unknown paths share a label: a scanner would otherwise create a series for each guess.
        service.metrics.requests.labels(path if path in paths else "other", status).inc()

    gate = Middleware(
        Gate,
        activity=service.activity,
        token=settings.token,
        limits=settings.limits,
        open_paths=frozenset(one.path for one in ENDPOINTS if one.open),
        count=count,
        answer=errors.answer,
    )
    app = Starlette(
        routes=[Route(one.path, one.handler, methods=[one.method]) for one in ENDPOINTS],
        middleware=[gate],
        exception_handlers=dict.fromkeys((Refusal, HTTPException, Exception), errors),
        lifespan=_lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    service: DecisionService = app.state.service
    following = asyncio.create_task(service.follow_artifact())
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        # In a thread: closing waits for the disk, and the last answers are still being sent.
        await asyncio.to_thread(service.close)


class _Errors:
    """Builds the JSON answer to a request that gets no decision."""

    def __init__(self, service: DecisionService) -> None:
        self._service = service

    def answer(self, refusal: Refusal, path: str) -> Response:
        """Return the response to a refusal on a path."""
        response = json_response(self._content(refusal, path), refusal.status)
        if refusal.status == 401:
            response.headers["www-authenticate"] = "Bearer"
        if refusal.status == 503:
            response.headers["retry-after"] = "1"
        if refusal.close:
            response.headers["connection"] = "close"
        return response

    def _content(self, refusal: Refusal, path: str) -> dict[str, Any]:
        if is_of_protocol(path):  # its errors are a text, with no place for a tier
            return {"error": refusal.message}
        error = {"code": refusal.code, "message": refusal.message}
        return {"error": error, "tier": self._service.manifest.fallback_tier}

    async def __call__(self, request: Request, error: Exception) -> Response:
        """Answer a refusal, an unknown path or method, or a failure, which the server logs."""
        headers: Mapping[str, str] = {}
        if isinstance(error, HTTPException):
            call, headers = f"{request.method[:20]} {request.url.path[:100]}", error.headers or {}
            message = f"{call} does not exist; /openapi.json lists all paths"
            error = Refusal(error.status_code, "no_endpoint", message)
        elif not isinstance(error, Refusal):
            message = "the service failed; its log on standard error has the reason"
            error = Refusal(500, "internal", message)
        response = self.answer(error, request.url.path)
        response.headers.update(headers)
        return response
