"""Curves: the rate that reaches a gain, and quality and cost at a rate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blank import blank_examples
from querytier.eval.curves import RankedExamples, gain_curve, routed_mean
from querytier.eval.intervals import Resampling

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(-2, 4)), min_size=1, max_size=15).map(
    lambda rows: np.array(rows, dtype=float).T
)


@given(ROWS, st.floats(0.01, 1))
def test_the_first_rate_just_reaches_the_gain(rows, share):
    scores, gains = rows
    curve = gain_curve(scores, gains, np.ones((1, len(gains))))
    wanted = share * curve.gains.max(axis=1)
    rate = curve.first_rate(wanted)
    assert curve.at(rate) == pytest.approx(wanted, abs=1e-9)
    below = np.linspace(0, rate[0], 20)[np.newaxis, :-1]
    assert (curve.on(below) <= wanted[0] + 1e-9).all()


@given(ROWS, st.floats(0.01, 1))
def test_cpt_is_the_first_rate_of_a_share_of_the_gap(rows, share):
    scores, gains = rows
    curve = gain_curve(scores, gains, np.ones((1, len(gains))))
    if curve.gap[0] <= 0:
        assert np.isnan(curve.cpt(share)).all()
        return
    rate = curve.cpt(share)
    assert rate == pytest.approx(curve.first_rate(share * curve.gap))
    assert curve.recovered(rate) == pytest.approx(share)


def test_a_gain_out_of_reach_has_no_rate():
    curve = gain_curve(np.arange(3.0), np.ones(3), np.ones((2, 3)))
    assert np.isnan(curve.first_rate(np.array([1.5, np.nan]))).all()


def test_random_routing_has_half_the_area():
    """The mean of ten grid points, which articles use, would give it 0.55."""
    curve = gain_curve(np.zeros(4), np.array([0.0, 1.0, 0.0, 1.0]), np.ones((1, 4)))
    assert curve.apgr() == pytest.approx([0.5])
    grid = np.arange(1, 11)[np.newaxis, :] / 10
    assert (curve.on(grid) / curve.gap).mean() == pytest.approx(0.55)


@given(ROWS, st.floats(0, 1))
def test_a_routed_mean_is_on_the_curve_between_the_tiers(rows, rate):
    scores, frontier = rows
    cheap, one = np.ones(len(frontier)), np.ones((1, len(frontier)))
    mean = routed_mean(scores, cheap, frontier, one)
    assert mean.at(np.zeros(1)) == pytest.approx(cheap.mean())
    assert mean.at(np.ones(1)) == pytest.approx(frontier.mean())
    assert mean.at(np.array([rate])) == pytest.approx(1 + mean.curve.at(np.array([rate])))


@pytest.mark.parametrize("frontier", [0.0, -0.5])
def test_quality_retained_needs_a_frontier_mean_above_zero(frontier):
    """The report divided by any mean except 0; the published claim, rightly, only by one above 0.

    With a mean of -0.5, a routed mean of -1 would have "retained" 200%.
    """
    examples = blank_examples(cheap_score=[-1.0] * 4, frontier_score=[frontier] * 4)
    ranked = RankedExamples(np.arange(4.0), examples, Resampling(list("abcd"), 10, 0))
    retained = ranked.quality_retained(lambda weights: np.full(len(weights), 0.5))
    assert retained.value is None
    assert retained.reason.startswith("the mean frontier score is not above 0")


def test_costs_or_scores_that_the_log_does_not_have_are_not_estimated():
    ranked = RankedExamples(
        np.arange(2.0), blank_examples(query=["a", "b"]), Resampling(list("ab"), 10, 0)
    )

    def half(weights):
        return np.full(len(weights), 0.5)

    assert "no scores of both tiers" in ranked.quality_retained(half).reason
    assert "no costs of both tiers" in ranked.cost_saved(half).reason
