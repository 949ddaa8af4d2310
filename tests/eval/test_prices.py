"""The price table: costs from tokens, and the section in a params file."""

import numpy as np
import pytest

from blank import blank_examples
from querytier.data.example import example_from
from querytier.data.labelling import LabelRules
from querytier.data.values import BadRecordError
from querytier.errors import UsageError
from querytier.eval.prices import Prices, TierPrice, dollar_costs, with_costs
from querytier.pipeline.params import EvaluateParams, Params, with_section

PRICES = Prices(TierPrice(1.0, 2.0, 100.0), TierPrice(10.0, 20.0))


def test_logged_costs_stay_and_logged_tokens_come_before_estimates():
    examples = blank_examples(
        query=["a" * 400, "a" * 400, "a" * 400],
        cheap_cost=[0.5, np.nan, np.nan],
        frontier_cost=[0.7, np.nan, np.nan],
        input_tokens=[np.nan, 1000.0, np.nan],
        cheap_output_tokens=[np.nan, 500.0, np.nan],
        frontier_output_tokens=[np.nan, 500.0, np.nan],
    )
    found, estimated = with_costs(examples, PRICES)
    assert found.cheap_cost == pytest.approx([0.5, 2000e-6, (100 + 200) * 1e-6])
    assert found.frontier_cost[:2] == pytest.approx([0.7, 20_000e-6])
    assert np.isnan(found.frontier_cost[2]), "nothing is assumed of what frontier writes"
    assert estimated == 1


def test_a_log_has_tokens_of_both_answers_or_of_one():
    both = {"query": "q", "input_tokens": "12", "cheap_output_tokens": 3}
    example = example_from(both, LabelRules(), "line-1")
    assert (example.input_tokens, example.cheap_output_tokens) == (12, 3)
    assert np.isnan(example.frontier_output_tokens)
    given_one = {"query": "q", "tier": "frontier", "output_tokens": 40, "cost": 0.1}
    example = example_from(given_one, LabelRules(), "line-1")
    assert (example.frontier_output_tokens, example.frontier_cost) == (40, 0.1)
    assert np.isnan(example.cheap_output_tokens)
    with pytest.raises(BadRecordError, match="input_tokens below 0: -1"):
        example_from({"query": "q", "input_tokens": -1}, LabelRules(), "line-1")


def test_tokens_become_dollars_if_both_numbers_are_known():
    price = TierPrice(per_million_in=3.0, per_million_out=15.0)
    costs = dollar_costs(price, np.array([2e6, 100.0, np.nan]), np.array([1e6, np.nan, 5.0]))
    assert costs[0] == pytest.approx(21.0)
    assert np.isnan(costs[1:]).all()


def test_without_a_price_table_costs_do_not_change():
    examples = blank_examples(query=["a"], cheap_cost=[0.5])
    same, estimated = with_costs(examples, None)
    assert same is examples
    assert estimated == 0


@pytest.mark.parametrize("number", [-0.5, float("nan"), float("inf")])
def test_a_price_below_zero_or_not_finite_is_an_error(number):
    with pytest.raises(ValueError, match="it must be 0 or more"):
        TierPrice(3.0, number)
    with pytest.raises(ValueError, match="it must be 0 or more"):
        Prices(TierPrice(1, 1), TierPrice(1, 1), decision=number)


def test_the_prices_of_a_params_file_are_the_price_table():
    tier = {"per_million_in": 1, "per_million_out": 2}
    prices = {"cheap": tier, "frontier": tier, "decision": 0.1, "lost_cache_discount": 0.2}
    params = EvaluateParams(prices=prices)
    assert params.prices == Prices(TierPrice(1, 2), TierPrice(1, 2), 0.1, 0.2)
    assert params.routing_cost == pytest.approx(0.3)
    assert EvaluateParams().routing_cost == 0
    assert EvaluateParams.model_validate(params.model_dump()) == params


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({"cheep": {}}, "prices.cheep: unknown key; did you mean 'cheap'?"),
        (
            {"cheap": {"per_million_inn": 1}},
            "prices.cheap.per_million_inn: unknown key; did you mean 'per_million_in'?",
        ),
        ({"cheap": {"per_million_in": -1, "per_million_out": 1}}, "it must be 0 or more"),
    ],
)
def test_a_mistake_in_the_prices_of_a_params_file_is_named(prices, message):
    """An unknown key below an optional section once ended in an AssertionError."""
    with pytest.raises(UsageError) as refused:
        with_section(Params(), "evaluate", prices=prices)
    assert message in str(refused.value)
