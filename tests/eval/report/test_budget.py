"""The budget table: a promise worked by hand, laws of the hull, and coverage of a known truth."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blank import blank_examples
from querytier.eval.intervals import Estimate, Resampling, difference, undefined
from querytier.eval.rankings import oracle, probability_ranking
from querytier.eval.report.budget import aiq, budget_row, claim_record, non_decreasing_hull, verdict

POINTS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 8).map(lambda n: n / 8)), min_size=1, max_size=25
).map(lambda rows: np.array(rows, dtype=float).T)


def answered(cheap_score, frontier_score, cheap_cost, frontier_cost):
    """Return examples of which only scores and costs are known."""
    return blank_examples(
        cheap_score=cheap_score,
        frontier_score=frontier_score,
        cheap_cost=cheap_cost,
        frontier_cost=frontier_cost,
    )


# Ten queries; only the first two of the ranking gain from the frontier model, and the last loses.
CHEAP = np.array([0.0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
FRONTIER = np.array([1.0, 1, 1, 1, 1, 1, 1, 1, 1, 0])
SCORES = np.arange(10.0, 0, -1)
ANSWERS = answered(CHEAP, FRONTIER, np.full(10, 1.0), np.full(10, 11.0))
ROWS = Resampling([f"g{n}" for n in range(10)], 50, 0)


def test_a_promise_worked_by_hand():
    """At 80% cheap all ten queries succeed, and always-frontier has nine of ten."""
    row = budget_row("ours", SCORES, ANSWERS, ROWS, cheap_share=0.8, decision_cost=0.1)
    assert row.quality_retained.value == pytest.approx(1.0 / 0.9)
    assert row.cost.value == pytest.approx(0.8 * 1 + 0.2 * 11 + 0.1)
    assert row.cost_saved.value == pytest.approx(1 - 3.1 / 11)
    # 0.8 + rate reaches 0.95 * 0.9 and 0.99 * 0.9.
    assert row.cheap_share_at_95.value == pytest.approx(1 - (0.855 - 0.8))
    assert row.cheap_share_at_99.value == pytest.approx(1 - (0.891 - 0.8))
    # From (1, 0.8) straight up to all ten at cost 3.1, and flat from there to 11.
    assert row.aiq.value == pytest.approx((0.9 * 2.1 + 1.0 * 7.9) / 10)


def test_the_published_share_is_the_default():
    row = budget_row("ours", SCORES, ANSWERS, ROWS)
    assert row.cheap_share == 0.78
    assert row.quality_retained.value == pytest.approx(1.0 / 0.9)
    record = row.to_dict()
    assert record["name"] == "ours"
    assert record["cheap_share_at_95"]["value"] == row.cheap_share_at_95.value


def test_a_cheap_model_that_is_good_enough_needs_no_frontier():
    good = answered(FRONTIER, FRONTIER, ANSWERS.cheap_cost, ANSWERS.frontier_cost)
    row = budget_row("any", SCORES, good, ROWS)
    assert [row.cheap_share_at_95.value, row.cheap_share_at_99.value] == [1, 1]


def test_rows_of_one_table_are_paired():
    worse = -SCORES
    ours, constant, same = (
        budget_row("one", scores, ANSWERS, ROWS) for scores in (SCORES, np.zeros(10), SCORES)
    )
    assert difference(ours.aiq, constant.aiq).value > 0
    lead = difference(ours.quality_retained, same.quality_retained)
    assert [lead.value, lead.low, lead.high] == [0, 0, 0]
    assert budget_row("worse", worse, ANSWERS, ROWS).cheap_share_at_99.value < 0.2


def test_the_classifiers_own_cost_is_subtracted_from_the_saving():
    free = budget_row("ours", SCORES, ANSWERS, ROWS)
    dear = budget_row("ours", SCORES, ANSWERS, ROWS, decision_cost=11.0)
    assert free.cost_saved.value - dear.cost_saved.value == pytest.approx(1.0)
    assert dear.aiq.value < free.aiq.value
    # If deciding costs more than the frontier tier, only mixing the two tiers blindly is left.
    assert dear.aiq.value == pytest.approx((0.8 + 0.9) / 2)


def test_an_unknown_number_has_a_reason():
    unknown = np.full(10, np.nan)
    unpriced = budget_row("ours", SCORES, answered(CHEAP, FRONTIER, unknown, unknown), ROWS)
    assert unpriced.quality_retained.value is not None
    for estimate in (unpriced.cost, unpriced.cost_saved, unpriced.aiq):
        assert estimate.reason == "the log has no costs of both tiers"
    unscored = budget_row("ours", SCORES, answered(CHEAP, unknown, CHEAP, FRONTIER), ROWS)
    for estimate in (unscored.quality_retained, unscored.cheap_share_at_95, unscored.aiq):
        assert estimate.reason.startswith("the log has no scores of both tiers")
    failed = budget_row("ours", SCORES, answered(CHEAP, 0 * CHEAP, CHEAP, 0 * CHEAP), ROWS)
    assert failed.cheap_share_at_95.reason.startswith("the mean frontier score is not above 0")
    assert failed.cost_saved.reason == "always-frontier costs nothing"
    assert failed.aiq.reason.startswith("always-frontier costs no more than always-cheap")


def test_wrong_calls_are_errors_with_the_value():
    with pytest.raises(ValueError, match=r"the cheap share is 78; it must be in \[0, 1\]"):
        budget_row("ours", SCORES, ANSWERS, ROWS, cheap_share=78)
    with pytest.raises(ValueError, match="a decision costs -1; it must be 0 or more"):
        budget_row("ours", SCORES, ANSWERS, ROWS, decision_cost=-1)


def test_a_promise_is_kept_broken_or_open():
    assert verdict(Estimate(0.97, 0.96, 0.98), 0.95) == "kept"
    assert verdict(Estimate(0.9, 0.88, 0.94), 0.95) == "broken"
    assert verdict(Estimate(0.95, 0.93, 0.97), 0.95) == "open"
    assert verdict(undefined("no costs"), 0.95) == "open"


@given(POINTS)
def test_the_hull_is_the_least_concave_rising_line_above_the_points(points):
    xs, ys = non_decreasing_hull(*points)
    assert (np.diff(xs) > 0).all()
    assert (np.diff(ys) > 0).all()
    slopes = np.diff(ys) / np.diff(xs)
    assert (np.diff(slopes) < 1e-12).all()
    pairs = set(zip(*points.tolist(), strict=True))
    assert set(zip(xs.tolist(), ys.tolist(), strict=True)) <= pairs
    reached = np.interp(points[0], xs, ys)
    assert (points[1] <= reached + 1e-9).all()
    assert (xs[0], ys[-1]) == (points[0].min(), points[1].max())


@given(POINTS, st.integers(0, 5), st.integers(0, 5))
def test_aiq_is_a_mean_of_qualities_and_grows_with_every_point(points, low, width):
    costs, qualities = points
    found = aiq(costs, qualities, low, low + width)
    if width == 0 or not (costs <= low).any():
        assert np.isnan(found)
        return
    assert qualities.min() - 1e-9 <= found <= qualities.max() + 1e-9
    more = aiq(np.append(costs, low + width / 2), np.append(qualities, 1.0), low, low + width)
    assert more >= found - 1e-12
    stretched = aiq(10 * costs + 3, qualities, 10 * low + 3, 10 * (low + width) + 3)
    assert stretched == pytest.approx(found)


SCORED = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.5, 1.0])),
    min_size=3,
    max_size=15,
).map(lambda rows: np.array(rows, dtype=float).T)


@given(SCORED)
def test_at_the_largest_cheap_share_the_quality_is_just_retained(rows):
    scores, cheap, frontier = rows
    answers = answered(cheap, frontier, np.ones(len(cheap)), np.full(len(cheap), 2.0))
    resampling = Resampling([f"g{n}" for n in range(len(cheap))], 2, 0)
    share = budget_row("any", scores, answers, resampling).cheap_share_at_95.value

    def retained(cheap_share):
        row = budget_row("any", scores, answers, resampling, cheap_share=cheap_share)
        return row.quality_retained.value

    assert retained(share) >= 0.95 - 1e-9
    if share < 1:
        assert retained(share) == pytest.approx(0.95)
        assert retained((share + 1) / 2) < 0.95 + 1e-9


def simulated(random, rows, rows_each=1):
    """Return scores x and answers: the cheap answer fails half of the time if x > 0.6."""
    x = np.repeat(random.random(rows), rows_each)
    fails = (x > 0.6) & np.repeat(random.random(rows) < 0.5, rows_each)
    works = np.repeat(random.random(rows) < 0.9, rows_each)
    unknown = np.full(rows * rows_each, np.nan)
    return x, answered(np.where(fails, 0.0, works), works.astype(float), unknown, unknown)


@pytest.mark.slow
def test_intervals_contain_the_truth_at_their_level():
    """By hand: at 78% cheap, 0.18 of x stay above 0.6, of which half fail: 91% is retained."""
    random, covered, simulations = np.random.default_rng(0), [], 150
    for seed in range(simulations):
        scores, answers = simulated(random, 300, rows_each=2)
        names = np.repeat(np.arange(300), 2).astype(str).tolist()
        row = budget_row("ours", scores, answers, Resampling(names, 200, seed))
        for estimate, truth in (
            (row.quality_retained, 1 - 0.18 / 2),
            (row.cheap_share_at_95, 0.7),
            (row.cheap_share_at_99, 0.62),
        ):
            covered.append(estimate.low <= truth <= estimate.high)
    shares = np.reshape(covered, (simulations, 3)).mean(axis=0)
    assert (np.abs(shares - 0.95) < 3.3 * (0.95 * 0.05 / simulations) ** 0.5).all(), shares


@pytest.fixture(scope="module")
def graded():
    """Return examples on which the frontier model is better on average, without costs."""
    random = np.random.default_rng(1)
    cheap, frontier = random.random(400) < 0.7, random.random(400) < 0.9
    return blank_examples(
        query=[f"query {n}" for n in range(400)],
        group=[f"g{n}" for n in range(400)],
        cheap_score=cheap.astype(float),
        frontier_score=frontier.astype(float),
    )


def claim_rows(examples):
    names = "classifier", "keyword_heuristic"
    noise = np.random.default_rng(0).random(len(examples))
    rankings = [probability_ranking(name, noise, "nothing") for name in names]
    resampling = Resampling(examples.group.tolist(), 200, 0)
    record = claim_record(examples, [*rankings, oracle(examples)], resampling)
    return record and {row["name"]: row for row in record["rows"]}


def test_the_oracle_keeps_more_than_noise_at_the_same_share(graded):
    rows = claim_rows(graded)
    assert list(rows) == ["classifier", "keyword_heuristic", "oracle"]
    assert (
        rows["oracle"]["quality_retained"]["value"]
        > rows["classifier"]["quality_retained"]["value"]
    )
    assert rows["classifier"]["cheap_share"] == 0.78
    for row in rows.values():
        assert row["cheap_share_at_95"]["value"] >= row["cheap_share_at_99"]["value"]
        assert row["same_quality"] in {"kept", "broken", "open"}


def test_equal_models_keep_the_claim_and_a_useless_one_breaks_it(graded):
    ones, zeros = np.ones(len(graded)), np.zeros(len(graded))
    equal = claim_rows(replace(graded, cheap_score=ones, frontier_score=ones))
    assert equal["classifier"]["same_quality"] == "kept"
    useless = claim_rows(replace(graded, cheap_score=zeros, frontier_score=ones))
    assert useless["classifier"]["same_quality"] == "broken"
    assert useless["classifier"]["quality_retained"]["value"] == pytest.approx(0.22, abs=0.01)


def test_without_scores_there_is_nothing_to_test(graded):
    assert claim_rows(replace(graded, cheap_score=np.full(len(graded), np.nan))) is None


def test_the_report_has_the_table(run_dir):
    report = (run_dir / "report.html").read_text("utf-8")
    assert "The published claim, tested" in report
