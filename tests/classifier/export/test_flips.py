"""Laws of the flip report between two graphs, and of its budget."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import binomtest

from querytier.classifier.export.flips import (
    FlipBudget,
    FlipReport,
    compare_decisions,
    flip_interval,
)
from querytier.classifier.runtime import GraphOutputs

SHARES = st.floats(0, 1)
COUNTS = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
ANYTHING = FlipBudget(1.0, 1.0, 1.0)


@st.composite
def two_outputs(draw):
    texts = draw(st.integers(1, 40))
    columns = [draw(arrays.arrays(np.float64, texts, elements=SHARES)) for _ in range(4)]
    return GraphOutputs(*columns[:2], draw(SHARES)), GraphOutputs(*columns[2:], draw(SHARES))


def outputs(scores, threshold=0.5):
    scores = np.array(scores, dtype=np.float64)
    return GraphOutputs(scores, scores, threshold)


@given(two_outputs())
def test_a_graph_does_not_differ_from_itself(pair):
    report = compare_decisions(pair[0], replace(pair[0]))
    assert (report.flips, report.near_threshold_flips) == (0, 0)
    assert (report.flip_share, report.low) == (0, 0)
    assert (report.max_difference, report.mean_difference) == (0, 0)
    assert report.high > 0


@given(two_outputs())
def test_both_directions_report_the_same(pair):
    """Except for the texts near the threshold, which belongs to the reference."""
    there, back = compare_decisions(*pair), compare_decisions(*pair[::-1])
    same = {"near_threshold_texts": 0, "near_threshold_flips": 0}
    assert replace(there, **same) == replace(back, **same)


@given(two_outputs())
def test_shares_are_inside_their_interval(pair):
    report = compare_decisions(*pair)
    assert 0 <= report.low <= report.flip_share <= report.high <= 1
    assert report.flip_share == report.flips / report.texts
    assert report.near_threshold_flips <= min(report.flips, report.near_threshold_texts)
    assert report.texts / 10 <= report.near_threshold_texts <= report.texts
    assert 0 <= report.mean_difference <= report.max_difference * (1 + 1e-12)


@given(two_outputs(), st.randoms(use_true_random=False))
def test_the_order_of_the_texts_does_not_matter(pair, random):
    order = list(range(len(pair[0].p_frontier)))
    random.shuffle(order)
    shuffled = [
        GraphOutputs(one.p_frontier[order], one.decision_scores[order], one.threshold)
        for one in pair
    ]
    one, other = compare_decisions(*pair), compare_decisions(*shuffled)
    assert one.mean_difference == pytest.approx(other.mean_difference)
    assert replace(one, mean_difference=0) == replace(other, mean_difference=0)


@given(COUNTS)
def test_the_interval_is_scipys_and_narrows_with_more_texts(count):
    flips, texts = count
    wanted = binomtest(flips, texts).proportion_ci(method="exact")
    found = flip_interval(flips, texts)
    assert found == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    larger = flip_interval(3 * flips, 3 * texts)
    assert larger[1] - larger[0] < found[1] - found[0]


def test_each_graph_decides_by_its_own_threshold():
    reference = outputs([0.1, 0.4, 0.6, 0.9])
    assert compare_decisions(reference, outputs([0.2, 0.5, 0.7, 1.0], 0.6)).flips == 0
    assert compare_decisions(reference, outputs([0.2, 0.5, 0.7, 1.0], 0.5)).flips == 1


def test_flips_near_the_threshold_of_the_reference_are_counted():
    scores = np.linspace(0, 1, 100)
    moved = scores.copy()
    moved[[0, 49]] = 0.8
    report = compare_decisions(outputs(scores), outputs(moved))
    assert (report.texts, report.flips) == (100, 2)
    assert (report.near_threshold_texts, report.near_threshold_flips) == (10, 1)
    assert report.max_difference == pytest.approx(0.8)


def test_equal_scores_are_all_near_the_threshold():
    assert compare_decisions(outputs([0.3] * 20), outputs([0.6] * 20)).near_threshold_texts == 20


@pytest.mark.parametrize("other", [[], [0.1], [0.1] * 3])
def test_different_numbers_of_texts_are_refused(other):
    with pytest.raises(ValueError, match=f"has 2 texts and the other graph {len(other)};"):
        compare_decisions(outputs([0.1, 0.2]), outputs(other))


def test_no_texts_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        compare_decisions(outputs([]), outputs([]))


def test_values_that_are_not_finite_or_differ_in_length_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        outputs([0.1, np.nan])
    with pytest.raises(ValueError, match="not finite"):
        outputs([0.1], np.inf)
    with pytest.raises(ValueError, match=r"\(1,\) and the decision scores \(2,\)"):
        GraphOutputs(np.zeros(1), np.zeros(2), 0.5)


def test_a_small_set_does_not_pass_by_luck():
    scores = np.linspace(0, 1, 400)
    budget = replace(ANYTHING, flip_share=0.01)
    few, many = outputs(scores[::20]), outputs(scores)
    refusal = budget.refusal(compare_decisions(few, few))
    assert refusal == (
        "0 of 20 texts changed tier, so the flip share may be 0.168, more than the 0.01 allowed"
    )
    assert budget.refusal(compare_decisions(many, many)) is None


def test_every_exceeded_limit_is_named_with_both_numbers():
    report = FlipReport(500, 10, 0.02, 0.0096, 0.0365, 50, 9, 0.07, 0.011)
    refusal = FlipBudget(0.03, 0.05, 0.01).refusal(report)
    assert refusal == (
        "10 of 500 texts changed tier, so the flip share may be 0.0365, "
        "more than the 0.03 allowed; "
        "the largest difference in p_frontier is 0.07, more than the 0.05 allowed; "
        "the mean difference in p_frontier is 0.011, more than the 0.01 allowed"
    )


@given(two_outputs(), st.tuples(SHARES, SHARES, SHARES))
def test_a_report_passes_if_all_three_numbers_are_within_the_budget(pair, allowed):
    report = compare_decisions(*pair)
    found = (report.high, report.max_difference, report.mean_difference)
    within = all(number <= most for number, most in zip(found, allowed, strict=True))
    assert (FlipBudget(*allowed).refusal(report) is None) == within
    assert FlipBudget(*found).refusal(report) is None
