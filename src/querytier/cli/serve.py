"""The verb `querytier serve`: decisions over HTTP."""

import inspect
from typing import Any, get_type_hints

from querytier.cli.log_options import say
from querytier.cli.serve_options import ServeOptions
from querytier.errors import MissingExtraError, UsageError

__all__ = ["serve"]

_EXTRA = frozenset({"h11", "prometheus_client", "pydantic", "starlette", "uvicorn"})


def serve(**values: Any) -> None:
    """Decide over HTTP until SIGTERM; SIGHUP reloads the artifact."""
    try:
        from querytier.serve.http.server import Listening
        from querytier.serve.http.server import serve as serve_until_ended
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _EXTRA:
            raise
        raise MissingExtraError(package, "serve") from error

    options = ServeOptions(**values)
    try:
        listening = Listening(options.host, options.port, options.log_level)
        settings = options.service()
    except ValueError as error:
        raise UsageError(str(error)) from error
    serve_until_ended(settings, listening, _announce)


# Typer reads a function's signature: the fields of ServeOptions are its only parameters.
serve.__signature__ = inspect.signature(ServeOptions)  # type: ignore[attr-defined]
serve.__annotations__ = get_type_hints(ServeOptions, include_extras=True)


def _announce(url: str, model_version: str) -> None:
    say(f"model {model_version} decides at {url}; its page is {url}/")
