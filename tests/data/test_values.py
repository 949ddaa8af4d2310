"""Every form in which logs write a time becomes one text in UTC."""

from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.column_map import ColumnMap
from querytier.data.example import example_from
from querytier.data.labelling import LabelRules
from querytier.data.timestamps import utc_time
from querytier.data.values import BadRecordError

MOMENTS = st.integers(10**14, 42 * 10**14).map(
    lambda microseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
SIX_O_CLOCK = "2031-05-07T06:00:00.000000Z"


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
def test_what_is_no_timestamp_is_refused(value):
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


def test_a_record_whose_time_is_none_makes_no_example_and_one_without_a_time_does():
    columns = ColumnMap({"query": "q", "needs_frontier": "y", "time": "meta.at"})
    rule = LabelRules(("explicit",))

    def example(**meta):
        return example_from(columns.values({"q": "a", "y": 0, "meta": meta}), rule, "id")

    assert example(at=1_935_900_000).time == SIX_O_CLOCK
    assert [example().time, example(at=None).time, example(at=" ").time] == ["", "", ""]
    with pytest.raises(BadRecordError, match=r"time is not a timestamp: 'noon'"):
        example(at="noon")
