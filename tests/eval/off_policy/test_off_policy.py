"""Off-policy evaluation: simulated logs with a known truth, laws, and refusals."""

import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blank import blank_example
from querytier.data.examples import Examples
from querytier.data.label_rules import Feedback
from querytier.eval.intervals import Resampling, clustered_mean, difference
from querytier.eval.off_policy.estimators import (
    ESTIMATORS,
    doubly_robust,
    evaluate_policies,
    ips,
    snips,
)
from querytier.eval.off_policy.logged_decisions import LoggedDecisions, known_outcomes
from querytier.eval.off_policy.outcome_models import (
    Expected,
    UnfittedTierError,
    cross_fitted,
    ridge,
)
from querytier.eval.off_policy.overlap import importance_weights, overlap_bins, overlap_of
from querytier.eval.off_policy.page import overlap_plot, overlap_text

# Hardness x is uniform on [0, 1]; the log has the frontier tier with probability 0.2 + 0.5 x. The
# new policy sends x > 1/2 there: its value is the integral of the better of two straight lines.
NEW_VALUE = (0.45 - 0.075) + (0.45 - 0.0375)
LOGGED_VALUE = 0.9 - 0.3 + 0.2 * 0.25 + 0.5 * 0.5 / 3
SIMULATIONS = 300


def succeeds(hardness, frontier):
    return 0.9 - hardness * np.where(frontier, 0.1, 0.6)


def chance_of_frontier(hardness):
    return 0.2 + 0.5 * hardness


def simulated(random, groups, rows_each=1):
    """Return a log whose rows of one group are equally hard, and the hardness."""
    hardness = np.repeat(random.random(groups), rows_each)
    chance = chance_of_frontier(hardness)
    frontier = random.random(len(hardness)) < chance
    outcome = (random.random(len(hardness)) < succeeds(hardness, frontier)).astype(float)
    propensity = np.where(frontier, chance, 1 - chance)
    names = np.repeat([f"g{n}" for n in range(groups)], rows_each).astype(object)
    return LoggedDecisions(frontier, propensity, outcome, names), hardness


def evaluated(log, new_frontier, **options):
    """Evaluate one policy."""
    return evaluate_policies(log, {"new": new_frontier}, **options)["new"]


def straight_line(features, outcomes, held):
    """Fit a line through one feature."""
    return np.polyval(np.polyfit(features[:, 0], outcomes, 1), held[:, 0])


@pytest.fixture(scope="module")
def simulations():
    random, found = np.random.default_rng(7), []
    for seed in range(SIMULATIONS):
        log, hardness = simulated(random, groups=200, rows_each=2)
        found.append(
            evaluated(
                log,
                (hardness > 0.5).astype(float),
                features=hardness[:, np.newaxis],
                outcome_model=straight_line,
                replicates=300,
                seed=seed,
            ).outcome
        )
    return found


def assert_covers(estimates, truth):
    """Assert that 95% of the intervals cover the truth, within three standard errors."""
    covered = np.mean([estimate.low <= truth <= estimate.high for estimate in estimates])
    assert abs(covered - 0.95) < 3 * (0.95 * 0.05 / len(estimates)) ** 0.5


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_intervals_cover_the_new_policys_value_at_their_level(simulations, estimator):
    assert_covers([getattr(found, estimator) for found in simulations], NEW_VALUE)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_paired_intervals_cover_the_lead_at_their_level(simulations, estimator):
    leads = [found.lead(estimator) for found in simulations]
    assert_covers(leads, NEW_VALUE - LOGGED_VALUE)


def test_intervals_cover_the_logging_policys_value_at_their_level(simulations):
    assert_covers([found.logged for found in simulations], LOGGED_VALUE)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimates_are_unbiased(simulations, estimator):
    values = np.array([getattr(found, estimator).value for found in simulations])
    error = values.std(ddof=1) / len(values) ** 0.5
    assert values.mean() == pytest.approx(NEW_VALUE, abs=3 * error)


def test_ips_has_the_largest_spread(simulations):
    spread = {
        name: np.std([getattr(found, name).value for found in simulations]) for name in ESTIMATORS
    }
    assert max(spread["doubly_robust"], spread["snips"]) < 0.8 * spread["ips"]


def test_doubly_robust_needs_only_one_right_model():
    log, hardness = simulated(np.random.default_rng(3), groups=400_000)
    new = (hardness > 0.5).astype(float)
    right = importance_weights(log, new)
    wrong = np.where(log.frontier, new, 1 - new) / 0.5

    def found(importance, model):
        taken, under_new = model.under(log.frontier), model.under(new)
        one = np.ones((1, len(log)))
        return doubly_robust(importance, log.outcome, taken, under_new, one)[0]

    model = Expected(succeeds(hardness, frontier=False), succeeds(hardness, frontier=True))
    wrong_model = Expected(np.full(len(log), 0.2), np.full(len(log), 0.6))
    tolerance = 4 * 1.5 / len(log) ** 0.5
    assert found(wrong, model) == pytest.approx(NEW_VALUE, abs=tolerance)
    assert found(right, wrong_model) == pytest.approx(NEW_VALUE, abs=tolerance)
    assert abs(found(wrong, wrong_model) - NEW_VALUE) > 5 * tolerance


COLUMNS = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from([0.1, 0.25, 0.5, 0.9]),
        st.sampled_from([0.0, 0.25, 1.0]),
        st.sampled_from([0.0, 0.3, 1.0]),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=20,
).map(lambda rows: np.array(rows, dtype=float).T)


def decisions(columns):
    frontier, propensity, outcome, new, counts = columns
    names = np.array([f"g{n}" for n in range(len(new))], dtype=object)
    log = LoggedDecisions(frontier > 0, propensity, outcome, names)
    return log, new, importance_weights(log, new), counts[np.newaxis]


@given(COLUMNS, st.floats(-3, 3), st.floats(-2, 2))
def test_snips_shifts_and_scales_with_the_outcomes(columns, shift, scale):
    log, _, importance, counts = decisions(columns)
    plain = snips(importance, log.outcome, counts)
    moved = snips(importance, scale * log.outcome + shift, counts)
    np.testing.assert_allclose(moved, scale * plain + shift, atol=1e-9)


@given(COLUMNS, st.floats(0.1, 10))
def test_snips_is_within_the_outcomes_and_ignores_a_factor(columns, factor):
    log, _, importance, counts = decisions(columns)
    found = snips(importance, log.outcome, counts)
    if importance.sum() == 0:
        assert np.isnan(found).all()
    else:
        assert log.outcome.min() - 1e-12 <= found[0] <= log.outcome.max() + 1e-12
        np.testing.assert_allclose(snips(factor * importance, log.outcome, counts), found)


@given(COLUMNS)
def test_doubly_robust_without_a_model_is_ips(columns):
    log, _, importance, counts = decisions(columns)
    nothing = np.zeros(len(log))
    robust = doubly_robust(importance, log.outcome, nothing, nothing, counts)
    np.testing.assert_allclose(robust, ips(importance, log.outcome, counts))


@given(COLUMNS, st.floats(-2, 2))
def test_a_perfect_model_makes_the_weights_irrelevant(columns, value):
    log, _, importance, counts = decisions(columns)
    sure = np.full(len(log), value)
    robust = doubly_robust(importance, sure, sure, sure, counts)
    np.testing.assert_allclose(robust, [value], atol=1e-9)


@given(COLUMNS)
def test_a_weight_of_two_is_the_row_twice(columns):
    log, new, importance, counts = decisions(columns)
    times = counts[0].astype(int)
    again = [np.repeat(column, times) for column in (importance, log.outcome, new)]
    one = np.ones((1, times.sum()))
    for estimator in (ips, snips):
        np.testing.assert_allclose(
            estimator(importance, log.outcome, counts), estimator(*again[:2], one)
        )


@given(COLUMNS)
def test_the_logging_policy_has_equal_weights(columns):
    log, *_ = decisions(columns)
    weights = importance_weights(log, log.frontier_propensity)
    np.testing.assert_allclose(weights, np.ones(len(log)))


def test_the_logging_policy_has_no_lead_over_itself():
    log, hardness = simulated(np.random.default_rng(1), groups=300)
    found = evaluated(log, chance_of_frontier(hardness), replicates=100).outcome
    for estimator in ("ips", "snips"):
        lead = found.lead(estimator)
        assert [lead.value, lead.low, lead.high] == pytest.approx([0, 0, 0], abs=1e-12)
    assert found.logged.value == pytest.approx(log.outcome.mean())


def test_known_costs_are_estimated_like_outcomes():
    log, hardness = simulated(np.random.default_rng(2), groups=2000)
    cost = np.where(log.frontier, 10.0, 1.0)
    priced = LoggedDecisions(log.frontier, log.propensity, log.outcome, log.group, cost)
    found = evaluated(priced, (hardness > 0.5).astype(float), replicates=100)
    assert found.cost.logged.value == pytest.approx(cost.mean())
    for estimator in ESTIMATORS:
        assert getattr(found.cost, estimator).value == pytest.approx(5.5, abs=0.5)
    # Each tier's mean predicts these costs without error.
    assert found.cost.doubly_robust.value == pytest.approx(1 + 9 * (hardness > 0.5).mean())
    record = found.cost.to_dict()
    assert list(record) == ["logged", *ESTIMATORS, "lead"]
    unpriced = evaluated(log, (hardness > 0.5).astype(float), replicates=100).cost
    assert unpriced.snips.value is None
    assert unpriced.logged.reason.startswith("2000 of 2000 rows have no cost")


@pytest.mark.parametrize("model", [ridge, straight_line])
def test_an_outcome_model_learns_both_tiers(model):
    log, hardness = simulated(np.random.default_rng(4), groups=4000)
    features = hardness[:, np.newaxis]
    found = cross_fitted(features, log.outcome, log.frontier, log.group, model=model)
    for tier, expected in ((False, found.cheap), (True, found.frontier)):
        assert np.abs(expected - succeeds(hardness, tier)).max() < 0.1
    np.testing.assert_allclose(found.under(np.zeros(len(log))), found.cheap)


def test_no_row_is_predicted_by_a_model_that_saw_its_group():
    log, hardness = simulated(np.random.default_rng(5), groups=60, rows_each=3)
    seen = []

    def model(features, outcomes, held):
        assert not set(features[:, 0]) & set(held[:, 0])
        seen.append(len(held))
        return np.full(len(held), outcomes.mean())

    cross_fitted(hardness[:, np.newaxis], log.outcome, log.frontier, log.group, model=model)
    assert sum(seen) == 2 * len(log)


def test_predictions_stay_within_the_seen_outcomes():
    log, hardness = simulated(np.random.default_rng(6), groups=100)
    far = cross_fitted(
        hardness[:, np.newaxis],
        log.outcome,
        log.frontier,
        log.group,
        model=lambda *_: np.full(len(_[2]), 99.0),
    )
    assert far.cheap.max() == far.frontier.max() == 1


def test_too_few_rows_of_a_tier_refuse_doubly_robust_alone():
    rare = a_log([1] + 49 * [0], [0.02] + 49 * [0.98], rows=400)
    rare = replace(rare, outcome=np.resize([1.0, 0.0, 1.0], 400))
    with pytest.raises(UnfittedTierError, match="rows of the frontier tier are too few to learn"):
        cross_fitted(None, rare.outcome, rare.frontier, rare.group)
    found = evaluated(rare, rare.frontier_propensity, replicates=50).outcome
    assert found.snips.value is not None
    assert re.match(r"\d rows of the frontier tier are too few", found.doubly_robust.reason)


def a_log(frontier, propensity, outcome=None, rows=200):
    """Return a log of equal rows."""
    return LoggedDecisions(
        np.resize(np.array(frontier, dtype=bool), rows),
        np.resize(np.array(propensity, dtype=float), rows),
        np.resize(np.array([1.0] if outcome is None else outcome, dtype=float), rows),
        np.array([f"g{n}" for n in range(rows)], dtype=object),
    )


def test_a_log_that_cannot_evaluate_a_policy_says_why():
    half, all_frontier = np.full(200, 0.5), np.ones(200)
    refusals = [
        (a_log([1, 0], [0.5, np.nan]), half, "100 of 200 rows have no propensity, and none is"),
        (
            a_log([0], [0.9]),
            half,
            "never has the frontier tier when the new policy chooses it, on 50",
        ),
        (
            a_log([1], [1.0]),
            half,
            "never has the cheap tier when the new policy chooses it, on 50.0%",
        ),
        (a_log([1, 0, 0, 0], [0.5, 0.5, 1, 1]), half, "for 25.0% of the new policy's decisions"),
        (a_log([1, 0], [0.5, 0.5], rows=198), half[:198] * 2, "sample size is 99.0 groups, at le"),
        (a_log([1, 0], [0.25, 0.75]), all_frontier, "mean importance weight is 2.000 (standard er"),
    ]
    for log, new, words in refusals:
        found = evaluated(log, new, replicates=50)
        assert words in found.overlap.reason
        for estimator in ESTIMATORS:
            estimate = getattr(found.outcome, estimator)
            assert estimate.value is None
            assert estimate.reason == found.overlap.reason
            assert found.outcome.lead(estimator).reason == found.overlap.reason
        assert found.outcome.logged.value == 1


def test_tiers_judged_at_unequal_rates_are_detected():
    log, hardness = simulated(np.random.default_rng(12), groups=4000)
    new = (hardness > 0.5).astype(float)
    judged = np.random.default_rng(13).random(4000) < np.where(log.frontier, 0.4, 0.8)
    assert overlap_of(log, new).reason is None
    reason = overlap_of(log.where(judged), new[judged]).reason
    assert "whether answers of one tier lack an outcome more often" in reason
    both = np.random.default_rng(13).random(4000) < 0.4 + 0.4 * hardness
    assert overlap_of(log.where(both), new[both]).reason is None


def test_few_explored_rows_do_not_look_like_wrong_propensities():
    random, found = np.random.default_rng(14), []
    for _ in range(200):
        frontier = random.random(1000) < 0.01
        log = a_log(frontier, np.where(frontier, 0.01, 0.99), rows=1000)
        new = (np.arange(1000) < 400).astype(float)
        found.append(overlap_of(log, new).reason or "")
    assert sum("propensities" in reason for reason in found) <= 1


def test_overlap_is_not_needed_for_decisions_never_made():
    log = a_log([1, 0, 0, 0], [0.5, 0.5, 1, 1])
    new = np.resize([1.0, 1.0, 0.0, 0.0], 200)
    assert overlap_of(log, new).reason is None


def test_rows_without_an_outcome_are_not_left_out_silently():
    log = a_log([1, 0], [0.5, 0.5], [1.0, 0.0, np.nan, 1.0])
    found = evaluated(log, np.full(200, 0.5), replicates=50).outcome
    assert found.logged.reason.startswith("50 of 200 rows have no outcome, and none is assumed")
    assert found.snips.reason == found.logged.reason
    known = log.where(~np.isnan(log.outcome))
    kept = evaluated(known, np.full(150, 0.5), replicates=50).outcome
    assert kept.snips.value == pytest.approx(2 / 3)


def test_the_smallest_effective_sample_size_is_a_parameter():
    log = a_log([1, 0], [0.5, 0.5])
    frontier = np.ones(200)
    assert overlap_of(log, frontier, fewest_effective=100).reason is None
    assert "at least 101 are needed" in overlap_of(log, frontier, fewest_effective=101).reason


def test_copies_do_not_increase_effective_groups():
    log, hardness = simulated(np.random.default_rng(9), groups=100)
    new = (hardness > 0.5).astype(float)
    once = overlap_of(log, new)
    copies = overlap_of(log.where(np.repeat(np.arange(100), 4)), np.repeat(new, 4))
    assert copies.effective_groups == pytest.approx(once.effective_groups)
    assert [copies.rows, copies.groups] == [400, 100]


@given(COLUMNS)
def test_effective_groups_are_between_one_and_all(columns):
    log, new, importance, _ = decisions(columns)
    overlap = overlap_of(log, new)
    if importance.any():
        assert 1 - 1e-9 <= overlap.effective_groups <= overlap.groups + 1e-9
    else:
        assert overlap.effective_groups == 0


def test_wrong_input_is_refused_with_its_value():
    log = a_log([1, 0], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"200 rows, .* have the shape \(3,\); give one per row"):
        overlap_of(log, np.ones(3))
    with pytest.raises(ValueError, match=r"in \[0, 1\], and range from 0 to 2"):
        overlap_of(log, np.linspace(0, 2, 200))
    with pytest.raises(ValueError, match="the outcome of 200 rows is out of range, such as 7; "):
        a_log([1, 0], [0.5, 0.5], [7.0])
    with pytest.raises(ValueError, match=r"the propensity of 100 rows .* such as 0; .* \(0, 1\]"):
        a_log([1, 0], [0.0, 0.5])
    with pytest.raises(ValueError, match="columns must have one length"):
        LoggedDecisions(log.frontier, log.propensity[:5], log.outcome, log.group)
    with pytest.raises(ValueError, match="100 of 200 rows have no propensity"):
        overlap_bins(a_log([1, 0], [0.5, np.nan]), np.ones(200))


def an_example(number, tier, **known):
    return blank_example(id=f"{number}", group=f"g{number}", tier=tier, **known)


def test_logged_decisions_are_made_from_one_sided_examples():
    examples = Examples.of(
        [
            an_example(0, "frontier", outcome=1.0, propensity=0.25, frontier_cost=3.0),
            an_example(1, "cheap", outcome=0.5, propensity=0.75, cheap_cost=1.0),
            an_example(2, ""),
        ]
    )
    with pytest.raises(ValueError, match="1 of 3 examples have no tier that answered; select"):
        LoggedDecisions.of(examples)
    log = LoggedDecisions.of(examples.where(examples.tier != ""))
    assert log.frontier.tolist() == [True, False]
    assert log.frontier_propensity.tolist() == [0.25, 0.25]
    assert log.cost.tolist() == [3.0, 1.0]
    assert log.outcome.tolist() == [1.0, 0.5]


def test_feedback_stands_in_for_a_missing_outcome():
    examples = Examples.of(
        [
            an_example(0, "cheap", feedback="thumbs_up"),
            an_example(1, "frontier", feedback="escalation"),
            an_example(2, "cheap", feedback="thumbs_down", outcome=0.75),
            an_example(3, "cheap"),
        ]
    )
    np.testing.assert_array_equal(known_outcomes(examples), [1, 0, 0.75, np.nan])
    assert LoggedDecisions.of(examples).outcome[:3].tolist() == [1, 0, 0.75]


def test_every_kind_of_feedback_is_an_outcome():
    kinds = get_args(Feedback)
    rows = [an_example(n, "cheap", feedback=kind) for n, kind in enumerate(kinds)]
    outcomes = known_outcomes(Examples.of(rows))
    assert outcomes.tolist() == [float(kind == "thumbs_up") for kind in kinds]


def test_uninformative_features_do_not_widen_doubly_robust():
    random, errors = np.random.default_rng(15), []
    for seed in range(10):
        log, hardness = simulated(random, groups=300)
        found = evaluate_policies(
            log,
            {"new": (hardness > 0.5).astype(float)},
            features=random.normal(size=(300, 150)),
            replicates=10,
            seed=seed,
        )["new"].outcome
        errors.append([getattr(found, name).value - NEW_VALUE for name in ESTIMATORS])
    ips_error, _, robust = np.sqrt(np.mean(np.square(errors), axis=0))
    assert robust < ips_error


def test_several_policies_are_estimated_as_alone_and_paired():
    log, hardness = simulated(np.random.default_rng(16), groups=300)
    policies = {"hard": (hardness > 0.5).astype(float), "all": np.ones(300)}
    both = evaluate_policies(log, policies, features=hardness[:, np.newaxis], replicates=100)
    alone = evaluated(log, policies["all"], features=hardness[:, np.newaxis], replicates=100)
    assert both["all"].outcome.to_dict() == alone.outcome.to_dict()
    assert both["all"].overlap == alone.overlap
    lead = difference(both["hard"].outcome.snips, both["all"].outcome.snips)
    assert lead.low < lead.value < lead.high


def test_bins_contain_all_decisions_and_those_without_overlap():
    log, hardness = simulated(np.random.default_rng(10), groups=500)
    new = (hardness > 0.5).astype(float)
    bins = overlap_bins(log, new)
    assert bins.cheap.sum() + bins.frontier.sum() == pytest.approx(1)
    assert bins.frontier.sum() == pytest.approx(new.mean())
    assert bins.cheap_without == bins.frontier_without == 0
    never = overlap_bins(a_log([1, 0, 0, 1], [0.5, 0.5, 1, 1]), np.full(200, 0.5))
    assert [never.cheap_without, never.frontier_without] == [0.125, 0.125]


def test_the_plot_has_a_text_alternative():
    log = a_log([1, 0, 0, 1], [0.5, 0.5, 1, 1])
    new = np.full(200, 0.5)
    overlap, bins = overlap_of(log, new), overlap_bins(log, new)
    picture = overlap_plot(overlap, bins)
    assert picture.startswith('<svg role="img" aria-label="New policy')
    assert "25.0% without overlap; effective sample size" in overlap_text(overlap)
    assert overlap_text(overlap) in picture
    assert "without overlap</text>" in picture
    assert picture == overlap_plot(overlap, bins)
    unknown = overlap_of(a_log([1, 0], [0.5, np.nan]), new)
    assert overlap_text(unknown).endswith("overlap unknown")


def test_the_clustered_error_matches_the_bootstrap():
    random = np.random.default_rng(11)
    groups = np.repeat(np.arange(80), random.integers(1, 5, 80))
    values = random.random(80)[groups] + 0.2 * random.random(len(groups))
    found = clustered_mean(values, groups.astype(object))
    resampling = Resampling(groups.astype(str).tolist(), 2000, 0)
    drawn = resampling.values(lambda w: w @ values / w.sum(axis=1))[1:]
    assert found.standard_error == pytest.approx(drawn.std(), rel=0.1)
    assert np.isnan(clustered_mean(values[:1], groups[:1].astype(object)).standard_error)
