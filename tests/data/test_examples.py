"""Examples: their label and fields, their columns and files, and their fingerprint."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.example import Example, example_from
from querytier.data.examples import Examples
from querytier.data.label_rules import cheap_fails_frontier_succeeds
from querytier.data.labelling import LabelRules
from querytier.data.values import BadRecordError

EXPLICIT = LabelRules(("explicit",))


UNIT = st.floats(0, 1)


def example(query="q", group="", **others):
    values = {"query": query, "group": group, "needs_frontier": 0.0, **others}
    return example_from(values, EXPLICIT, "id")


@given(UNIT, UNIT, UNIT)
def test_the_label_is_one_if_cheap_fails_and_frontier_succeeds(cheap, frontier, ok):
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
    examples = Examples.of(rows)
    examples.write_parquet(tmp_path / "examples.parquet")
    again = Examples.read_parquet(tmp_path / "examples.parquet")
    for field in dataclasses.fields(Examples):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(examples, field.name))
    assert again.fingerprint() == examples.fingerprint()
    assert not again.scored
    assert examples.dataset().features["cheap_score"].dtype == "float64"


def test_examples_of_version_0_1_0_are_read(tmp_path):
    """That version called the split a role; the record of a retrain loop outlives a release."""
    examples = Examples.of([dataclasses.replace(example("eins"), split="test")])
    names = ["role" if name == "split" else name for name in examples.table().column_names]
    pq.write_table(examples.table().rename_columns(names), tmp_path / "record.parquet")
    again = Examples.read_parquet(tmp_path / "record.parquet")
    assert again.split.tolist() == ["test"]
    assert again.fingerprint() == examples.fingerprint()


def test_the_views_are_the_text_that_the_classifier_reads():
    queries = ["  two\nwords ", "<system-reminder>x</system-reminder>a question"]
    assert Examples.of([example(query) for query in queries]).views() == ["two words", "a question"]


def test_the_fingerprint_depends_on_every_value_but_not_on_order():
    rows = [example("a"), example("b")]
    fingerprint = Examples.of(rows).fingerprint()
    assert Examples.of(rows[::-1]).fingerprint() == fingerprint
    assert Examples.of([rows[0], example("b", weight=2)]).fingerprint() != fingerprint


def test_every_field_of_an_example_is_a_column():
    names = [field.name for field in dataclasses.fields(Example)]
    assert sorted(names) == sorted(field.name for field in dataclasses.fields(Examples))
