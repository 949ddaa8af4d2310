"""Running the service: a socket, and a server that ends gently."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from querytier.errors import ArtifactError, UsageError
from querytier.serve.http.app import application
from querytier.serve.http.connections import HEADER_BYTES, connection_class
from querytier.serve.http.json_logs import LEVELS, log_to_stderr

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from querytier.serve.http.service import DecisionService
    from querytier.serve.http.settings import ServiceSettings

__all__ = ["Listening", "serve"]

_log = logging.getLogger(__name__)
# Longer than the pools of usual clients keep a connection: else one of them sends into its end.
_KEEP_ALIVE_SECONDS = 75
_DRAIN_SECONDS = 1.0
_END_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the service listens, and what it tells on standard error.

    Attributes
    ----------
    host : str
    port : int
        0 takes a free one.
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
                f"the log level is {self.log_level!r}; it is one of {', '.join(LEVELS)}"
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
        Gets the URL and the model's version once requests are taken.

    Raises
    ------
    UsageError
        If the port cannot be had, or others than this machine could ask without a token.
    ArtifactError
        If the artifact cannot be taken.
    """
    if settings.token is None and not _is_loopback(listening.host):
        raise UsageError(
            f"--host {listening.host} can be reached from other machines, and there is no token; "
            "set QUERYTIER_TOKEN, give --token-file FILE, or stay with --host 127.0.0.1"
        )
    listener = _listener(listening)
    with listener:
        app = application(settings)
        log_to_stderr(listening.log_level)
        config = uvicorn.Config(
            app,
            http=connection_class(),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=HEADER_BYTES,
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
            f"--host {listening.host} is no address of this machine: {error}"
        ) from error
    family, place = found[0][0], found[0][4]
    # asyncio switches Nagle's algorithm off only where the protocol is named: 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        why = "another program listens there" if taken else error.strerror
        raise UsageError(
            f"cannot listen on {listening.host}:{listening.port}: {why}; give another --port, "
            "0 takes a free one"
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Ends in three steps: no new connections; answers end theirs; what is still idle is closed.

    A server that closes idle connections at once may cut off a request that is already on its way.
    """

    def __init__(
        self, config: uvicorn.Config, app: "Starlette", announce: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service: DecisionService = app.state.service
        self._announce = announce
        self._reloads: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Act upon signals while the server runs; only a main thread gets any."""
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
        if self._service.draining:
            self.should_exit = True
            return
        _log.info("ending: no new connections are taken")
        self._service.draining = True
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
        with contextlib.suppress(ArtifactError):  # it is logged and counted
            await self._service.reload()
