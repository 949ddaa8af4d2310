"""The values of a log record's fields, read as their kind, or refused with a reason."""

import json
import math
from collections.abc import Mapping

from querytier.data.text_view import text_view
from querytier.data.timestamps import utc_time

__all__ = [
    "BadRecordError",
    "number_of",
    "numbers_of",
    "query_of",
    "text_of",
    "time_of",
    "word_of",
]

Values = Mapping[str, object]

_TRUTH = {"true": 1.0, "false": 0.0}


class BadRecordError(ValueError):
    """A record is no good; the message is the reason given in the quarantine file."""


def query_of(values: Values) -> str:
    """Return the query of a log record's mapped values.

    Parameters
    ----------
    values : mapping of str to object
        By field name, as `ColumnMap.values` gives them.

    Raises
    ------
    BadRecordError
        If there is none, or it is not text, or the text view leaves nothing of it.
    """
    query = values.get("query")
    if query is None:
        raise BadRecordError("query missing")
    if not isinstance(query, str):
        raise BadRecordError("query is not text")
    if not text_view(query):
        raise BadRecordError("query empty")
    return _storable(query)


def text_of(values: Values, name: str) -> str:
    """Return a field as text; empty where the record has none."""
    value = values.get(name, "")
    if isinstance(value, str):
        return _storable(value)
    return _storable(json.dumps(value, default=str, sort_keys=True))


def number_of(values: Values, name: str) -> float:
    """Return a field as a number; NaN where the record has none.

    Raises
    ------
    BadRecordError
        If it is not a finite number; text that reads as one, true and false are numbers.

    Examples
    --------
    >>> number_of({"weight": "2.5"}, "weight"), number_of({"weight": True}, "weight")
    (2.5, 1.0)
    """
    value = values.get(name)
    return math.nan if value is None else _number(value, name)


def numbers_of(values: Values, name: str) -> tuple[float, ...]:
    """Return a field as numbers, be it a list, JSON text of one, or one number; empty without.

    Raises
    ------
    BadRecordError
        If one of them is not a finite number.

    Examples
    --------
    >>> numbers_of({"cheap_grades": "[1, 0.5]"}, "cheap_grades")
    (1.0, 0.5)
    """
    value = values.get(name)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise BadRecordError(f"{name} is not a list of numbers: {_shown(value)}") from None
    if value is None:
        return ()
    grades = value if isinstance(value, list | tuple) else [value]
    return tuple(_number(grade, name) for grade in grades if grade is not None)


def word_of(values: Values, name: str) -> str:
    """Return a field as one lower-case word, blanks and hyphens as underscores; empty without.

    Examples
    --------
    >>> word_of({"feedback": " Thumbs-up "}, "feedback")
    'thumbs_up'
    """
    words = text_of(values, name).lower().replace("-", " ").replace("_", " ").split()
    return "_".join(words)


def time_of(values: Values) -> str:
    """Return the time in UTC, as `utc_time` gives it; empty where the record has none.

    Raises
    ------
    BadRecordError
        If it is no timestamp.
    """
    value = values.get("time", "")
    if isinstance(value, str) and not value.strip():
        return ""
    try:
        return utc_time(value)
    except ValueError:
        raise BadRecordError(f"time is not a timestamp: {_shown(value)}") from None


def _number(value: object, name: str) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):
        number = _TRUTH.get(str(value).strip().lower())
    if number is None:
        raise BadRecordError(f"{name} is not a number: {_shown(value)}")
    if not math.isfinite(number):
        raise BadRecordError(f"{name} is not finite: {number}")
    return number


def _storable(text: str) -> str:
    """Replace lone surrogates, which no file takes, by U+FFFD; the text view drops both."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
