"""The verb `querytier serve`: decisions over HTTP."""

import inspect
from typing import Any, get_type_hints

from querytier.cli.options import say
from querytier.cli.serve_options import ServeOptions
from querytier.errors import UsageError

__all__ = ["serve"]


def serve(**values: Any) -> None:
    """Decide queries over HTTP. SIGHUP reloads the artifact; SIGTERM ends the service."""
    from querytier.serve.http.server import Listening
    from querytier.serve.http.server import serve as serve_until_ended

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
