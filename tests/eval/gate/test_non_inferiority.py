"""Non-inferiority of a challenger: laws of the gate's comparisons, on invented scores."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blank import blank_examples
from querytier.eval.gate.comparisons import Contender, Pair
from querytier.eval.gate.matched_cost import frontier_shares, rates_at_cost
from querytier.eval.gate.non_inferiority import Margins, compare
from querytier.eval.intervals import Resampling
from querytier.eval.rankings import Ranking

MARGINS = Margins(quality=0.01, calibration=0.01, worst_slice=0.05, latency=0.5)
NON_INFERIOR = ["quality at matched cost", "calibration", "worst slice", "latency"]
METRICS = ["quality", "calibration", "worst_slice", "latency", "auroc"]


def examples_of(**columns):
    """Return examples with these columns, each in its own group."""
    names = np.array([f"g{n}" for n in range(len(columns["needs_frontier"]))], dtype=object)
    return blank_examples(query=names, group=names, **columns)


def scored_rows(count=400, seed=0, *, costs=False):
    """Return examples of two domains, and how much each needs the frontier model."""
    random = np.random.default_rng(seed)
    need = random.normal(size=count)
    chances = 1 / (1 + np.exp(-2 * need))
    labels = (random.random(count) < chances).astype(float)
    columns = {
        "needs_frontier": labels,
        "cheap_score": 1 - labels,
        "frontier_score": np.ones(count),
        "domain": np.where(np.arange(count) % 2, "code", "chat").astype(object),
    }
    if costs:
        columns["cheap_cost"] = np.full(count, 0.1)
        columns["frontier_cost"] = random.uniform(0.5, 5, count)
    return examples_of(**columns), chances


def contender(scores, threshold=0.5, latencies=(1.0,) * 20):
    scores = np.asarray(scores, dtype=float)
    return Contender(
        Ranking("contender", scores, scores.clip(0, 1), ""), threshold, np.asarray(latencies)
    )


def gate_of(examples, champion, challenger, margins=MARGINS, *, superior_on="quality", rows=100):
    return compare(
        examples,
        champion,
        challenger,
        margins,
        superior_on=superior_on,
        fewest_slice_rows=rows,
        replicates=200,
        seed=1,
    )


def passed(gate):
    return {check.name: check.passed for check in gate.checks}


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from(METRICS), st.booleans(), st.integers(1, 40))
def test_an_equal_challenger_is_no_worse_and_not_superior(seed, metric, costs, levels):
    examples, chances = scored_rows(120, seed, costs=costs)
    same = contender(np.round(chances * levels) / levels)
    gate = gate_of(examples, same, same, superior_on=metric, rows=30)
    assert [check.passed for check in gate.checks] == [True] * 4 + [False]
    assert [check.name for check in gate.checks][:4] == NON_INFERIOR
    assert not gate.passed


def test_an_equal_ranking_is_not_superior_by_a_rounding_error():
    examples, chances = scored_rows(costs=True)
    gate = gate_of(examples, contender(chances), contender(chances**3), superior_on="quality")
    assert not passed(gate)["superior on quality at matched cost"]


@pytest.mark.parametrize("metric", ["quality", "calibration", "worst_slice", "auroc"])
@pytest.mark.parametrize("costs", [False, True])
def test_the_oracle_replaces_a_shuffled_champion_and_not_the_reverse(metric, costs):
    examples, chances = scored_rows(costs=costs)
    shuffled = contender(np.random.default_rng(1).permutation(chances))
    oracle = contender(examples.needs_frontier)
    assert gate_of(examples, shuffled, oracle, superior_on=metric).passed
    back = passed(gate_of(examples, oracle, shuffled, superior_on=metric))
    assert list(back.values()) == [False, False, False, True, False]


@settings(max_examples=10)
@given(st.integers(0, 1000), st.floats(0.001, 0.2), st.floats(0.001, 0.2))
def test_a_challenger_that_passes_also_passes_with_wider_margins(seed, margin, more):
    examples, chances = scored_rows(150, seed)
    noise = np.random.default_rng(seed + 1).normal(0, 0.1, len(chances))
    challenger = contender(chances + noise, latencies=np.linspace(1, 1.4, 20))
    tight = passed(gate_of(examples, contender(chances), challenger, Margins(*[margin] * 4)))
    wide = passed(gate_of(examples, contender(chances), challenger, Margins(*[margin + more] * 4)))
    assert all(wide[name] >= tight[name] for name in tight)


@pytest.mark.parametrize(("count", "enough"), [(200, False), (4000, True)])
def test_few_rows_prove_nothing(count, enough):
    examples, chances = scored_rows(count)
    noise = np.random.default_rng(7).normal(0, 0.08, count)
    gate = gate_of(examples, contender(chances), contender(chances + noise), rows=20)
    assert passed(gate)["quality at matched cost"] == enough


@pytest.mark.slow
@pytest.mark.parametrize("respect", ["quality", "calibration", "worst_slice"])
def test_a_challenger_as_bad_as_the_margin_passes_once_in_twenty(respect):
    """The margin is the true loss of the simulation, so every pass is an error."""

    def pair(count, seed, replicates):
        examples, chances = scored_rows(count, seed)
        noise = np.random.default_rng(seed + 1).normal(0, 0.25, count)
        resampling = Resampling(examples.group.tolist(), replicates, seed)
        return Pair(examples, contender(chances), contender(chances + noise), resampling, 50)

    lower_is_better = respect != "quality"
    true = getattr(pair(100_000, 0, 2), respect)().estimate.value
    assert true > 0 if lower_is_better else true < 0
    errors = 0
    for seed in range(1, 101):
        found = getattr(pair(200, seed, 100), respect)().estimate
        errors += found.high < true if lower_is_better else found.low > true
    assert errors <= 12  # P(Binomial(100, 0.05) > 12) is 0.15%


def test_quality_is_compared_at_equal_cost_if_costs_are_known():
    labels = np.array([1.0, 1.0, 0.0, 0.0] * 50)
    columns = {
        "needs_frontier": labels,
        "cheap_score": 1 - labels,
        "frontier_score": labels * 0 + 1,
    }
    prices = np.array([1.0, 3.0, 1.0, 1.0] * 50)
    champion = contender(np.array([0.9, 0.1, 0.2, 0.2] * 50))
    challenger = contender(np.array([0.1, 0.9, 0.2, 0.2] * 50))
    free = gate_of(examples_of(**columns), champion, challenger).checks[0]
    assert free.estimate == pytest.approx(0)
    assert "frontier rate" in free.detail
    dear = examples_of(**columns, cheap_cost=labels * 0, frontier_cost=prices)
    check = gate_of(dear, champion, challenger).checks[0]
    # A quarter of all rows at 1 dollar costs as much as a third of the rows at 3 dollars.
    assert check.estimate == pytest.approx(0.25 / 3 - 0.25)
    assert "mean cost" in check.detail
    assert not check.passed


def test_without_scores_quality_is_the_share_of_hard_queries_caught():
    examples, chances = scored_rows()
    blank = np.full(len(examples), np.nan)
    unscored = replace(examples, cheap_score=blank, frontier_score=blank)
    gate = gate_of(unscored, contender(chances), contender(1 - chances))
    assert "share of needs_frontier caught" in gate.checks[0].detail
    sent = chances >= np.quantile(chances, 1 - (chances >= 0.5).mean())
    caught = unscored.needs_frontier[sent].sum() / unscored.needs_frontier.sum()
    assert f"against {caught:.4f}" in gate.checks[0].detail


def test_wrong_probabilities_fail_calibration_alone():
    examples, chances = scored_rows()
    honest = contender(chances)
    lying = replace(honest, ranking=replace(honest.ranking, probabilities=chances**4))
    gate = gate_of(examples, honest, lying)
    assert [name for name in NON_INFERIOR if not passed(gate)[name]] == ["calibration"]


def test_a_challenger_that_fails_one_slice_is_refused_by_its_name():
    examples, chances = scored_rows(1000)
    code = examples.domain == "code"
    better = np.where(code, chances, examples.needs_frontier * 0.8 + 0.1 * chances)
    worse_in_code = np.where(code, np.random.default_rng(0).permutation(chances), better)
    gate = gate_of(examples, contender(chances), contender(worse_in_code))
    check = gate.checks[2]
    assert not check.passed
    assert "worst in 'domain: code'" in check.detail
    assert "worse beyond chance in 'domain: code' (by " in check.detail
    assert "domain: code" in gate.reason


def test_without_a_large_slice_all_rows_are_the_slice():
    examples, chances = scored_rows(150)
    gate = gate_of(examples, contender(chances), contender(chances), rows=140)
    assert "worst in 'all rows'" in gate.checks[2].detail


@pytest.mark.parametrize(
    ("factor", "good", "wins"), [(2, False, False), (1.2, True, False), (0.5, True, True)]
)
def test_latency_is_a_ratio_of_medians(factor, good, wins):
    examples, chances = scored_rows()
    times = np.random.default_rng(0).gamma(20, 0.1, 100)
    slow = contender(chances, latencies=times * factor)
    gate = gate_of(examples, contender(chances, latencies=times), slow, superior_on="latency")
    assert (passed(gate)["latency"], passed(gate)["superior on latency"]) == (good, wins)
    assert gate.checks[3].estimate == pytest.approx(factor)


def test_the_note_reports_what_each_threshold_does():
    examples, chances = scored_rows()
    gate = gate_of(examples, contender(chances), contender(chances, threshold=2.0))
    cheap = examples.cheap_score.mean()
    assert f"sends 0.0% to the frontier tier, for a mean score of {cheap:.4f}; the" in gate.note
    assert gate.reason.endswith(gate.note)
    assert gate.to_dict()["checks"][0].keys() >= {"name", "passed", "detail", "margin"}


SCORES = st.lists(st.integers(0, 5), min_size=1, max_size=12).map(lambda xs: np.array(xs, float))


@given(SCORES, st.floats(0, 1), st.integers(0, 100))
def test_shares_add_up_to_the_rate_and_follow_the_scores(scores, rate, seed):
    weights = np.random.default_rng(seed).integers(0, 4, (1, len(scores))).astype(float) + 0.5
    shares = frontier_shares(scores, np.array([rate]), weights)[0]
    assert weights[0] @ shares / weights.sum() == pytest.approx(rate, abs=1e-9)
    order = np.argsort(scores, kind="stable")
    assert (np.diff(shares[order]) >= -1e-12).all()
    assert sum(0 < share < 1 for share in set(shares.tolist())) <= 1


@given(SCORES, st.floats(0, 1))
def test_the_rate_at_a_cost_costs_that_much(scores, rate):
    costs, ones = scores + 0.5, np.ones((1, len(scores)))
    spent = frontier_shares(scores, np.array([rate]), ones) @ costs / len(scores)
    assert rates_at_cost(scores, costs, spent, ones)[0] == pytest.approx(rate, abs=1e-9)
