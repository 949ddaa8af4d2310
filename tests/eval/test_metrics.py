"""Metrics, curves and intervals: worked examples with known answers, and laws."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from querytier.eval.curves import gain_curve
from querytier.eval.intervals import Resampling, difference, undefined
from querytier.eval.metrics import auroc, average_precision, brier, ece, ece_when_calibrated
from querytier.eval.rankings import Ranking, keyword_score, keyword_tier, shuffled_decisions

WORKED_EXAMPLE = "Analyze the tradeoffs of switching our checkout to a subscription model"

ROW = st.tuples(
    st.integers(0, 4).map(lambda n: n / 4),
    st.sampled_from([0.0, 0.25, 0.75, 1.0]),
    st.integers(1, 3),
)
ROWS = st.lists(ROW, min_size=2, max_size=30).map(lambda rows: np.array(rows, dtype=float).T)


def ones(count):
    return np.ones((1, count))


@given(ROWS)
def test_auroc_and_brier_are_those_of_scikit_learn(rows):
    scores, labels, weights = rows
    hard = (labels > 0.5).astype(int)
    if 0 < hard.sum() < len(hard):
        expected = roc_auc_score(hard, scores, sample_weight=weights)
        assert auroc(scores, labels, weights[np.newaxis]) == pytest.approx([expected])
    else:
        assert np.isnan(auroc(scores, labels, weights[np.newaxis])).all()
    expected = brier_score_loss(hard, scores, sample_weight=weights, labels=[0, 1])
    assert brier(scores, hard, weights[np.newaxis]) == pytest.approx([expected])


@given(ROWS)
def test_average_precision_is_that_of_scikit_learn(rows):
    scores, labels, weights = rows
    hard = (labels > 0.5).astype(int)
    ours = average_precision(scores, labels, weights[np.newaxis])
    if hard.any():
        expected = average_precision_score(hard, scores, sample_weight=weights)
        assert ours == pytest.approx([expected])
    else:
        assert np.isnan(ours).all()


@given(ROWS)
def test_a_constant_has_the_share_of_needs_as_its_average_precision(rows):
    _, labels, weights = rows
    share = weights[labels > 0.5].sum() / weights.sum()
    found = average_precision(np.zeros(len(labels)), labels, weights[np.newaxis])
    assert found == pytest.approx([share]) if share else np.isnan(found).all()


@given(ROWS)
def test_rows_drawn_zero_times_do_not_count(rows):
    scores, labels, weights = rows
    more = np.concatenate([scores, [-1.0, 0.5, 2.0]]), np.concatenate([labels, [1.0, 0.0, 0.0]])
    more_weights = np.concatenate([weights, [0.0, 0.0, 0.0]])[np.newaxis]
    for metric in (auroc, average_precision):
        np.testing.assert_allclose(
            metric(*more, more_weights), metric(scores, labels, weights[np.newaxis])
        )


@given(ROWS)
def test_rankings_are_not_judged_by_rows_labelled_one_half(rows):
    scores, labels, _ = rows
    more_scores = np.concatenate([scores, [0.0, 1.0]])
    more_labels = np.concatenate([labels, [0.5, 0.5]])
    for metric in (auroc, average_precision):
        np.testing.assert_allclose(
            metric(more_scores, more_labels, ones(len(more_scores))),
            metric(scores, labels, ones(len(scores))),
        )


@pytest.mark.parametrize("metric", [auroc, average_precision])
def test_without_a_row_of_a_side_nothing_is_ranked(metric):
    assert np.isnan(metric(np.arange(3.0), np.full(3, 0.5), np.ones((2, 3)))).tolist() == [True] * 2


@given(ROWS)
def test_a_weight_of_two_is_the_row_twice(rows):
    scores, labels, weights = rows
    times = weights.astype(int)
    again = np.repeat(scores, times), np.repeat(labels, times), ones(times.sum())
    for metric in (auroc, average_precision, brier, ece):
        weighted = metric(scores, labels, weights[np.newaxis])
        np.testing.assert_allclose(weighted, metric(*again), atol=1e-12)


def test_a_perfectly_calibrated_model_shows_an_ece_above_zero():
    """The floor at n = 1,000 and uniform probabilities was simulated as 0.042 (95th percentile)."""
    uniform = np.random.default_rng(0).random(1000)
    assert ece_when_calibrated(uniform, seed=0) == pytest.approx(0.042, abs=0.004)


CHEAP = np.array([0.0, 1.0, 0.0, 1.0])
FRONTIER = np.array([1.0, 1.0, 1.0, 0.0])
GAIN = FRONTIER - CHEAP


def test_random_routing_recovers_half_of_the_gap():
    """Over all orders of the rows the mean APGR is exactly 0.5, as for a constant."""
    constant = gain_curve(np.zeros(4), GAIN, ones(4))
    assert constant.apgr() == pytest.approx([0.5])
    assert constant.cpt(0.5) == pytest.approx([0.5])
    assert constant.cpt(0.8) == pytest.approx([0.8])
    orders = itertools.permutations(range(4))
    areas = [gain_curve(np.array(order, float), GAIN, ones(4)).apgr()[0] for order in orders]
    assert np.mean(areas) == pytest.approx(0.5)


@given(ROWS, st.integers(0, 9))
def test_shuffled_decisions_are_the_same_decisions_on_other_rows(rows, seed):
    ours = Ranking("classifier", rows[0], rows[0], "its training rows")
    shuffled = shuffled_decisions(ours, seed)
    assert sorted(shuffled.scores) == sorted(ours.scores)
    np.testing.assert_array_equal(shuffled_decisions(ours, seed).scores, shuffled.scores)
    assert shuffled.probabilities is None


def test_shuffled_decisions_get_what_a_constant_gets_on_average():
    random = np.random.default_rng(4)
    gain = random.choice([0.0, 1.0], 100)
    ours = Ranking("classifier", gain + random.random(100), None, "its training rows")
    shuffled = [shuffled_decisions(ours, seed).scores for seed in range(300)]
    areas = [auroc(scores, gain, ones(100))[0] for scores in shuffled]
    recovered = [gain_curve(scores, gain, ones(100)).apgr()[0] for scores in shuffled]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.01)
    assert np.mean(recovered) == pytest.approx(0.5, abs=0.01)
    assert auroc(ours.scores, gain, ones(100))[0] == 1.0


def test_the_oracle_beats_the_gap_if_the_cheap_model_sometimes_wins():
    """Gap 1/4; PGR at rates 0, 1/4, ..., 1 is 0, 1, 2, 2, 1: area (0.5 + 1.5 + 2 + 1.5) / 4."""
    curve = gain_curve(GAIN, GAIN, ones(4))
    assert curve.apgr() == pytest.approx([1.375])
    assert curve.cpt(0.5) == pytest.approx([0.125])
    assert curve.cpt(1.0) == pytest.approx([0.25])


def test_the_worst_order_recovers_less_than_nothing():
    curve = gain_curve(-GAIN, GAIN, ones(4))
    assert curve.apgr() == pytest.approx([1 - 1.375])


@pytest.mark.parametrize("gain", [np.zeros(4), -GAIN])
def test_without_a_gap_there_is_nothing_to_recover(gain):
    curve = gain_curve(np.arange(4.0), gain, ones(4))
    assert np.isnan(curve.apgr()).all()
    assert np.isnan(curve.cpt(0.5)).all()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 1)), min_size=2, max_size=6))
def test_a_curve_with_ties_is_the_mean_over_the_orders_of_the_tied_rows(rows):
    scores, gains = np.array(rows, dtype=float).T
    orders = itertools.permutations(np.arange(len(rows)) / 100)
    rates = np.linspace(0, 1, len(rows) + 1)[np.newaxis]
    curves = [gain_curve(scores + np.array(o), gains, ones(len(rows))).on(rates)[0] for o in orders]
    tied = gain_curve(scores, gains, ones(len(rows))).on(rates)[0]
    np.testing.assert_allclose(np.mean(curves, axis=0), tied, atol=1e-12)


@given(ROWS, st.floats(0.05, 1))
def test_cpt_is_the_first_rate_at_which_the_share_is_reached(rows, share):
    scores, gains, _ = rows
    curve = gain_curve(scores, gains, ones(len(scores)))
    if curve.gap[0] <= 0:
        return
    rate = curve.cpt(share)
    assert curve.at(rate)[0] == pytest.approx(share * curve.gap[0])
    before = np.linspace(0, rate[0] * 0.999, 20)[np.newaxis]
    assert (curve.on(before) <= share * curve.gap[0] + 1e-9).all()


def test_an_interval_holds_the_value_and_pairs_cancel():
    random = np.random.default_rng(1)
    values = random.random(200)
    resampling = Resampling([f"g{n // 2}" for n in range(200)], 400, seed=1)
    mean = resampling.estimate(lambda w: w @ values / w.sum(axis=1), "")
    assert mean.value == pytest.approx(values.mean())
    assert mean.low < mean.value < mean.high
    expected = 1.96 * values.reshape(-1, 2).mean(axis=1).std() / 10
    assert (mean.high - mean.low) / 2 == pytest.approx(expected, rel=0.2)
    shifted = resampling.estimate(lambda w: w @ (values + 0.25) / w.sum(axis=1), "")
    lead = difference(shifted, mean)
    assert [lead.value, lead.low, lead.high] == pytest.approx([0.25, 0.25, 0.25])


def test_copies_within_a_group_do_not_narrow_an_interval():
    values = np.random.default_rng(2).random(60)
    names = [f"g{n}" for n in range(60)]
    once = Resampling(names, 500, 0).estimate(lambda w: w @ values / w.sum(axis=1), "")
    copies = np.repeat(values, 9)
    nine = Resampling(np.repeat(names, 9), 500, 0).estimate(
        lambda w: w @ copies / w.sum(axis=1), ""
    )
    assert [nine.low, nine.high] == pytest.approx([once.low, once.high])


def test_many_rows_are_estimated_in_pieces_with_the_same_result(monkeypatch):
    values = np.random.default_rng(3).random(50)
    resampling = Resampling([f"g{n}" for n in range(50)], 100, 0)
    whole = resampling.values(lambda w: w @ values)
    monkeypatch.setattr("querytier.eval.intervals._CELLS_AT_ONCE", 120)
    np.testing.assert_allclose(resampling.values(lambda w: w @ values), whole, rtol=1e-12)


def test_an_undefined_value_has_a_reason():
    resampling = Resampling(["a", "b"], 100, 0)
    nothing = resampling.estimate(lambda w: np.full(len(w), np.nan), "no reason to live")
    assert nothing.to_dict() == {
        "value": None,
        "low": None,
        "high": None,
        "reason": "no reason to live",
    }
    assert difference(nothing, undefined("other")).reason == "no reason to live"


def test_the_keyword_heuristic_sends_its_own_example_cheap():
    assert keyword_score(WORKED_EXAMPLE) == pytest.approx(0.5775)
    assert keyword_tier(WORKED_EXAMPLE) == "cheap"


@given(st.text())
def test_the_heuristic_is_capped_and_never_below_its_length_part(query):
    assert min(len(query) / 400, 1) <= keyword_score(query) <= 1


def test_the_keyword_heuristic_counts_each_word_once():
    assert keyword_score("why " * 5) == pytest.approx(20 / 400 + 0.2)
    assert keyword_score("why compare analyze strategy tradeoff") == 1.0
    assert keyword_tier("x" * 240) == "cheap"
    assert keyword_tier("x" * 241) == "frontier"
