"""Which queries are chosen to be labelled: within the budget, once each, for the right reasons."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querytier.eval.active_learning import REASONS, Queries, choose_queries

ALL = dict.fromkeys(REASONS, 1.0)


def queries(count, *, seed=0, domains=None):
    vectors = np.random.default_rng(seed).normal(size=(count, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Queries(
        np.array([f"{seed} {row // 2}" for row in range(count)], dtype=object),
        vectors.astype(np.float32),
        np.array(domains or [""] * count, dtype=object),
    )


def costs(count):
    return np.random.default_rng(1).uniform(0.01, 0.05, count)


@given(
    count=st.integers(0, 60),
    known=st.integers(0, 60),
    budget=st.floats(0.001, 3),
    shares=st.sampled_from([ALL, {"random": 1.0}, {"uncovered": 0.5, "random": 0.0}]),
    seed=st.integers(0, 5),
)
@settings(max_examples=40)
def test_no_choice_exceeds_the_budget_or_repeats_a_group(count, known, budget, shares, seed):
    unlabelled, prices = queries(count, seed=1), costs(count)
    # With an odd seed some unlabelled queries are near duplicates of labelled ones.
    labelled = queries(known, seed=1 if seed % 2 else 2)
    options = {"budget": budget, "shares": shares, "seed": seed}
    chosen = choose_queries(unlabelled, prices, labelled, **options)
    groups = [unlabelled.groups[one.row] for one in chosen]
    assert chosen == choose_queries(unlabelled, prices, labelled, **options)
    assert sum(one.cost for one in chosen) <= budget + 1e-9
    assert len(set(groups)) == len(groups)
    assert not set(groups) & set(labelled.groups)
    assert all(shares[one.reason] > 0 and one.why for one in chosen)


def test_the_budget_is_spent_until_nothing_more_fits():
    unlabelled = queries(40)
    chosen = choose_queries(unlabelled, costs(40), queries(0), budget=100.0, shares=ALL, seed=0)
    groups = [unlabelled.groups[one.row] for one in chosen]
    assert sorted(groups) == sorted(set(unlabelled.groups))


def test_the_reasons_take_turns_by_their_shares():
    shares = {"uncovered": 3.0, "random": 1.0}
    chosen = choose_queries(queries(80), costs(80), queries(0), budget=0.5, shares=shares, seed=0)
    assert [one.reason for one in chosen[:8]].count("random") == 2


def test_uncovered_queries_come_from_the_domain_without_labels():
    domains = ["billing"] * 30 + ["travel"] * 30
    labelled = queries(20, seed=9, domains=["billing"] * 20)
    chosen = choose_queries(
        queries(60, domains=domains),
        costs(60),
        labelled,
        budget=0.15,
        shares={"uncovered": 1.0},
        seed=0,
    )
    assert {domains[one.row] for one in chosen} == {"travel"}
    assert chosen[0].why == "domain travel: 50.0% of the traffic, 0 labels"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"budget": 0.0}, "the budget is 0"),
        ({"shares": dict.fromkeys(REASONS, 0.0)}, "shares are"),
        ({"costs": np.zeros(5)}, "a label costs 0"),
    ],
)
def test_impossible_requests_are_refused(options, problem):
    given_ = {"costs": costs(5), "budget": 1.0, "shares": ALL, "seed": 0, **options}
    with pytest.raises(ValueError, match=problem):
        choose_queries(queries(5), labelled=queries(0), **given_)
