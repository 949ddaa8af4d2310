"""Timestamps in every form that router logs write them."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation

__all__ = ["utc_time"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = 100_000_000
_LATEST = 2**32
_UNITS = (1, 10**3, 10**6, 10**9)


def utc_time(value: object) -> str:
    """Return a timestamp as ISO 8601 in UTC; such texts sort as the times do.

    Parameters
    ----------
    value : str, int, float, date or datetime
        A date or a time in ISO 8601, with a blank or a T before the hours; or seconds,
        milliseconds, microseconds or nanoseconds since 1970, as a number or as its digits. What has
        no zone is UTC. Numbers reach from March 1973 to February 2106, so that each has one unit.

    Raises
    ------
    ValueError
        If the value is no timestamp.

    Examples
    --------
    >>> utc_time("2031-05-07 08:00:00.25+02:00")
    '2031-05-07T06:00:00.250000Z'
    >>> utc_time(1_935_900_000) == utc_time("1935900000000")
    True
    """
    try:
        moment = _moment(value)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        iso = aware.astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"not a timestamp: {value!r}") from error
    return iso.removesuffix("+00:00") + "Z"


def _moment(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.fromisoformat(value.isoformat())
    if isinstance(value, str):
        number = _number(value)
        # Eight digits are a date.
        if number is None or number < _EARLIEST:
            return datetime.fromisoformat(value.strip())
        return _since_epoch(number)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _since_epoch(Decimal(value))
    raise ValueError(f"neither text nor number nor date: {type(value).__name__}")


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _since_epoch(number: Decimal) -> datetime:
    for unit in _UNITS:
        if _EARLIEST * unit <= number < _LATEST * unit:
            return _EPOCH + timedelta(microseconds=round(number * 10**6 / unit))
    raise ValueError(f"in no unit between 1973 and 2106: {number}")
