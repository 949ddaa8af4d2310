"""Laws of the label rules."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.label_rules import (
    cheap_fails_frontier_succeeds,
    feedback,
    graded_samples,
    preference,
    quality_gap,
)

SCORES = st.floats(-10, 10)
GRADES = st.lists(st.floats(0, 1), min_size=1, max_size=4)
NEGATIVE = ("thumbs_down", "retry", "escalation", "human_takeover")


@given(SCORES, SCORES, SCORES, st.floats(0.01, 5))
def test_a_wider_gap_never_lowers_the_label(cheap, frontier, other, margin):
    lower, higher = sorted([frontier, other])
    labels = quality_gap(cheap, lower, margin), quality_gap(cheap, higher, margin)
    assert 0 <= labels[0] <= labels[1] <= 1


@given(SCORES, SCORES, st.floats(0.01, 5))
def test_only_one_of_two_answers_can_be_better(first, second, margin):
    assert 0 in {quality_gap(first, second, margin), quality_gap(second, first, margin)}


@given(SCORES, st.floats(0.01, 5), st.floats(0, 1))
def test_the_label_is_the_share_of_the_margin(cheap, margin, share):
    assert quality_gap(cheap, cheap + share * margin, margin) == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan")])
def test_a_margin_that_is_not_above_zero_is_an_error(margin):
    with pytest.raises(ValueError, match="a margin above 0"):
        quality_gap(0, 1, margin)


def test_only_a_frontier_win_needs_the_frontier_model():
    assert [preference(winner) for winner in ("frontier", "cheap", "tie", "both_bad")] == [
        1.0,
        0.0,
        0.0,
        0.0,
    ]
    with pytest.raises(ValueError, match=r"winner is 'model_a'; it is one of frontier, cheap"):
        preference("model_a")


@given(GRADES, GRADES, st.floats(0, 1))
def test_graded_answers_give_the_mean_label_over_all_their_pairs(cheap, frontier, ok):
    pairs = [cheap_fails_frontier_succeeds(*pair, ok) for pair in product(cheap, frontier)]
    assert graded_samples(cheap, frontier, ok) == pytest.approx(sum(pairs) / len(pairs))


def test_without_a_graded_answer_there_is_no_label():
    assert graded_samples([], [1.0], 0.5) is None
    assert graded_samples([0.0], [], 0.5) is None


def test_feedback_makes_a_label_only_on_the_cheap_answer():
    assert feedback("cheap", "thumbs_up") == 0.0
    assert feedback("cheap", "escalation") == 1.0
    assert all(0.5 < feedback("cheap", outcome) <= 1 for outcome in NEGATIVE)
    assert {feedback("frontier", outcome) for outcome in ("thumbs_up", *NEGATIVE)} == {None}


@pytest.mark.parametrize(
    ("tier", "outcome", "message"),
    [
        ("cheap", "shrug", "outcome is 'shrug'; it is one of thumbs_up"),
        ("weak", "retry", "tier is 'weak'; it is cheap or frontier"),
    ],
)
def test_unknown_feedback_is_an_error(tier, outcome, message):
    with pytest.raises(ValueError, match=message):
        feedback(tier, outcome)
