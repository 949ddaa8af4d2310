"""The values that a column map finds in a log record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.column_map import ColumnMap, leaf_paths, parse_paths
from querytier.data.ingest.inspecting import inspect_log
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules

NAMES = st.text(alphabet="ab.", max_size=4)


def records(names):
    leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
    return st.dictionaries(
        names,
        st.recursive(
            leaves,
            lambda inner: (
                st.dictionaries(names, inner, max_size=3)
                | st.lists(inner, max_size=3)
                | st.lists(
                    st.fixed_dictionaries({"name": names, "value": inner, "by": leaves}),
                    max_size=3,
                )
            ),
            max_leaves=12,
        ),
        max_size=4,
    )


def found(record, path):
    return ColumnMap({"query": path}).values(record).get("query")


@given(records(NAMES))
def test_every_listed_path_is_found(record):
    for path in leaf_paths(record):
        assert ColumnMap({"query": path}).present(record) == {"query"}


@given(records(st.text(alphabet="abc", min_size=1, max_size=2)))
def test_every_listed_path_leads_to_a_leaf(record):
    paths = list(leaf_paths(record))
    assert len(paths) == len(set(paths))
    for path in paths:
        value = found(record, path)
        assert not (isinstance(value, dict) and value)
        assert list(leaf_paths({"x": value})) == ["x"]


@given(NAMES.filter(bool), st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_the_last_outcome_of_a_name_is_found_by_it(name, values):
    outcomes = [{"name": name, "value": value, "source": "EVAL"} for value in values]
    record = {"outcomes": [{"name": "other", "value": "curt"}, *outcomes]}
    assert found(record, f"outcomes.{name}") == values[-1]
    assert f"outcomes.{name}" in leaf_paths(record)


@pytest.mark.parametrize(
    ("record", "path", "value"),
    [
        ({"outcomes": [{"name": "gen.quality", "value": 0.5}]}, "outcomes.gen.quality", 0.5),
        ({"a": [{"name": "b", "value": {"c": 1}}]}, "a.b.c", 1),
        ({"a.b": {"c": 1}}, "a.b.c", 1),
        ({"a.b": {"d": 1}, "a": {"b.c": 2}}, "a.b.c", 2),
        ({"a.b": 1, "a": {"b": 2}}, "a.b", 1),
        ({"a": [{"name": "b", "value": 1}]}, "a", [{"name": "b", "value": 1}]),
        ({"a": [{"name": "b", "value": 1}, {"name": "c"}]}, "a.b", None),
        ({"a": [{"name": "b", "value": 1}, {"name": 2, "value": 1}]}, "a.b", None),
        ({"a": [{"name": "b", "value": 1}]}, "a.0.value", None),
    ],
)
def test_a_path_leads_to(record, path, value):
    assert found(record, path) == value


def test_a_list_of_other_things_is_one_column():
    record = {
        "messages": [{"role": "user", "name": "ann", "content": "Hi"}],
        "tags": ["a"],
        "e": [],
    }
    assert list(leaf_paths(record)) == ["messages", "tags", "e"]


def test_inspecting_shows_outcomes_as_columns_that_can_be_mapped(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"q": "Hi", "outcomes": [{"name": "correct", "value": 0.8}]}\n')
    only_query = LogSource(path, paths={"query": "q"})
    assert inspect_log(only_query, LabelRules()).unmapped == ["outcomes.correct"]
    paths = parse_paths("query=q,cheap_score=outcomes.correct")
    [_, score] = inspect_log(LogSource(path, paths=paths), LabelRules()).fields
    assert (score.column, score.present, score.values) == ("outcomes.correct", 1, ["0.8"])
