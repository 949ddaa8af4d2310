"""Connections that may not dawdle: uvicorn itself waits forever for a request's headers."""

import asyncio
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

try:  # it parses in C; with uvloop, 1.29 times the requests a second, measured
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ModuleNotFoundError:
    HttpToolsProtocol = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    _Base = H11Protocol
else:
    _Base = object

__all__ = ["HEADER_BYTES", "connection_class"]

HEADER_BYTES = 32_768


def connection_class() -> type[asyncio.Protocol]:
    """Return what reads requests: in C where httptools is installed, else in Python."""
    return _InPython if HttpToolsProtocol is None else _InC


class _InTime(_Base):
    """What both kinds do while no request is being answered."""

    _waiting: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_no_more()
            return
        if self._waiting is None:
            self._wait()
        # The body of a request that was refused unread may still be coming.
        self._head_bytes += 0 if self._reads_body() else len(data)
        if self._head_bytes > HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The headers are longer than {HEADER_BYTES} bytes.")

    def pause_writing(self) -> None:
        super().pause_writing()
        # What closes would wait for the client that does not read.
        self._unread = self.loop.call_later(self._seconds(), self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_unread()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        self._end_unread()
        super().connection_lost(exc)

    def _reads_body(self) -> bool:
        raise NotImplementedError

    def _seconds(self) -> float:
        app: Any = self.config.app
        seconds: float = app.state.service.settings.limits.arrival_s
        return seconds

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self._seconds(), self.transport.close)

    def _wait_no_more(self) -> None:
        self._head_bytes = 0
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _end_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class _InPython(_InTime, H11Protocol):
    def _reads_body(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY


if HttpToolsProtocol is not None:

    class _InC(_InTime, HttpToolsProtocol):  # type: ignore[misc]
        _is_in_body = False

        def on_headers_complete(self) -> None:
            self._is_in_body = True
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._is_in_body = False
            super().on_message_complete()

        def _reads_body(self) -> bool:
            return self._is_in_body
