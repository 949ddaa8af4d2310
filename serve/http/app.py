"""The HTTP service as an application for any ASGI server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from querytier.serve.http.access import Gate
from querytier.serve.http.endpoints import endpoints, is_of_protocol, json_response
from querytier.serve.http.refusal import Refusal
from querytier.serve.http.reloading import watch
from querytier.serve.http.service import DecisionService
from querytier.serve.http.settings import ServiceSettings

__all__ = ["application"]


def application(settings: ServiceSettings) -> Starlette:
    """Return the service.

    Parameters
    ----------
    settings : ServiceSettings

    Returns
    -------
    Starlette
        Its `state.service` is the DecisionService. The server has to run its lifespan: at its
        end the decision log is closed.

    Raises
    ------
    ArtifactError
        If the artifact is none, is damaged, or does not reproduce its golden vectors here.
    """
    service, known = DecisionService(settings), endpoints()
    errors = _Errors(service)
    gate = Middleware(
        Gate,
        service=service,
        paths=frozenset(one.path for one in known),
        answer=errors.answer,
    )
    app = Starlette(
        routes=[Route(one.path, one.handler, methods=[one.method]) for one in known],
        middleware=[gate],
        exception_handlers={
            Refusal: errors.refused,
            HTTPException: errors.not_found,
            Exception: errors.failed,
        },
        lifespan=_lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    service: DecisionService = app.state.service
    watching = asyncio.create_task(_watch(service))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await asyncio.to_thread(service.close)


async def _watch(service: DecisionService) -> None:
    if service.settings.watch_s is not None:
        await watch(service.settings.artifact, service.settings.watch_s, service)


class _Errors:
    """Answers in JSON where there is no decision."""

    def __init__(self, service: DecisionService) -> None:
        self._service = service

    def answer(self, refusal: Refusal, path: str) -> Response:
        """Return the response that a refusal is on a path."""
        response = json_response(self._content(refusal, path), refusal.status)
        if refusal.status == 401:
            response.headers["www-authenticate"] = "Bearer"
        if refusal.status == 503:
            response.headers["retry-after"] = "1"
        if refusal.close:
            response.headers["connection"] = "close"
        return response

    def _content(self, refusal: Refusal, path: str) -> dict[str, Any]:
        if is_of_protocol(path):  # which has a text for an error, and no place for more
            return {"error": refusal.message}
        error = {"code": refusal.code, "message": refusal.message}
        return {"error": error, "tier": self._service.manifest.fallback_tier}

    async def refused(self, request: Request, error: Exception) -> Response:
        """Answer a request that an endpoint has refused."""
        assert isinstance(error, Refusal)
        return self.answer(error, request.url.path)

    async def not_found(self, request: Request, error: Exception) -> Response:
        """Answer where there is no such endpoint."""
        assert isinstance(error, HTTPException)
        what = f"{request.method[:20]} {request.url.path[:100]}"
        refusal = Refusal(
            error.status_code,
            "no_endpoint",
            f"there is no {what} here; /openapi.json lists what there is",
        )
        response = self.answer(refusal, request.url.path)
        response.headers.update(error.headers or {})
        return response

    async def failed(self, request: Request, _: Exception) -> Response:
        """Answer where the service itself is at fault; the server logs what happened."""
        refusal = Refusal(
            500, "internal", "the service failed; its log on standard error has the reason"
        )
        return self.answer(refusal, request.url.path)
