"""Examples, labels and roles."""

import dataclasses
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.examples import BadRecordError, Example, Examples, example_from
from querytier.data.labels import LabelRule, cheap_fails_frontier_succeeds
from querytier.data.roles import FEWEST_ROWS_TO_CERTIFY, role_of, with_roles
from querytier.data.text_view import text_view

SHARES = {"calibration": 0.15, "certification": 0.15, "test": 0.2}
EXPLICIT = LabelRule("explicit", 0.5)
UNIT = st.floats(0, 1)


def example(query="q", group="", **others):
    values = {"query": query, "group": group, "needs_frontier": 0.0, **others}
    return example_from(values, EXPLICIT, "id")


@given(UNIT, UNIT, UNIT)
def test_the_label_is_one_only_where_the_cheap_answer_fails_and_the_frontier_answer_succeeds(
    cheap, frontier, ok
):
    label = cheap_fails_frontier_succeeds(cheap, frontier, ok)
    assert label == (1.0 if cheap < ok and frontier >= ok else 0.0)


@pytest.mark.parametrize("label", [-0.1, 1.1])
def test_a_label_outside_its_range_makes_no_example(label):
    with pytest.raises(BadRecordError, match=r"needs_frontier outside \[0, 1\]"):
        example(needs_frontier=label)


@pytest.mark.parametrize("weight", [0, -1])
def test_a_weight_that_is_not_above_zero_makes_no_example(weight):
    with pytest.raises(BadRecordError, match="weight is not above 0"):
        example(weight=weight)


def test_examples_come_back_from_parquet_as_they_were(tmp_path):
    rows = [example("eins", group="g", cheap_score=0.25), example("zwei", weight=2, domain="d")]
    examples = Examples.of(with_roles(rows, SHARES, 0))
    examples.write_parquet(tmp_path / "examples.parquet")
    again = Examples.read_parquet(tmp_path / "examples.parquet")
    for field in dataclasses.fields(Examples):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(examples, field.name))
    assert again.fingerprint() == examples.fingerprint()
    assert not again.scored


def test_the_fingerprint_sees_every_value_and_no_order():
    rows = [example("a"), example("b")]
    fingerprint = Examples.of(rows).fingerprint()
    assert Examples.of(rows[::-1]).fingerprint() == fingerprint
    assert Examples.of([rows[0], example("b", weight=2)]).fingerprint() != fingerprint


QUERIES = st.text(st.sampled_from("ab \n"), min_size=1, max_size=3).filter(text_view)
ROWS = st.lists(st.tuples(QUERIES, st.sampled_from(["", "g1", "g2", "g3", "g4"])), min_size=1)


@given(ROWS, st.integers(0, 50), st.booleans())
def test_no_group_and_no_view_is_in_two_roles(rows, seed, many):
    examples = [example(query, group) for query, group in rows]
    if many:
        examples *= FEWEST_ROWS_TO_CERTIFY // len(examples) + 1
    roles_of_group, roles_of_view = defaultdict(set), defaultdict(set)
    for before, after in zip(examples, with_roles(examples, SHARES, seed), strict=True):
        roles_of_group[before.group or f"view {text_view(before.query)}"].add(after.role)
        roles_of_view[text_view(after.query)].add(after.role)
        assert after.query == before.query
    assert all(len(roles) == 1 for roles in roles_of_group.values())
    assert all(len(roles) == 1 for roles in roles_of_view.values())


def rows_with_groups(count):
    return [example(f"query number {n}", group=f"group {n}") for n in range(count)]


def test_below_a_thousand_rows_there_is_no_calibration_and_no_certification_role():
    assert {row.role for row in with_roles(rows_with_groups(999), SHARES, 3)} == {"train", "test"}
    every = {"train", "calibration", "certification", "test"}
    assert {row.role for row in with_roles(rows_with_groups(1000), SHARES, 3)} == every


def test_a_log_that_grows_keeps_its_test_rows():
    few = with_roles(rows_with_groups(400), SHARES, 3)
    many = with_roles(rows_with_groups(1400), SHARES, 3)[:400]
    assert [row.role == "test" for row in few] == [row.role == "test" for row in many]


def test_roles_get_their_shares_of_many_groups():
    roles = [role_of(f"group {n}", SHARES, 0) for n in range(20_000)]
    for role, share in {**SHARES, "train": 0.5}.items():
        assert roles.count(role) / 20_000 == pytest.approx(share, abs=0.015)


def test_every_field_of_an_example_is_a_column():
    names = [field.name for field in dataclasses.fields(Example)]
    assert sorted(names) == sorted(field.name for field in dataclasses.fields(Examples))
