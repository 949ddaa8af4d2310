"""Slices: their rows, and that a search through many of them raises no false alarm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from blank import blank_examples
from querytier.eval.slice_masks import script_of, slice_masks
from querytier.eval.slices import holm, search_slices, slice_record

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12).map(np.array)


@given(P_VALUES)
def test_holm_is_between_the_p_value_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert (adjusted >= p_values - 1e-12).all()
    assert (adjusted <= np.minimum(len(p_values) * p_values, 1) + 1e-12).all()
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


@given(P_VALUES, st.floats(0.01, 0.2))
def test_holm_rejects_what_its_steps_reject(p_values, level):
    ordered = np.sort(p_values)
    passed = ordered * (len(ordered) - np.arange(len(ordered))) <= level
    steps = int(np.argmin(passed)) if not passed.all() else len(passed)
    assert int((holm(p_values) <= level).sum()) == steps


def names_of(groups):
    return np.array([f"g{n}" for n in groups], dtype=object)


def test_a_slice_of_single_rows_is_the_paired_t_test():
    random = np.random.default_rng(0)
    first, second = random.random(50), random.random(50)
    found = search_slices({"all": np.ones(50, bool)}, first, second, names_of(range(50))).results[0]
    expected = ttest_1samp(first - second, 0)
    assert found.difference == pytest.approx((first - second).mean())
    assert found.p_value == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.rows, found.groups) == (50, 50)


def test_copies_within_a_group_add_no_evidence():
    random = np.random.default_rng(1)
    first, second = random.random(40), random.random(40)
    once = search_slices({"s": np.ones(40, bool)}, first, second, names_of(range(40))).results[0]
    copied = [np.repeat(losses, 5) for losses in (first, second)]
    names = names_of(np.repeat(np.arange(40), 5))
    five = search_slices({"s": np.ones(200, bool)}, *copied, names).results[0]
    assert five.p_value == pytest.approx(once.p_value)
    assert (five.low, five.high) == pytest.approx((once.low, once.high))


def overlapping_masks(random, rows):
    halves = {f"half {n}": random.random(rows) < 0.5 for n in range(6)}
    tenths = {f"tenth {n}": random.random(rows) < 0.1 for n in range(6)}
    return {**halves, **tenths}


def test_if_nothing_differs_alarms_are_as_rare_as_requested():
    """Twelve overlapping slices, three rows per group; without Holm a third of searches alarm."""
    random, alarms, naive, simulations = np.random.default_rng(2), 0, 0, 400
    for _ in range(simulations):
        groups = np.repeat(np.arange(200), 3)
        first = (random.random(200) < 0.4).astype(float)[groups]
        second = (random.random(200) < 0.4).astype(float)[groups]
        search = search_slices(overlapping_masks(random, 600), first, second, names_of(groups))
        alarms += any(result.adjusted_p_value <= 0.05 for result in search.results)
        naive += any(result.p_value <= 0.05 for result in search.results)
    assert alarms / simulations < 0.05 + 3 * (0.05 * 0.95 / simulations) ** 0.5
    assert naive / simulations > 0.15


def test_intervals_contain_the_difference_at_their_level():
    random, covered = np.random.default_rng(3), []
    for _ in range(400):
        groups = np.repeat(np.arange(60), 2)
        first = random.random(120) + 0.3 * random.random(60)[groups]
        masks = {"all": np.ones(120, bool)}
        found = search_slices(masks, first, np.full(120, 0.5), names_of(groups)).results[0]
        covered.append(found.low <= 0.15 <= found.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / 400) ** 0.5)


def test_the_slice_that_loses_comes_first_and_alone_is_called_worse():
    random = np.random.default_rng(4)
    masks = overlapping_masks(random, 2000)
    first, second = random.random(2000), random.random(2000)
    masks["planted"] = np.arange(2000) % 20 == 0
    first[masks["planted"]] += 0.4
    second[masks["planted"]] -= 0.2
    search = search_slices(masks, first, second, names_of(range(2000)))
    assert search.results[0].name == "planted"
    assert [result.name for result in search.worse()] == ["planted"]
    differences = [result.difference for result in search.results]
    assert differences == sorted(differences, reverse=True)
    assert search_slices(masks, second, first, names_of(range(2000))).worse() == []


def test_small_slices_are_named_and_do_not_count_as_tests():
    random = np.random.default_rng(5)
    masks = {
        "large": np.ones(90, bool),
        "few rows": np.arange(90) < 29,
        "few groups": np.arange(90) < 36,
        "none": np.zeros(90, bool),
    }
    groups = names_of(np.arange(90) // 4)
    search = search_slices(masks, random.random(90), random.random(90), groups)
    assert search.untested == {
        "few rows": "29 rows, at least 30 are needed",
        "few groups": "9 groups, at least 10 are needed",
        "none": "0 rows, at least 30 are needed",
    }
    assert search.results[0].adjusted_p_value == search.results[0].p_value
    assert search_slices({}, np.ones(3), np.ones(3), names_of(range(3))).results == []


def test_differences_without_scatter_have_a_p_value():
    masks = {"all": np.ones(40, bool)}
    same = search_slices(masks, np.ones(40), np.ones(40), names_of(range(40))).results[0]
    assert (same.p_value, same.low, same.high) == (1, 0, 0)
    shifted = search_slices(masks, np.ones(40), np.zeros(40), names_of(range(40))).results[0]
    assert shifted.p_value == 2.0**-39


def examples_of(**columns):
    count = len(next(iter(columns.values())))
    return blank_examples(**{"group": [f"g{n}" for n in range(count)], **columns})


def test_slices_follow_from_the_fields_of_the_log():
    queries = ["short"] * 30 + ["длинный вопрос о погоде"] * 30 + ["long " * 1000] * 30 + ["q"] * 2
    examples = examples_of(
        query=queries,
        domain=["law"] * 40 + ["code"] * 51 + ["rare"],
        label_source=["log"] * 92,
        source=["a", "b"] * 46,
        time=[""] * 12 + [f"2031-01-{1 + n // 4:02d}" for n in range(80)],
    )
    masks = slice_masks(examples)
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "domain: law": 40,
        "domain: code": 51,
        "script: Latin": 62,
        "script: Cyrillic": 30,
        "length: shortest third": 32,
        "length: middle third": 30,
        "length: longest third": 30,
        "view: truncated": 30,
        "view: whole": 62,
        "source: a": 46,
        "source: b": 46,
        "time: earlier half": 40,
        "time: later half": 40,
    }
    assert "domain: rare" in slice_masks(examples, fewest_rows=1)


def test_missing_fields_make_no_slice():
    assert slice_masks(examples_of(query=["same"] * 50)) == {}


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("12 + 3 = ?", ""),
        ("¿Dónde está mi pedido?", "Latin"),
        ("我的订单在哪里", "Han"),
        ("東京都の天気", "Kana"),
        ("주문이 어디에 있나요", "Hangul"),
        ("أين طلبي", "Arabic"),
        ("मेरा ऑर्डर कहाँ है", "Devanagari"),
        ("def f(x): # комментарий, довольно длинный", "Cyrillic"),
    ],
)
def test_the_script_is_that_of_most_letters(text, script):
    assert script_of(text) == script


@given(st.text(max_size=100))
def test_every_text_has_a_script_or_none(text):
    assert isinstance(script_of(text), str)
    assert bool(script_of(text)) == any(character.isalpha() for character in text)


def test_only_a_slice_sent_the_wrong_way_is_worse_than_a_coin():
    random = np.random.default_rng(3)
    needed = (random.random(1200) < 0.4).astype(float)
    domain = random.choice(["turned", "right", "blind"], 1200)
    right, coin = needed > 0.5, random.random(1200) < 0.4
    frontier = np.select([domain == "turned", domain == "right"], [~right, right], coin)
    examples = examples_of(needs_frontier=needed.tolist(), domain=domain.tolist())
    found = slice_record(examples, frontier)
    assert [result["name"] for result in found["results"] if result["worse"]] == ["domain: turned"]
    first = found["results"][0]
    assert first["missed"] == pytest.approx(needed[domain == "turned"].mean())
    assert first["rows"] == (domain == "turned").sum()


def test_a_slice_that_needs_little_and_gets_little_is_not_worse():
    """Its frontier rate is low because other slices need more: no fault of the ranking."""
    random = np.random.default_rng(4)
    easy = np.arange(2000) % 2 == 0
    needed = (random.random(2000) < np.where(easy, 0.05, 0.6)).astype(float)
    frontier = random.random(2000) < np.where(easy, 0.05, 0.9)
    domain = np.where(easy, "easy", "hard").tolist()
    found = slice_record(examples_of(needs_frontier=needed.tolist(), domain=domain), frontier)
    assert not [result["name"] for result in found["results"] if result["worse"]]
