"""Parts of the Brier score and calibration error: identities, and simulations with known truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as log_loss_of_scikit_learn

from querytier.eval.calibration import (
    brier_parts,
    calibration_scores,
    log_loss,
    reliability_bins,
)
from querytier.eval.intervals import Resampling
from querytier.eval.metrics import brier

ROW = st.tuples(
    st.integers(0, 8).map(lambda n: n / 8),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.integers(1, 3),
)
ROWS = st.lists(ROW, min_size=2, max_size=30).map(lambda rows: np.array(rows, dtype=float).T)

LEVELS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
TRUTH = np.array([0.2, 0.25, 0.5, 0.6, 0.95])
MISCALIBRATION = np.mean((LEVELS - TRUTH) ** 2)
SPREAD = TRUTH.var()


@given(ROWS, st.integers(1, 12), st.booleans())
def test_the_parts_add_up_to_the_brier_score(rows, bins, debiased):
    p, y, weights = rows
    parts = brier_parts(p, y, weights[np.newaxis], bins, debiased=debiased)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
    np.testing.assert_allclose(total, brier(p, y, weights[np.newaxis]), atol=1e-12)


@given(ROWS)
def test_with_a_bin_for_each_probability_nothing_is_left_within_bins(rows):
    p, y, weights = rows
    exact = brier_parts(p, y, weights[np.newaxis], bins=len(p), debiased=False)
    np.testing.assert_allclose(exact.within_bins, 0, atol=1e-12)
    assert exact.reliability >= 0
    assert -1e-12 <= exact.resolution <= exact.uncertainty + 1e-12


@given(ROWS, st.integers(1, 12))
def test_a_weight_of_two_is_the_row_twice_if_bins_are_the_same(rows, bins):
    p, y, weights = rows
    times = weights.astype(int)
    one_bin_each = max(bins, len(p)) * 3
    again = np.repeat(p, times), np.repeat(y, times), np.ones((1, times.sum()))
    for debiased in (False, True):
        first = brier_parts(p, y, weights[np.newaxis], one_bin_each, debiased=debiased)
        second = brier_parts(*again, one_bin_each, debiased=debiased)
        for name in ("reliability", "resolution", "uncertainty"):
            np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=1e-12)


@given(ROWS)
def test_log_loss_is_that_of_scikit_learn(rows):
    p, y, weights = rows
    inner, hard = np.clip(p, 0.01, 0.99), (y > 0.5).astype(int)
    expected = log_loss_of_scikit_learn(hard, inner, sample_weight=weights, labels=[0, 1])
    assert log_loss(inner, hard, weights[np.newaxis]) == pytest.approx([expected])


def test_a_certain_mistake_costs_sixteen_nats_and_not_infinitely_many():
    assert log_loss(np.ones(1), np.zeros(1), np.ones((1, 1))) == pytest.approx([16.118], abs=1e-3)


def simulated(random, truth, rows):
    level = random.integers(0, 5, rows)
    return LEVELS[level], (random.random(rows) < truth[level]).astype(float)


@pytest.mark.parametrize(("truth", "error"), [(LEVELS, 0.0), (TRUTH, MISCALIBRATION)])
def test_debiased_parts_are_right_on_average_and_plain_ones_are_not(truth, error):
    random, found = np.random.default_rng(0), {True: [], False: []}
    for _ in range(2000):
        p, y = simulated(random, truth, 60)
        for debiased, values in found.items():
            parts = brier_parts(p, y, np.ones((1, 60)), debiased=debiased)
            values.append([parts.reliability[0], parts.resolution[0], parts.uncertainty[0]])
    mean = truth.mean()
    expected = [error, truth.var(), mean * (1 - mean)]
    corrected, plain = np.array(found[True]), np.array(found[False])
    tolerance = 3.5 * corrected.std(axis=0) / len(corrected) ** 0.5
    assert (np.abs(corrected.mean(axis=0) - expected) < tolerance).all()
    assert plain[:, 0].mean() > error + 5 * tolerance[0]
    assert plain[:, 1].mean() > truth.var() + 3 * tolerance[1]


@pytest.mark.slow
@pytest.mark.parametrize("rows_each", [1, 3])
def test_intervals_contain_the_parts_at_their_level(rows_each):
    """Even if the rows of a group are copies, which the correction treats as independent."""
    random, covered, simulations, groups = np.random.default_rng(1), [], 300, 200
    for seed in range(simulations):
        p, y = (np.repeat(column, rows_each) for column in simulated(random, TRUTH, groups))
        names = np.repeat(np.arange(groups), rows_each).astype(str)
        found = calibration_scores(p, y, Resampling(names.tolist(), 200, seed))
        for estimate, truth in (
            (found["reliability"], MISCALIBRATION),
            (found["calibration_error"], MISCALIBRATION**0.5),
            (found["resolution"], SPREAD),
        ):
            covered.append(estimate.low <= truth <= estimate.high)
    shares = np.reshape(covered, (simulations, 3)).mean(axis=0)
    assert (np.abs(shares - 0.95) < 3.3 * (0.95 * 0.05 / simulations) ** 0.5).all(), shares


def test_the_calibration_error_of_a_calibrated_model_may_be_zero():
    random = np.random.default_rng(2)
    found = [
        calibration_scores(
            *simulated(random, LEVELS, 200), Resampling([f"{n}" for n in range(200)], 200, seed)
        )
        for seed in range(300)
    ]
    assert np.mean([scores["reliability"].low <= 0 for scores in found]) > 0.95
    assert np.mean([scores["calibration_error"].value == 0 for scores in found]) > 0.4


def test_scores_equal_the_results_of_their_functions():
    p, y = simulated(np.random.default_rng(3), TRUTH, 400)
    found = calibration_scores(p, y, Resampling([f"{n}" for n in range(400)], 100, 0))
    one = np.ones((1, 400))
    parts = brier_parts(p, y, one)
    assert found["brier"].value == pytest.approx(brier(p, y, one)[0])
    assert found["log_loss"].value == pytest.approx(log_loss(p, y, one)[0])
    assert found["reliability"].value == pytest.approx(parts.reliability[0])
    assert found["uncertainty"].value == pytest.approx(parts.uncertainty[0])
    assert found["calibration_error"].value == pytest.approx(parts.reliability[0] ** 0.5)


@given(ROWS, st.integers(1, 12))
def test_bins_hold_every_row_once_and_equal_probabilities_together(rows, bins):
    p, y, _ = rows
    names = np.arange(len(p)).astype(object)
    found = reliability_bins(p, y, names, bins)
    assert 1 <= len(found) <= bins
    assert sum(part.rows for part in found) == len(p)
    assert sum(part.rows * part.observed for part in found) == pytest.approx(y.sum())
    predicted = [part.predicted for part in found]
    assert predicted == sorted(predicted)
    for part in found:
        assert 0 <= part.low <= part.observed + 1e-9
        assert part.observed - 1e-9 <= part.high <= 1


def test_bins_of_distinct_probabilities_have_the_same_number_of_rows():
    p = np.random.default_rng(4).random(100)
    found = reliability_bins(p, p, np.arange(100).astype(object))
    assert [part.rows for part in found] == [10] * 10


def test_a_bin_without_events_has_an_interval():
    names = np.arange(20).astype(object)
    found = reliability_bins(np.full(20, 0.1), np.zeros(20), names)[0]
    assert (found.low, found.observed) == (0, 0)
    assert found.high == pytest.approx(0.161, abs=1e-3)


@pytest.mark.parametrize("rows_each", [1, 4])
def test_intervals_of_bins_contain_the_share_at_their_level(rows_each):
    random, covered = np.random.default_rng(5), []
    for _ in range(300):
        p, y = simulated(random, TRUTH, 300)
        names = np.repeat(np.arange(300), rows_each).astype(object)
        found = reliability_bins(np.repeat(p, rows_each), np.repeat(y, rows_each), names, bins=50)
        covered += [
            part.low <= truth <= part.high for part, truth in zip(found, TRUTH, strict=True)
        ]
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 1500) ** 0.5)
