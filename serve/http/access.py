"""Who may ask, how much, and how slowly."""

import asyncio
import hmac
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from querytier.serve.http.refusal import Refusal
from querytier.serve.http.settings import Limits

if TYPE_CHECKING:
    from querytier.serve.http.service import DecisionService

__all__ = ["OPEN_PATHS", "Gate", "is_loopback_name", "read_body"]

# A prober has no token, and the page asks for it; neither says anything of the traffic.
OPEN_PATHS = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# A body that is too large is read and forgotten up to this many times the limit, because a client
# that is still sending when the connection closes never sees the answer.
_READ_BEYOND = 8


def is_loopback_name(host: str) -> bool:
    """Tell whether a host, as a URL names it, can only be this machine.

    Examples
    --------
    >>> is_loopback_name("localhost"), is_loopback_name("127.0.0.1"), is_loopback_name("0.0.0.0")
    (True, True, False)
    """
    return host.lower() in _LOOPBACK


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the body of a request, within its limits.

    Raises
    ------
    Refusal
        If it is too large (413), too slow (408), compressed (415), or ends too early (400).
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "compressed", "compressed bodies are not read; send it as it is")
    try:
        async with asyncio.timeout(limits.arrival_s):
            return await _collected(request, limits.body_bytes)
    except TimeoutError as error:
        raise Refusal(
            408,
            "slow_body",
            f"the body did not arrive within {limits.arrival_s:g} s; send it faster, or start the "
            "service with a larger --arrival-timeout",
            close=True,
        ) from error
    except ClientDisconnect as error:
        raise Refusal(400, "cut_off", "the body ended early; send it again") from error


async def _collected(request: Request, most: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most * _READ_BEYOND:
        raise _too_large(most)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= most:
            chunks.append(chunk)
        elif size > most * _READ_BEYOND:
            raise _too_large(most)
    if size > most:
        raise _too_large(most)
    return b"".join(chunks)


def _too_large(most: int) -> Refusal:
    return Refusal(
        413,
        "too_large",
        f"the body is larger than {most} bytes; send fewer queries, or start the service with a "
        "larger --max-body",
        close=True,
    )


class Gate:
    """Stands before the application: lets requests in, and counts what comes out.

    Parameters
    ----------
    app : ASGIApp
    service : DecisionService
    paths : frozenset of str
        The paths that are counted by name.
    answer : callable
        Makes a response of a refusal, for a path.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: "DecisionService",
        paths: frozenset[str],
        answer: Callable[[Refusal, str], Response],
    ) -> None:
        self._app = app
        self._service = service
        self._paths = paths
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        counted = _Counted(send, closing=self._service.draining)
        try:
            await self._pass(scope, receive, counted)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._service.metrics.requests.labels(path, counted.status).inc()

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        try:
            self._check(Headers(scope=scope), scope["method"])
        except Refusal as refusal:
            await self._answer(refusal, scope["path"])(scope, receive, send)
            return
        asks = scope["method"] == "POST"
        self._service.in_flight += asks
        try:
            await self._app(scope, receive, send)
        finally:
            self._service.in_flight -= asks

    def _check(self, headers: Mapping[str, str], method: str) -> None:
        settings = self._service.settings
        if settings.token is None:
            _check_origin(headers)
        else:
            _check_token(headers, settings.token)
        if method == "POST" and self._service.in_flight >= settings.limits.concurrency:
            raise Refusal(
                503,
                "overloaded",
                f"{settings.limits.concurrency} requests are being answered; take the tier given "
                "here, or try again",
            )


class _Counted:
    """Sends a response, and takes note of its status."""

    def __init__(self, send: Send, *, closing: bool) -> None:
        self._send = send
        self._closing = closing
        self.status = 500

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._closing:
                message["headers"] = [*message["headers"], (b"connection", b"close")]
        await self._send(message)


def _check_token(headers: Mapping[str, str], token: str) -> None:
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    # Headers are latin-1; compared as bytes, a shown token may hold anything.
    same = hmac.compare_digest(shown.strip().encode("latin-1", "replace"), token.encode())
    if scheme.lower() != "bearer" or not same:
        raise Refusal(
            401, "no_token", "send the service's token as a header: Authorization: Bearer TOKEN"
        )


def _check_origin(headers: Mapping[str, str]) -> None:
    """Keep web pages of others from asking through a browser on this machine."""
    host = headers.get("host", "")
    name = ""
    with suppress(ValueError):
        name = urlsplit(f"//{host}").hostname or ""
    origin = headers.get("origin")
    if not is_loopback_name(name) or (origin is not None and not origin.endswith(f"://{host}")):
        raise Refusal(
            403,
            "foreign",
            f"without a token only this machine may ask, and its host be localhost, not "
            f"{host[:100]!r} (origin {(origin or 'none')[:100]!r}); set QUERYTIER_TOKEN",
        )
