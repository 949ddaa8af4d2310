"""Logs as JSON lines on standard error; no line holds the text of a query."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from querytier.errors import QuerytierError

__all__ = ["LEVELS", "JsonLines", "log_to_stderr"]

LEVELS = ("debug", "info", "warning", "error")

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}


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
        line |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["error"] = _without_values(record.exc_info[1])
        return json.dumps(line, default=str)


def _without_values(error: BaseException | None) -> str:
    """Return where an error came from; a foreign message may quote a query, so it is left out."""
    if error is None:
        return ""
    own = isinstance(error, QuerytierError | OSError)
    last = f"{type(error).__name__}: {error}" if own else type(error).__name__
    return "".join([*traceback.format_tb(error.__traceback__), last])


def log_to_stderr(level: str) -> None:
    """Have everything logged as JSON lines, from one of `LEVELS` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
