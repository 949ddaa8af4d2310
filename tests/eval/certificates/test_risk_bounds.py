"""Laws of the bounds that certificates rest on."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from querytier.eval.certificates.risk_bounds import (
    betting_bound,
    betting_log_p_value,
    binomial_log_p_values,
    fewest_without_failure,
)
from querytier.eval.intervals import clopper_pearson

LEVEL = st.floats(0.01, 0.5)
COUNT = st.integers(1, 300)
LOSSES = st.lists(st.floats(0, 1), min_size=1, max_size=60).map(np.array)
DRAWS = 2000


def at_most(share, hits, trials):
    """Whether a one-sided binomial test does not reject that the share is at most this."""
    return binomtest(int(hits), trials, share, alternative="greater").pvalue > 0.05


def upper_bound(failures, count, delta):
    return clopper_pearson(failures, count, (delta, delta))[1]


def p_value(failures, count, alpha):
    return math.exp(binomial_log_p_values(np.array([failures]), np.array([count]), alpha)[0])


@given(COUNT, st.floats(0, 1), LEVEL)
def test_the_exact_bound_is_that_of_clopper_and_pearson_in_scipy(count, share, delta):
    failures = round(share * count)
    test = binomtest(failures, count, alternative="less")
    expected = test.proportion_ci(1 - delta, method="exact").high
    assert upper_bound(failures, count, delta) == pytest.approx(expected, abs=1e-9)


@given(COUNT, st.floats(0, 1), LEVEL, LEVEL)
def test_the_bound_is_at_most_alpha_if_the_p_value_is_at_most_delta(count, share, alpha, delta):
    failures = round(share * count)
    bound = upper_bound(failures, count, delta)
    assume(abs(bound - alpha) > 1e-9)
    assert (bound <= alpha) == (p_value(failures, count, alpha) <= delta)


@given(COUNT, LEVEL, st.floats(0, 0.5), LEVEL)
def test_exact_p_values_are_super_uniform_if_the_risk_is_above_alpha(count, alpha, excess, level):
    failures = np.arange(count + 1)
    p_values = np.exp(binomial_log_p_values(failures, np.full(count + 1, count), alpha))
    chances = binom.pmf(failures, count, alpha + excess)
    assert chances[p_values <= level].sum() <= level + 1e-9


@given(st.integers(0, 40), st.integers(1, 40), st.integers(2, 20), LEVEL)
def test_the_exact_bound_falls_with_the_rows_at_the_same_share(failures, passes, times, delta):
    count = failures + passes
    larger = upper_bound(failures * times, count * times, delta)
    assert failures / count <= larger < upper_bound(failures, count, delta)


@given(LEVEL, LEVEL)
def test_no_failure_passes_with_the_fewest_rows_and_not_with_one_less(alpha, delta):
    fewest = fewest_without_failure(alpha, delta)
    assert p_value(0, fewest, alpha) <= delta + 1e-9
    assert p_value(0, fewest - 1, alpha) > delta - 1e-9


def test_nothing_seen_shows_nothing():
    assert p_value(0, 0, 0.1) == 1
    assert upper_bound(0, 0, 0.1) == 1
    assert betting_log_p_value(np.empty(0), 0.1, 0.1) == 0
    assert betting_bound(np.empty(0), 0.1) == pytest.approx(1)


@given(LOSSES, LEVEL)
def test_the_betting_bound_is_above_the_mean_with_p_value_delta(losses, delta):
    bound = betting_bound(losses, delta)
    assert losses.mean() - 1e-9 <= bound <= 1
    if bound < 1 - 1e-6:
        assert betting_log_p_value(losses, bound + 1e-9, delta) <= math.log(delta)
    if bound > 1e-6:
        assert betting_log_p_value(losses, bound - 1e-6, delta) > math.log(delta)


@given(LOSSES, LEVEL, LEVEL, LEVEL)
def test_a_larger_alpha_has_a_smaller_betting_p_value(losses, alpha, more, delta):
    assert betting_log_p_value(losses, min(alpha + more, 0.99), delta) <= (
        betting_log_p_value(losses, alpha, delta)
    )


@given(st.floats(0, 0.6), LEVEL)
def test_the_betting_bound_falls_with_the_rows_at_the_same_loss(loss, delta):
    bounds = [betting_bound(np.full(count, loss), delta) for count in (50, 200, 800)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]


@given(LEVEL, LEVEL)
def test_no_bet_wins_with_fewer_rows_than_an_exact_test(alpha, delta):
    fewest = fewest_without_failure(alpha, delta)
    assert betting_log_p_value(np.zeros(fewest - 1), alpha, delta) > math.log(delta) - 1e-9


@pytest.mark.parametrize("shape", [(0.05, 0.45), (2.0, 18.0), (0.4, 1.0)])
def test_betting_p_values_are_super_uniform_for_graded_losses(shape):
    random = np.random.default_rng(5)
    draws = random.beta(*shape, size=(DRAWS, 150))
    mean = shape[0] / sum(shape)
    p_values = np.exp([betting_log_p_value(losses, mean, 0.1) for losses in draws])
    for level in (0.01, 0.05, 0.1, 0.3):
        assert at_most(level, (p_values <= level).sum(), DRAWS)


@pytest.mark.parametrize(("low", "high", "chance"), [(0, 1, 0.1), (0.1, 0.6, 0.3), (0, 1, 0.5)])
def test_betting_p_values_are_super_uniform_over_a_short_game(low, high, chance):
    outcomes = np.array(list(itertools.product([False, True], repeat=11)))
    chances = np.where(outcomes, chance, 1 - chance).prod(axis=1)
    mean = low + (high - low) * chance
    games = np.where(outcomes, high, low).astype(float)
    p_values = np.exp([betting_log_p_value(game, mean, 0.1) for game in games])
    order = np.argsort(p_values)
    assert (np.cumsum(chances[order]) <= p_values[order] + 1e-9)[
        np.append(np.diff(p_values[order]) > 1e-12, True)
    ].all()


def test_a_bet_is_made_before_its_loss_is_seen():
    first = np.array([0.0] + [0.301] * 199)
    stake = math.sqrt(2 * math.log(10) / (200 * 0.25))
    assert betting_log_p_value(first, 0.3, 0.1) == pytest.approx(-math.log1p(stake * 0.3))
    lasts = [np.array([0.0] * 50 + [last]) for last in (0.4, 0.7, 1.0)]
    assert len({betting_log_p_value(losses, 0.3, 0.1) for losses in lasts}) == 1


def test_small_losses_have_a_lower_bound_by_betting_than_by_hoeffding():
    losses = np.random.default_rng(5).beta(2, 38, size=300)
    hoeffding = losses.mean() + math.sqrt(math.log(10) / (2 * len(losses)))
    assert betting_bound(losses, 0.1) - losses.mean() < (hoeffding - losses.mean()) / 3
