"""Run the service: a socket, connections with time limits, and an orderly shutdown."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from querytier.errors import ArtifactError, UsageError
from querytier.serve.http.app import application
from querytier.serve.http.telemetry import LEVELS, log_to_stderr

try:  # it parses in C; with uvloop, 1.29 times the requests per second (measured)
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ModuleNotFoundError:
    HttpToolsProtocol = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from querytier.serve.http.service import DecisionService
    from querytier.serve.http.settings import ServiceSettings

    _Base = H11Protocol
else:
    _Base = object

__all__ = ["Listening", "serve"]

_log = logging.getLogger(__name__)
_HEADER_BYTES = 32_768
# Longer than the pools of common clients keep a connection (60 s): otherwise one of them would
# send a request into a connection that the server has just closed.
_KEEP_ALIVE_SECONDS = 75
_DRAIN_SECONDS = 1.0
_END_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the service listens, and what it logs on standard error.

    Attributes
    ----------
    host : str
    port : int
        0 picks a free port.
    log_level : {"debug", "info", "warning", "error"}

    Raises
    ------
    ValueError
        If the level is none of these.
    """

    host: str = "127.0.0.1"
    port: int = 8321
    log_level: str = "info"

    def __post_init__(self) -> None:
        if self.log_level not in LEVELS:
            raise ValueError(
                f"the log level is {self.log_level!r}; choose one of {', '.join(LEVELS)}"
            )


def serve(
    settings: "ServiceSettings", listening: Listening, announce: Callable[[str, str], None]
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads the artifact.

    Parameters
    ----------
    settings : ServiceSettings
    listening : Listening
    announce : callable
        Receives the URL and the model's version once the service accepts requests.

    Raises
    ------
    UsageError
        If the port is not available, or other machines could ask without a token.
    ArtifactError
        If the artifact is refused.
    """
    if settings.token is None and not _is_loopback(listening.host):
        raise UsageError(
            f"--host {listening.host} can be reached from other machines, and there is no "
            "token; set QUERYTIER_TOKEN, give --token-file FILE, or use --host 127.0.0.1"
        )
    # The port first: a port that is taken should not cost the time to load an artifact.
    listener = _listener(listening)
    with listener:
        app = application(settings)
        log_to_stderr(listening.log_level)
        config = uvicorn.Config(
            app,
            http=_InPython if HttpToolsProtocol is None else _InC,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_END_SECONDS,
        )
        url = _url(listener)
        version = app.state.service.manifest.model_version
        _Server(config, app, lambda: announce(url, version)).run(sockets=[listener])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listener(listening: Listening) -> socket.socket:
    try:
        found = socket.getaddrinfo(listening.host, listening.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(
            f"--host {listening.host} is not an address of this machine: {error}"
        ) from error
    family, place = found[0][0], found[0][4]
    # asyncio switches Nagle's algorithm off only if the socket names its protocol; with Nagle an
    # answer took 44 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except OSError as error:
        listener.close()
        in_use = error.errno == errno.EADDRINUSE
        why = "another program listens there" if in_use else error.strerror
        raise UsageError(
            f"cannot listen on {listening.host}:{listening.port}: {why}; give another "
            "--port, 0 picks a free port"
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """A server that ends in three steps: no new connections; answers close theirs; idle ones close.

    A server that closes idle connections at once may cut off a request that is already on its way.
    """

    def __init__(
        self, config: uvicorn.Config, app: "Starlette", announce: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service: DecisionService = app.state.service
        self._announce = announce
        # asyncio keeps only weak references to tasks: one that nobody holds may vanish.
        self._reloads: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and announce it."""
        await super().startup(sockets)
        self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs; they need the main thread."""
        loop = asyncio.get_running_loop()
        actions = {
            signal.SIGTERM: self._drain,
            signal.SIGINT: self._drain,
            signal.SIGHUP: self._reload,
        }
        for name, action in actions.items():
            loop.add_signal_handler(name, action)
        try:
            yield
        finally:
            for name in actions:
                loop.remove_signal_handler(name)

    def _drain(self) -> None:
        activity = self._service.activity
        if activity.draining:  # a second signal: end now
            self.should_exit = True
            return
        _log.info("shutting down: no new connections are accepted")
        activity.draining = True
        for server in self.servers:
            server.close()
        seconds = _DRAIN_SECONDS if self.server_state.connections else 0
        asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        self.should_exit = True

    def _reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reloaded())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reloaded(self) -> None:
        with contextlib.suppress(ArtifactError):  # already logged and counted
            await self._service.reload()


class _TimeLimits(_Base):
    """Time limits for slow clients: uvicorn itself waits forever for a request's headers.

    One timer runs from the beginning of a connection, or the first byte after an answer, until the
    headers are complete. Bytes that arrive do not restart it: a client that sends a byte a second
    would stay connected forever. Another timer runs while a client does not read its answer.
    """

    _arrival: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_arrival()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._end_arrival()
            return
        if self._arrival is None:
            self._start_arrival()
        # The body of a request that was refused unread may still be arriving.
        self._head_bytes += 0 if self._reads_body() else len(data)
        if self._head_bytes > _HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The headers are longer than {_HEADER_BYTES} bytes.")

    def pause_writing(self) -> None:
        super().pause_writing()
        # `abort` and not `close`, which would wait for the client that does not read.
        self._unread = self.loop.call_later(self._seconds(), self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_unread()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_arrival()
        self._end_unread()
        super().connection_lost(exc)

    def _reads_body(self) -> bool:
        raise NotImplementedError

    def _seconds(self) -> float:
        app: Any = self.config.app
        seconds: float = app.state.service.settings.limits.arrival_s
        return seconds

    def _start_arrival(self) -> None:
        self._arrival = self.loop.call_later(self._seconds(), self.transport.close)

    def _end_arrival(self) -> None:
        self._head_bytes = 0
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None

    def _end_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class _InPython(_TimeLimits, H11Protocol):
    def _reads_body(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY


if HttpToolsProtocol is not None:

    class _InC(_TimeLimits, HttpToolsProtocol):  # type: ignore[misc]
        _is_in_body = False

        def on_headers_complete(self) -> None:
            self._is_in_body = True
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._is_in_body = False
            super().on_message_complete()

        def _reads_body(self) -> bool:
            return self._is_in_body
