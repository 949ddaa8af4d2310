"""Admit or refuse requests: by token and origin, by size, speed and number."""

import asyncio
import hmac
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from querytier.serve.http.settings import Limits
from querytier.serve.http.wire import Refusal

__all__ = ["Activity", "Gate", "read_body"]

# Host names that always mean this machine.
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# A body that is too large is read and discarded up to this many times the limit: a client that is
# still sending when the connection closes never sees the answer.
_READ_BEYOND = 8


@dataclass(slots=True)
class Activity:
    """What a service is doing now.

    Attributes
    ----------
    in_flight : int
        Requests with a body that are being answered.
    draining : bool
        Whether the service is about to end, so that connections are closed after their answers.
    """

    in_flight: int = 0
    draining: bool = False


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the body of a request, within its limits.

    Raises
    ------
    Refusal
        If it is too large (413), too slow (408), compressed (415), or ends too early (400).
    """
    # Decompressing would need a limit of its own: a kilobyte may expand to a gigabyte.
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "compressed", "compressed bodies are not accepted; send it uncompressed")
    try:
        async with asyncio.timeout(limits.arrival_s):
            return await _collect(request, limits.body_bytes)
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


async def _collect(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdecimal() else 0
    if size <= limit * _READ_BEYOND:
        # The announced length is not trusted, and a chunked body has none: count what arrives.
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit * _READ_BEYOND:
                break
            if size <= limit:
                chunks.append(chunk)
        if size <= limit:
            return b"".join(chunks)
    raise Refusal(
        413,
        "too_large",
        f"the body is larger than {limit} bytes; send fewer queries, or start the service with a "
        "larger --max-body",
        close=True,
    )


class Gate:
    """Middleware that admits or refuses requests, and counts the answers.

    Parameters
    ----------
    app : ASGIApp
    activity : Activity
        Updated with each request.
    token : str or None
    limits : Limits
    open_paths : frozenset of str
        Paths that need no token.
    count : callable
        Receives the path and the status of each answer.
    answer : callable
        Returns the response to a refusal on a path.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        activity: Activity,
        token: str | None,
        limits: Limits,
        open_paths: frozenset[str],
        count: Callable[[str, int], object],
        answer: Callable[[Refusal, str], Response],
    ) -> None:
        self._app, self._activity = app, activity
        self._token, self._limits, self._open_paths = token, limits, open_paths
        self._count, self._answer = count, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sender = _Sender(send, closing=self._activity.draining)
        try:
            await self._admit(scope, receive, sender)
        finally:
            self._count(scope["path"], sender.status)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in self._open_paths:
            await self._app(scope, receive, send)
            return
        # Refused before the body is read, so that a stranger's request costs only its headers.
        try:
            self._check(Headers(scope=scope), scope["method"])
        except Refusal as refusal:
            await self._answer(refusal, scope["path"])(scope, receive, send)
            return
        has_body = scope["method"] == "POST"
        self._activity.in_flight += has_body
        try:
            await self._app(scope, receive, send)
        finally:
            self._activity.in_flight -= has_body

    def _check(self, headers: Mapping[str, str], method: str) -> None:
        if self._token is None:
            _check_origin(headers)
        else:
            _check_token(headers, self._token)
        if method == "POST" and self._activity.in_flight >= self._limits.concurrency:
            raise Refusal(
                503,
                "overloaded",
                f"{self._limits.concurrency} requests are in flight already; use the tier given "
                "here, or try again",
            )


class _Sender:
    """Sends a response, and remembers its status."""

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
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    # In constant time, so that a wrong token does not reveal how many characters are right. As
    # bytes, because headers are Latin-1 and `compare_digest` takes ASCII text only.
    same = hmac.compare_digest(sent.strip().encode("latin-1", "replace"), token.encode())
    if scheme.lower() != "bearer" or not same:
        raise Refusal(
            401, "no_token", "send the service's token as a header: Authorization: Bearer TOKEN"
        )


def _check_origin(headers: Mapping[str, str]) -> None:
    """Keep foreign web pages from sending requests through a browser on this machine."""
    # Two attacks: a page sends a request to localhost (its Origin is foreign), or makes its own
    # name resolve to this machine (DNS rebinding: its Host is not localhost).
    host = headers.get("host", "")
    name = ""
    with suppress(ValueError):
        name = urlsplit(f"//{host}").hostname or ""
    origin = headers.get("origin")
    if name.lower() not in _LOOPBACK or (origin is not None and not origin.endswith(f"://{host}")):
        raise Refusal(
            403,
            "foreign",
            "without a token, only localhost may send requests; the host was "
            f"{host[:100]!r} (origin {(origin or 'none')[:100]!r}); set QUERYTIER_TOKEN",
        )
