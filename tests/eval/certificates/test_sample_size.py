"""The predictions of a sample size, compared with simulated certificates."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from querytier.eval.certificates.certify import certify
from querytier.eval.certificates.losses import Losses
from querytier.eval.certificates.sample_size import certifying_power, groups_needed, sample_size
from querytier.eval.certificates.threshold_tests import ThresholdTests
from querytier.eval.intervals import clopper_pearson

RUNS = 400
SETTINGS = {"alpha": 0.1, "delta": 0.1}
TESTS = ThresholdTests(**SETTINGS, exact=True)


def drawn(random, count, prefix, base=0.02, rise=0.2):
    """Losses at scores from 0 to 1; the share base + rise * s / 2 fails below a score s."""
    scores = random.random(count)
    names = np.char.add(prefix, np.arange(count).astype(str)).astype(object)
    failed = (random.random(count) < base + rise * scores).astype(float)
    return Losses("needs_frontier", scores, failed, names, np.full(count, "", dtype=object))


@given(
    st.integers(5, 60),
    st.floats(0.1, 1),
    st.floats(0, 0.3),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
)
@settings(max_examples=25)
def test_the_power_is_the_sum_over_all_outcomes(groups, share, risk, alpha, delta):
    expected = sum(
        binom.pmf(sent, groups, share) * binom.pmf(failures, sent, risk)
        for sent in range(groups + 1)
        for failures in range(sent + 1)
        if clopper_pearson(failures, sent, (delta, delta))[1] <= alpha
    )
    found = certifying_power(groups, share, risk, ThresholdTests(alpha, delta, exact=True))
    assert found == pytest.approx(expected, abs=1e-7)


@given(st.floats(0.1, 1), st.floats(0, 0.06), st.floats(0.5, 0.95))
@settings(max_examples=25)
def test_the_number_needed_has_the_power_and_grows_with_it(share, risk, power):
    needed = groups_needed(share, risk, TESTS, power)
    assert certifying_power(needed, share, risk, TESTS) >= power
    assert certifying_power(needed - 1, share, risk, TESTS) < power
    assert groups_needed(share, risk, TESTS, power / 2) <= needed
    assert groups_needed(share / 2, risk, TESTS, power) >= needed


@pytest.mark.slow
def test_simulated_certificates_need_the_sample_size_within_15_percent():
    random, share = np.random.default_rng(0), 0.5
    calibration = replace(drawn(random, 1000, "a"), decision_scores=np.linspace(0, 1, 1000))
    needed = groups_needed(share, 0.02 + 0.1 * share, TESTS, 0.8)

    def granted(groups):
        return np.mean(
            [
                certify(
                    calibration,
                    drawn(random, round(groups), "b"),
                    seed=1,
                    first_share=share,
                    **SETTINGS,
                ).granted
                for _ in range(RUNS)
            ]
        )

    assert granted(0.85 * needed) < 0.8 < granted(1.15 * needed)


def test_a_sample_size_says_what_more_labels_cost():
    rows = drawn(np.random.default_rng(1), 20_000, "a")
    found = sample_size(
        rows, target_cheap_share=0.5, labelled=300, seed=1, price_per_label=0.25, **SETTINGS
    )
    assert found.status == "reachable"
    assert found.risk == pytest.approx(0.07, abs=0.01)
    assert found.risk_low < found.risk < found.risk_high
    assert found.needed_low < found.needed < found.needed_high
    assert (found.more, found.price) == (found.needed - 300, 0.25 * (found.needed - 300))
    assert json.loads(json.dumps(found.to_dict()))["needed"] == found.needed


def test_the_labels_of_today_certify_the_share_today_and_no_more():
    rows = drawn(np.random.default_rng(1), 20_000, "a")

    def planned(share, labelled):
        return sample_size(rows, target_cheap_share=share, labelled=labelled, seed=1, **SETTINGS)

    today = planned(0.5, 600).share_today
    assert planned(today, 600).more == 0
    assert planned(today + 0.03, 600).more > 0
    assert planned(0.5, 2000).share_today > today
    assert planned(0.5, 5).share_today is None
    assert planned(0.5, 600).price is None


def test_a_share_that_no_number_of_labels_certifies_is_unreachable():
    rows = drawn(np.random.default_rng(2), 20_000, "a")
    found = sample_size(
        rows, target_cheap_share=1.0, labelled=0, seed=1, price_per_label=1, **SETTINGS
    )
    assert found.status == "unreachable"
    assert (found.needed, found.more, found.price) == (None, None, None)
    assert "not below alpha 0.1: no number of labels certifies it; lower the share" in found.reason
    assert groups_needed(0.5, 0.09999, TESTS, 0.8) is None


def test_a_sample_size_warns_if_the_interval_of_the_risk_reaches_alpha():
    every_fifteenth = (np.arange(300) % 15 == 7).astype(float)
    rows = replace(
        drawn(np.random.default_rng(3), 300, "a"),
        decision_scores=np.linspace(0, 1, 300),
        values=every_fifteenth,
    )
    found = sample_size(rows, target_cheap_share=0.5, labelled=0, seed=1, **SETTINGS)
    assert found.status == "reachable"
    assert found.needed_high is None
    assert "it may be out of reach" in found.reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"power": 1.0}, "power is 1; it must be between 0 and 1"),
        ({"target_cheap_share": 0.0}, "target_cheap_share is 0"),
        ({"labelled": -1}, "labelled is -1"),
        ({"price_per_label": -0.5}, "price_per_label -0.5; both must be 0 or more"),
    ],
)
def test_a_parameter_out_of_its_range_is_an_error(changes, message):
    rows = drawn(np.random.default_rng(4), 50, "a")
    parameters = {"target_cheap_share": 0.5, "labelled": 0, "seed": 1, **SETTINGS, **changes}
    with pytest.raises(ValueError, match=message):
        sample_size(rows, **parameters)


def test_graded_losses_have_no_sample_size():
    rows = drawn(np.random.default_rng(4), 50, "a")
    graded = Losses("quality_lost", rows.decision_scores, rows.values / 2, rows.groups, rows.slices)
    with pytest.raises(ValueError, match="50 rows, with graded losses or none at all"):
        sample_size(graded, target_cheap_share=0.5, labelled=0, seed=1, **SETTINGS)
