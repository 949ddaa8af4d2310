"""Values: times and numbers mean the same in plain logs and in vendors' logs."""

from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.column_map import ColumnMap
from querytier.data.example import example_from
from querytier.data.formats.langfuse import langfuse_records
from querytier.data.formats.reading import Record
from querytier.data.labelling import LabelRules
from querytier.data.values import BadRecordError, number_in, number_of, score_in, time_in, utc_time

MOMENTS = st.integers(10**14, 42 * 10**14).map(
    lambda microseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
OBSERVATION = {"type": "GENERATION", "traceId": "t", "input": "Hi"}
SIX_O_CLOCK = "2031-05-07T06:00:00.000000Z"


def langfuse_time(value):
    """Return the canonical time of an observation of Langfuse that starts at this value."""
    record = Record(1, {**OBSERVATION, "startTime": value}, None, "")
    (found,) = langfuse_records(iter([record]), None, None)
    return found.fields.get("time")


@pytest.mark.parametrize(
    "value",
    [
        "2031-05-07T06:00:00Z",
        "2031-05-07 06:00:00",
        " 2031-05-07 06:00:00.000000 ",
        "2031-05-07T08:00:00+02:00",
        "2031-05-07 01:30:00-0430",
        "20310507T060000Z",
        1_935_900_000,
        "1935900000",
        1_935_900_000.0,
        "1935900000000",
        1_935_900_000_000,
        "1935900000000000",
        "1935900000000000000",
        "1.9359e9",
        datetime(2031, 5, 7, 6, tzinfo=UTC),
        datetime(2031, 5, 7, 6),  # noqa: DTZ001
        datetime(2031, 5, 7, 8, tzinfo=timezone(timedelta(hours=2))),
        pd.Timestamp("2031-05-07 06:00:00"),
        pd.Timestamp("2031-05-07 08:00:00+02:00"),
    ],
)
def test_all_forms_of_one_moment_are_the_same_text(value):
    assert utc_time(value) == SIX_O_CLOCK


@pytest.mark.parametrize("value", [1_700_000_000_000, "1700000000000", 1_700_000_000])
def test_milliseconds_are_read_in_every_log(value):
    """The strict reader was right.

    There were two readers. The one for vendors' logs read every number as seconds, so milliseconds
    (JavaScript's `Date.now()`) gave the year 55840, which is not a date, and the time was lost.
    """
    assert time_in(value).year == 2023
    assert utc_time(value).startswith("2023-11-14T22:13:20")
    assert langfuse_time(value).startswith("2023-11-14T22:13:20")


@pytest.mark.parametrize("value", ["20231114", 20231114])
def test_eight_digits_are_a_date_in_every_log(value):
    """The strict reader was right: ISO 8601 allows a date without hyphens.

    The reader for vendors' logs read it as seconds, a day in August 1970, when no model was served.
    A number of eight digits means the same as its text, so that CSV and JSON agree.
    """
    assert utc_time(value) == "2023-11-14T00:00:00.000000Z"
    assert langfuse_time(value).startswith("2023-11-14T00:00:00")


@pytest.mark.parametrize("value", [0, "0", -1])
def test_zero_is_not_a_time_in_any_log(value):
    """The strict reader was right: exporters write 0 if a time is not set, and do not mean 1970.

    The reader for vendors' logs returned the first second of 1970.
    """
    assert time_in(value) is None
    assert langfuse_time(value) is None


@pytest.mark.parametrize("value", ["2031-05-07", "20310507", date(2031, 5, 7)])
def test_a_date_is_its_first_moment(value):
    assert utc_time(value) == "2031-05-07T00:00:00.000000Z"


def test_fractions_of_a_second_are_kept_to_the_microsecond():
    assert utc_time("2031-05-07 06:00:00.123456") == "2031-05-07T06:00:00.123456Z"
    assert utc_time("1935900000123456789") == "2031-05-07T06:00:00.123457Z"
    assert utc_time("1935900000123") == "2031-05-07T06:00:00.123000Z"


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "2031-13-01",
        "07.05.2031",
        "",
        "12",
        "20310507060000",
        "nan",
        "inf",
        "1e400",
        "0001-01-01T00:00:00+01:00",
        0,
        12.5,
        -1_900_000_000,
        float("nan"),
        float("inf"),
        10**400,
        True,
        None,
        [1],
        {"seconds": 1},
    ],
)
def test_a_value_that_is_not_a_timestamp_is_refused(value):
    with pytest.raises(ValueError, match="not a timestamp"):
        utc_time(value)


@given(MOMENTS, MOMENTS)
def test_the_texts_sort_as_the_moments_do(left, right):
    assert (utc_time(left) < utc_time(right)) == (left < right)


@given(MOMENTS, st.integers(-14 * 60, 14 * 60))
def test_zones_and_units_change_nothing(moment, minutes):
    local = moment.astimezone(timezone(timedelta(minutes=minutes)))
    microseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    for value in [local, local.isoformat(" "), microseconds, f"{microseconds * 1000}"]:
        assert utc_time(value) == utc_time(moment)


@given(st.decimals(-(10**6), 10**6, places=3))
def test_every_reader_reads_the_same_number(number):
    """The lenient reader was right: Parquet logs have decimal columns, such as costs.

    The strict one refused them as "not a number".
    """
    for value in (number, float(number), str(number)):
        assert number_in(value) == number_of({"cost": value}, "cost") == float(number)


@pytest.mark.parametrize("value", [True, "true", " True "])
def test_a_truth_value_is_a_score_but_not_a_measurement(value):
    """Both readers agreed on scores; a vendor's cost or token count of `true` is an error."""
    assert score_in(value) == number_of({"cheap_score": value}, "cheap_score") == 1.0
    assert number_in(value) is None


@pytest.mark.parametrize("value", [float("nan"), "inf", "good", [1], "1e999"])
def test_a_value_that_is_not_a_finite_number_is_refused_with_it(value):
    assert score_in(value) is None
    with pytest.raises(BadRecordError, match="cost is not a finite number: "):
        number_of({"cost": value}, "cost")


def test_a_bad_time_makes_no_example_and_no_time_makes_one():
    columns = ColumnMap({"query": "q", "needs_frontier": "y", "time": "meta.at"})
    rule = LabelRules(("explicit",))

    def example(**meta):
        return example_from(columns.values({"q": "a", "y": 0, "meta": meta}), rule, "id")

    assert example(at=1_935_900_000).time == SIX_O_CLOCK
    assert [example().time, example(at=None).time, example(at=" ").time] == ["", "", ""]
    with pytest.raises(BadRecordError, match=r"time is not a timestamp: 'noon'"):
        example(at="noon")
