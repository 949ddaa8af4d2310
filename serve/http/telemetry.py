"""What the service reports about single decisions: OpenTelemetry spans, and logs as JSON lines.

Neither contains the text of a query. Spans follow OpenTelemetry's GenAI conventions, which have no
words for routing yet: attributes beyond them are called `querytier.*`.
"""

import json
import logging
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from querytier.errors import QuerytierError
from querytier.serve.decision import Decision

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = ["LEVELS", "JsonLines", "log_to_stderr", "record_span", "tracer"]

LEVELS = ("debug", "info", "warning", "error")

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}


def tracer() -> "Tracer | None":
    """Return a tracer if OpenTelemetry is installed and has a provider; else None."""
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    # Without a provider the API returns objects that do nothing: no decision should pay for them.
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return provider.get_tracer("querytier")


def record_span(
    tracer: "Tracer", decision: Decision, headers: Mapping[str, str], conversation: str | None
) -> None:
    """Record a finished decision as a child of the caller's span.

    Parameters
    ----------
    tracer : Tracer
    decision : Decision
    headers : mapping of str to str
        Headers of the request; `traceparent` names the caller's span.
    conversation : str or None
    """
    from opentelemetry.propagate import extract

    ended = time.time_ns()
    attributes = {
        "gen_ai.operation.name": "route",
        "gen_ai.provider.name": "querytier",
        "gen_ai.conversation.id": conversation,
        **{f"querytier.{name}": value for name, value in decision.to_dict().items()},
        "querytier.latency_ms": None,  # the span's own length
    }
    span = tracer.start_span(
        "route querytier",
        context=extract(headers),
        start_time=ended - int(decision.latency_ms * 1e6),
        attributes={name: value for name, value in attributes.items() if value is not None},
    )
    span.end(ended)


class JsonLines(logging.Formatter):
    """Formats a log record as one JSON object: time, level, logger, message, and its extras."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["error"] = _without_values(record.exc_info[1])
        return json.dumps(line, default=str)


def _without_values(error: BaseException | None) -> str:
    """Return the traceback of an error, with its message only if the error is our own."""
    if error is None:
        return ""
    # Messages of other packages may quote the value that they complain about: a query.
    own = isinstance(error, QuerytierError | OSError)
    last = f"{type(error).__name__}: {error}" if own else type(error).__name__
    return "".join([*traceback.format_tb(error.__traceback__), last])


def log_to_stderr(level: str) -> None:
    """Log at one of `LEVELS` and above, as JSON lines on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
