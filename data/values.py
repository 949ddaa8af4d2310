"""The values of log records: lenient readers for any log, and strict readers for mapped fields.

Logs write the same value in many ways: JSON inside text, numbers as text, times in five units.

- Lenient readers, whose names end in `_in`, take any value. If it is not of their kind, they return
  None (or an empty collection); none of them raises. Formats of vendors use them.
- Strict readers, whose names end in `_of`, take a mapped record and the name of a field. If the
  value is not of their kind, they raise `BadRecordError` with the reason for the quarantine file.

Strict readers call the lenient ones, so that a number or a time means the same in every log.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation

from querytier.data.text_view import text_view

__all__ = [
    "BadRecordError",
    "first_present",
    "json_in",
    "mapping_in",
    "milliseconds_between",
    "number_in",
    "number_of",
    "numbers_of",
    "query_of",
    "score_in",
    "sequence_in",
    "text_in",
    "text_of",
    "time_in",
    "time_of",
    "utc_time",
    "whole_number_in",
    "word_of",
]

Values = Mapping[str, object]

_TRUTH = {"true": 1.0, "false": 0.0}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Between these numbers of seconds (March 1973 and February 2106) a number of seconds, milliseconds,
# microseconds or nanoseconds has exactly one meaning, as the four ranges do not overlap.
_EARLIEST, _LATEST = 100_000_000, 2**32
_UNITS = (1, 10**3, 10**6, 10**9)


class BadRecordError(ValueError):
    """A record cannot be used; the message is the reason given in the quarantine file."""


def first_present(fields: Values, *names: str) -> object:
    """Return the value of the first named field that is present and not null."""
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def json_in(value: object) -> object:
    """Return the content of JSON text; return any other value, and other text, unchanged."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "[", '"'):
        return value
    try:
        content: object = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return content


def mapping_in(value: object) -> Values:
    """Return a mapping, given as one, as JSON text or as pairs (a Parquet map); else an empty one.

    Examples
    --------
    >>> mapping_in('{"input": 3}'), mapping_in([("input", 3)]), mapping_in("input")
    ({'input': 3}, {'input': 3}, {})
    """
    content = json_in(value)
    if isinstance(content, Mapping):
        return content
    if isinstance(content, list) and all(isinstance(i, tuple) and len(i) == 2 for i in content):
        return dict(content)
    return {}


def sequence_in(value: object) -> Sequence[object]:
    """Return a list, given as one or as JSON text; else an empty one."""
    content = json_in(value)
    return content if isinstance(content, list) else ()


def text_in(value: object) -> str | None:
    """Return text that is not blank, or the digits of a whole number; else None."""
    # Ids are often numbers in JSON; a truth value is an int in Python and no id.
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and value.strip() else None


def number_in(value: object) -> float | None:
    """Return a finite number, given as one or as text; else None.

    Examples
    --------
    >>> number_in("12"), number_in(0.5), number_in("NaN"), number_in(True)
    (12.0, 0.5, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def score_in(value: object) -> float | None:
    """Return a finite number, with true and false (as values or as text) as 1 and 0; else None."""
    truth = _TRUTH.get(str(value).strip().lower()) if isinstance(value, str | bool) else None
    return number_in(value) if truth is None else truth


def whole_number_in(value: object) -> int | None:
    """Return a whole number that is not negative; else None."""
    number = number_in(value)
    return int(number) if number is not None and number >= 0 and number.is_integer() else None


def time_in(value: object) -> datetime | None:
    """Return a time in UTC; None if the value is not a timestamp.

    Parameters
    ----------
    value : object
        A date or a time as an object, or in ISO 8601 with a blank or a T before the hours; or the
        seconds, milliseconds, microseconds or nanoseconds since 1970, as a number or as its digits.
        A time without a zone is in UTC. Numbers reach from March 1973 to February 2106, so that
        each has one unit; eight digits are a date.

    Examples
    --------
    >>> time_in("2031-05-07 08:00:00.25+02:00").isoformat()
    '2031-05-07T06:00:00.250000+00:00'
    >>> time_in(1_935_900_000) == time_in("1935900000000")
    True
    >>> time_in("20310507") == time_in("2031-05-07")
    True
    """
    try:
        moment = _moment(value)
        aware = moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
        return aware and aware.astimezone(UTC)
    except (ValueError, ArithmeticError):
        return None


def utc_time(value: object) -> str:
    """Return a timestamp as ISO 8601 text in UTC; such texts sort as the times do.

    Raises
    ------
    ValueError
        If the value is not a timestamp for `time_in`.

    Examples
    --------
    >>> utc_time("2031-05-07 08:00:00.25+02:00")
    '2031-05-07T06:00:00.250000Z'
    """
    moment = time_in(value)
    if moment is None:
        raise ValueError(f"not a timestamp: {value!r}")
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def milliseconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Return a duration; None if a time is missing, or the end comes before the start."""
    if start is None or end is None or end < start:
        return None
    return (end - start) / timedelta(milliseconds=1)


def query_of(values: Values) -> str:
    """Return the query of a log record's mapped values.

    Parameters
    ----------
    values : mapping of str to object
        By field name, as `ColumnMap.values` returns them.

    Raises
    ------
    BadRecordError
        If the query is missing, is not text, or its text view is empty.
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
    """Return a field as text; empty if the record does not have it."""
    value = values.get(name, "")
    if isinstance(value, str):
        return _storable(value)
    return _storable(json.dumps(value, default=str, sort_keys=True))


def number_of(values: Values, name: str) -> float:
    """Return a field as a number; NaN if the record does not have it.

    Raises
    ------
    BadRecordError
        If it is not a number for `score_in`.

    Examples
    --------
    >>> number_of({"weight": "2.5"}, "weight"), number_of({"weight": True}, "weight")
    (2.5, 1.0)
    """
    value = values.get(name)
    return math.nan if value is None else _number(value, name)


def numbers_of(values: Values, name: str) -> tuple[float, ...]:
    """Return a field as numbers: a list, JSON text of a list, or one number; empty if missing.

    Raises
    ------
    BadRecordError
        If one of them is not a finite number.

    Examples
    --------
    >>> numbers_of({"cheap_grades": "[1, 0.5]"}, "cheap_grades")
    (1.0, 0.5)
    """
    value = json_in(values.get(name))
    if value is None:
        return ()
    grades = value if isinstance(value, list | tuple) else [value]
    return tuple(_number(grade, name) for grade in grades if grade is not None)


def word_of(values: Values, name: str) -> str:
    """Return a field as one lower-case word, with underscores for blanks and hyphens.

    Examples
    --------
    >>> word_of({"feedback": " Thumbs-up "}, "feedback")
    'thumbs_up'
    """
    words = text_of(values, name).lower().replace("-", " ").replace("_", " ").split()
    return "_".join(words)


def time_of(values: Values) -> str:
    """Return the field `time` as `utc_time` writes it; empty if the record does not have it.

    Raises
    ------
    BadRecordError
        If it is not a timestamp.
    """
    value = values.get("time", "")
    if isinstance(value, str) and not value.strip():
        return ""
    try:
        return utc_time(value)
    except ValueError:
        raise BadRecordError(f"time is not a timestamp: {_shown(value)}") from None


def _moment(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.fromisoformat(value.isoformat())
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    text = str(value).strip()
    try:
        number = Decimal(text)
        is_date = number < _EARLIEST  # text such as 20310507 is a date, not the August of 1970
    except InvalidOperation:
        is_date = True
    return datetime.fromisoformat(text) if is_date else _since_epoch(number)


def _since_epoch(number: Decimal) -> datetime | None:
    for unit in _UNITS:
        if _EARLIEST * unit <= number < _LATEST * unit:
            return _EPOCH + timedelta(microseconds=round(number * 10**6 / unit))
    return None


def _number(value: object, name: str) -> float:
    number = score_in(value)
    if number is None:
        raise BadRecordError(f"{name} is not a finite number: {_shown(value)}")
    return number


def _storable(text: str) -> str:
    """Replace lone surrogates, which no file can store, by U+FFFD; the text view drops both."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
