"""Rows that a classifier was trained on, and the stable id of a set of rows."""

import re

import numpy as np

from blank import blank_examples
from querytier.data.leakage import rows_id, seen_in_training


def rows_named(groups, queries):
    return blank_examples(group=groups, query=queries)


def test_rows_are_known_by_group_by_text_view_or_by_their_group():
    test = rows_named(["a", "b", "c", "c", "d"], ["one", "two ", "three", "four", "five"])
    learned = rows_named(["a", "x", "y"], ["another", "two", "four"])
    assert seen_in_training(test, learned).tolist() == [True, True, True, True, False]
    assert not seen_in_training(test, learned.where(np.zeros(3, bool))).any()


def test_the_id_of_rows_depends_on_groups_but_not_on_order():
    rows = rows_named(["a", "b", "b"], ["one", "two", "three"])
    assert rows_id(rows) == rows_id(rows.where(np.array([2, 1, 0])))
    assert rows_id(rows) != rows_id(rows_named(["a", "b", "c"], ["one", "two", "three"]))
    assert re.fullmatch("[0-9a-f]{16}", rows_id(rows))
