"""Values as foreign logs spell them: JSON inside text, numbers as text, times of many kinds.

Each function returns None (or nothing in it) for what is not of its kind; none raises.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

__all__ = [
    "first_of",
    "mapping_in",
    "milliseconds_between",
    "number_in",
    "parsed",
    "score_in",
    "sequence_in",
    "text_in",
    "utc_time",
    "whole_number_in",
]

_TRUTH = {"true": 1.0, "false": 0.0}


def first_of(fields: Mapping[str, object], *names: str) -> object:
    """Return the first of the named fields that is there and not null."""
    return next((fields[name] for name in names if fields.get(name) is not None), None)


def parsed(value: object) -> object:
    """Return what JSON text holds; anything else, and text that is no JSON, as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "[", '"'):
        return value
    try:
        content: object = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return content


def mapping_in(value: object) -> Mapping[str, object]:
    """Return a mapping, be it one, JSON text, or pairs (a Parquet map); empty where it is none."""
    content = parsed(value)
    if isinstance(content, Mapping):
        return content
    if isinstance(content, list) and all(_is_pair(item) for item in content):
        return dict(content)
    return {}


def sequence_in(value: object) -> Sequence[object]:
    """Return a list, be it one or JSON text; empty where it is none."""
    content = parsed(value)
    return content if isinstance(content, list) else ()


def text_in(value: object) -> str | None:
    """Return text that is not blank, or the digits of a whole number; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and value.strip() else None


def number_in(value: object) -> float | None:
    """Return a finite number, be it one or text; None for anything else.

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
    """Return a number, with true and false as 1 and 0; None for anything else."""
    truth = _TRUTH.get(str(value).strip().lower()) if isinstance(value, str | bool) else None
    return number_in(value) if truth is None else truth


def whole_number_in(value: object) -> int | None:
    """Return a count that is not negative; None for anything else."""
    number = number_in(value)
    return int(number) if number is not None and number >= 0 and number.is_integer() else None


def utc_time(value: object) -> datetime | None:
    """Return a time in UTC; one without a zone is taken to be UTC, a number to be Unix seconds.

    Examples
    --------
    >>> utc_time("2026-05-01 12:00:00.250000").isoformat()
    '2026-05-01T12:00:00.250000+00:00'
    >>> utc_time(0) == utc_time("1970-01-01T02:00:00+02:00")
    True
    """
    try:
        moment = _moment(value)
        if moment is None or moment.tzinfo is not None:
            return moment and moment.astimezone(UTC)
        return moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None


def milliseconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Return a duration; None where an end is missing, or comes before the start."""
    if start is None or end is None or end < start:
        return None
    return (end - start) / timedelta(milliseconds=1)


def _moment(value: object) -> datetime | None:
    seconds = number_in(value)
    if isinstance(value, datetime):
        return value
    if seconds is not None:
        return datetime.fromtimestamp(seconds, UTC)
    return datetime.fromisoformat(value.strip()) if isinstance(value, str) else None


def _is_pair(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2
