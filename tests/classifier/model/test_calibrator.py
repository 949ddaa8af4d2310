"""Laws of the calibrator: it keeps the order of log-odds and contains two familiar forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from querytier.classifier.model.calibrator import Calibrator, sigmoid

SLOPES = st.floats(0, 20)
OFFSETS = st.floats(-20, 20)
LOG_ODDS = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e4, 1e4))


@given(SLOPES, SLOPES, OFFSETS, LOG_ODDS)
def test_calibrated_log_odds_never_fall_if_log_odds_rise(rising, falling, offset, z):
    calibrated = Calibrator(rising, falling, offset).logits(np.sort(z))
    assert np.isfinite(calibrated).all()
    rounding = 1e-14 * (1 + np.abs(calibrated).max())
    assert (np.diff(calibrated) >= -rounding).all()


@given(SLOPES, OFFSETS, LOG_ODDS)
def test_equal_slopes_are_platt_scaling(slope, offset, z):
    calibrated = Calibrator(slope, slope, offset).logits(z)
    np.testing.assert_allclose(calibrated, slope * z + offset, rtol=1e-14, atol=1e-300)


@given(LOG_ODDS)
def test_sigmoid_is_symmetric_and_keeps_the_order(z):
    """1 / (1 + exp(-z)), which was in eight places, overflows below z = -709."""
    p = sigmoid(z)
    assert ((p >= 0) & (p <= 1)).all()
    np.testing.assert_allclose(p + sigmoid(-z), 1, atol=1e-15)
    assert (np.diff(sigmoid(np.sort(z))) >= 0).all()


@given(SLOPES, SLOPES, OFFSETS, LOG_ODDS)
def test_probabilities_are_the_sigmoid_of_calibrated_log_odds(rising, falling, offset, z):
    calibrator = Calibrator(rising, falling, offset)
    np.testing.assert_array_equal(calibrator.probabilities(z), sigmoid(calibrator.logits(z)))


@given(LOG_ODDS)
def test_the_identity_does_not_change_log_odds(z):
    np.testing.assert_array_equal(Calibrator.identity().logits(z), z)


@given(
    SLOPES,
    SLOPES,
    OFFSETS,
    hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-15, 15)),
)
def test_it_is_beta_calibration_of_the_probability(rising, falling, offset, z):
    p = 1 / (1 + np.exp(-z))
    expected = rising * np.log(p) - falling * np.log1p(-p) + offset
    found = Calibrator(rising, falling, offset).logits(z)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_each_side_has_its_own_slope_far_from_zero():
    found = Calibrator(2.0, 0.5, 1.0).logits(np.array([[-1e4, 1e4]], np.float32))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[-19999.0, 5001.0]])


@pytest.mark.parametrize("values", [(-0.1, 1, 0), (1, -0.1, 0), (np.nan, 1, 0), (1, 1, np.inf)])
def test_negative_slopes_and_values_that_are_not_finite_are_refused(values):
    with pytest.raises(ValueError, match="give finite numbers, and slopes of at least 0"):
        Calibrator(*values)
