"""Laws of drift between what two graphs say, and of its budget."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import binomtest

from querytier.classifier.export.flips import Drift, DriftBudget, Said, flip_interval, measure_drift

SHARES = st.floats(0, 1)
COUNTS = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
ANYTHING = DriftBudget(1.0, 1.0, 1.0)


@st.composite
def two_said(draw):
    texts = draw(st.integers(1, 40))
    columns = [draw(arrays.arrays(np.float64, texts, elements=SHARES)) for _ in range(4)]
    return Said(*columns[:2], draw(SHARES)), Said(*columns[2:], draw(SHARES))


def said(scores, threshold=0.5):
    scores = np.array(scores, dtype=np.float64)
    return Said(scores, scores, threshold)


@given(two_said())
def test_a_copy_of_itself_has_no_drift(pair):
    drift = measure_drift(pair[0], replace(pair[0]))
    assert (drift.flips, drift.near_threshold_flips) == (0, 0)
    assert (drift.flip_share, drift.low) == (0, 0)
    assert (drift.max_difference, drift.mean_difference) == (0, 0)
    assert drift.high > 0


@given(two_said())
def test_drift_there_is_drift_back(pair):
    """All but the texts near the threshold, which is the reference's."""
    there, back = measure_drift(*pair), measure_drift(*pair[::-1])
    same = {"near_threshold_texts": 0, "near_threshold_flips": 0}
    assert replace(there, **same) == replace(back, **same)


@given(two_said())
def test_shares_lie_in_their_interval_and_parts_within_the_whole(pair):
    drift = measure_drift(*pair)
    assert 0 <= drift.low <= drift.flip_share <= drift.high <= 1
    assert drift.flip_share == drift.flips / drift.texts
    assert drift.near_threshold_flips <= min(drift.flips, drift.near_threshold_texts)
    assert drift.texts / 10 <= drift.near_threshold_texts <= drift.texts
    assert 0 <= drift.mean_difference <= drift.max_difference * (1 + 1e-12)


@given(two_said(), st.randoms(use_true_random=False))
def test_the_order_of_the_texts_does_not_matter(pair, random):
    order = list(range(len(pair[0].p_frontier)))
    random.shuffle(order)
    shuffled = [
        Said(one.p_frontier[order], one.decision_scores[order], one.threshold) for one in pair
    ]
    one, other = measure_drift(*pair), measure_drift(*shuffled)
    assert one.mean_difference == pytest.approx(other.mean_difference)
    assert replace(one, mean_difference=0) == replace(other, mean_difference=0)


@given(COUNTS)
def test_the_interval_is_scipys_exact_one_and_narrows_with_more_texts(count):
    flips, texts = count
    wanted = binomtest(flips, texts).proportion_ci(method="exact")
    found = flip_interval(flips, texts)
    assert found == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    larger = flip_interval(3 * flips, 3 * texts)
    assert larger[1] - larger[0] < found[1] - found[0]


def test_each_graph_decides_by_its_own_threshold():
    reference = said([0.1, 0.4, 0.6, 0.9])
    assert measure_drift(reference, said([0.2, 0.5, 0.7, 1.0], 0.6)).flips == 0
    assert measure_drift(reference, said([0.2, 0.5, 0.7, 1.0], 0.5)).flips == 1


def test_flips_are_looked_for_where_the_reference_is_nearest_to_its_threshold():
    scores = np.linspace(0, 1, 100)
    moved = scores.copy()
    moved[[0, 49]] = 0.8
    drift = measure_drift(said(scores), said(moved))
    assert (drift.texts, drift.flips) == (100, 2)
    assert (drift.near_threshold_texts, drift.near_threshold_flips) == (10, 1)
    assert drift.max_difference == pytest.approx(0.8)


def test_scores_that_are_all_the_same_are_all_near_the_threshold():
    assert measure_drift(said([0.3] * 20), said([0.6] * 20)).near_threshold_texts == 20


@pytest.mark.parametrize("other", [[], [0.1], [0.1] * 3])
def test_other_numbers_of_texts_are_refused(other):
    with pytest.raises(ValueError, match=f"2 texts of the reference and {len(other)} of the other"):
        measure_drift(said([0.1, 0.2]), said(other))


def test_no_texts_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        measure_drift(said([]), said([]))


def test_what_is_no_number_or_of_two_lengths_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        said([0.1, np.nan])
    with pytest.raises(ValueError, match="not finite"):
        said([0.1], np.inf)
    with pytest.raises(ValueError, match=r"\(1,\) and decision scores of shape \(2,\)"):
        Said(np.zeros(1), np.zeros(2), 0.5)


def test_a_small_set_does_not_pass_by_luck():
    scores = np.linspace(0, 1, 400)
    budget = replace(ANYTHING, flip_share=0.01)
    few, many = said(scores[::20]), said(scores)
    refusal = budget.refusal(measure_drift(few, few))
    assert refusal == (
        "0 of 20 texts changed their tier, so the flip share is at most 0.168, "
        "more than the 0.01 allowed"
    )
    assert budget.refusal(measure_drift(many, many)) is None


def test_every_gate_that_fails_is_named_with_both_numbers():
    drift = Drift(500, 10, 0.02, 0.0096, 0.0365, 50, 9, 0.07, 0.011)
    refusal = DriftBudget(0.03, 0.05, 0.01).refusal(drift)
    assert refusal == (
        "10 of 500 texts changed their tier, so the flip share is at most 0.0365, "
        "more than the 0.03 allowed; "
        "the largest difference of p_frontier is 0.07, more than the 0.05 allowed; "
        "the mean difference of p_frontier is 0.011, more than the 0.01 allowed"
    )


@given(two_said(), st.tuples(SHARES, SHARES, SHARES))
def test_a_drift_passes_exactly_where_all_three_numbers_are_within_the_budget(pair, allowed):
    drift = measure_drift(*pair)
    found = (drift.high, drift.max_difference, drift.mean_difference)
    within = all(number <= most for number, most in zip(found, allowed, strict=True))
    assert (DriftBudget(*allowed).refusal(drift) is None) == within
    assert DriftBudget(*found).refusal(drift) is None
