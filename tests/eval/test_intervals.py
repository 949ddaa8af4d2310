"""Estimates: how they are written, scaled and read back; means and shares behind them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from querytier.eval.intervals import (
    Estimate,
    Resampling,
    clopper_pearson,
    one_row_per_group,
    undefined,
    weighted_mean,
)

NUMBERS = st.floats(-1e6, 1e6)
ENDS = st.tuples(NUMBERS, NUMBERS, NUMBERS).map(sorted)


def test_an_interval_is_written_in_one_notation():
    estimate = Estimate(0.6549, 0.612, 0.7)
    assert estimate.text() == "0.655 (0.612 to 0.700)"
    assert estimate.text(".1%") == "65.5% (61.2% to 70.0%)"
    assert estimate.scaled(-1).text(".1%") == "-65.5% (-70.0% to -61.2%)"
    assert Estimate(1234.5, 1000, 2000).text(",.0f") == "1,234 (1,000 to 2,000)"
    assert Estimate(-0.0001, -0.0002, 0.5).text() == "0.000 (0.000 to 0.500)"


def test_without_a_value_or_an_interval_none_is_written():
    assert undefined("no rows").text() == "n/a"
    assert Estimate(0.5, None, None).text() == "0.500"
    assert Estimate(0.5, 0.4, None).text() == "0.500"


@given(ENDS)
def test_an_estimate_survives_json(ends):
    low, value, high = ends
    estimate = Estimate(value, low, high)
    assert Estimate.from_dict(estimate.to_dict()).to_dict() == estimate.to_dict()
    reason = undefined("no rows")
    assert Estimate.from_dict(reason.to_dict()).reason == "no rows"


@given(ENDS, st.floats(-100, 100))
def test_a_scaled_interval_still_holds_its_value(ends, factor):
    low, value, high = ends
    scaled = Estimate(value, low, high, None, np.array(ends)).scaled(factor)
    assert scaled.low <= scaled.value <= scaled.high
    assert scaled.replicates == pytest.approx(factor * np.array(ends))


@given(st.lists(st.tuples(st.floats(-10, 10), st.integers(0, 3)), min_size=1, max_size=20))
def test_a_weighted_mean_is_the_mean_of_repeated_rows(rows):
    values, counts = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    found = weighted_mean(values, np.stack([counts, np.ones(len(rows))]))
    repeated = np.repeat(values, counts.astype(int))
    assert found[1] == pytest.approx(values.mean())
    if len(repeated):
        assert found[0] == pytest.approx(repeated.mean())
    else:
        assert np.isnan(found[0])


@given(st.integers(1, 200), st.floats(0, 1))
def test_the_exact_interval_is_scipys(count, share):
    hits = round(share * count)
    ends = binomtest(hits, count).proportion_ci(method="exact")
    assert clopper_pearson(hits, count) == pytest.approx((ends.low, ends.high), abs=1e-9)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.integers(0, 50))
def test_one_row_of_each_group_counts(names, seed):
    groups = np.array(names, dtype=object)
    rows = one_row_per_group(groups, seed)
    assert sorted(groups[rows]) == sorted(set(names))


def test_an_interval_leaves_out_draws_without_a_value():
    resampling = Resampling(list("abcd"), 200, 0)
    some = resampling.estimate(lambda w: np.where(w[:, 0] > 0, w[:, 0], np.nan), "no value")
    assert some.value == 1
    assert some.low >= 1
    none = resampling.estimate(lambda w: np.full(len(w), np.nan), "no value")
    assert none.reason == "no value"
