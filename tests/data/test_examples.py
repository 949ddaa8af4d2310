"""Examples, labels and splits."""

import dataclasses
import itertools
import json
from collections import defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.example import Example, example_from
from querytier.data.examples import Examples
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import Splitting, prepare
from querytier.data.ingest.sources import LogSource
from querytier.data.label_rules import cheap_fails_frontier_succeeds
from querytier.data.labelling import LabelRules
from querytier.data.near_duplicates import near_duplicate_links
from querytier.data.splits import (
    SPLITS,
    STRATUM_TOLERANCE,
    joined_groups,
    splits_of,
    temporal_splits,
)
from querytier.data.text_view import hashed
from querytier.data.values import BadRecordError
from querytier.errors import LogError

SHARES = {"calibration": 0.15, "certification": 0.15, "test": 0.2}
EXPLICIT = LabelRules(("explicit",))
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


def test_the_views_are_what_the_classifier_reads_of_each_query():
    queries = ["  two\nwords ", "<system-reminder>x</system-reminder>a question"]
    assert Examples.of([example(query) for query in queries]).views() == ["two words", "a question"]


def test_the_fingerprint_sees_every_value_and_no_order():
    rows = [example("a"), example("b")]
    fingerprint = Examples.of(rows).fingerprint()
    assert Examples.of(rows[::-1]).fingerprint() == fingerprint
    assert Examples.of([rows[0], example("b", weight=2)]).fingerprint() != fingerprint


NAMES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30)


@given(NAMES, st.integers(0, 50))
def test_no_group_and_no_view_is_in_two_splits(rows, seed):
    names, views = np.array(rows, dtype=np.uint64).T
    groups = joined_groups(names, views)
    splits = splits_of(groups, SHARES, seed)
    for keys in (names, views, groups):
        splits_of_key = defaultdict(set)
        for key, split in zip(keys, splits, strict=True):
            splits_of_key[key].add(split)
        assert all(len(found) == 1 for found in splits_of_key.values())


@given(NAMES)
def test_groups_are_joined_only_through_names_and_views(rows):
    """The joined groups are those of a plain search for what hangs together."""
    names, views = np.array(rows, dtype=np.uint64).T
    groups = joined_groups(names, views)
    for row, group in enumerate(groups):
        reached, grown = {row}, True
        while grown:
            near = [(names[n], views[n]) for n in reached]
            more = {
                n
                for n in range(len(rows))
                if any(names[n] == name or views[n] == view for name, view in near)
            }
            grown, reached = more != reached, more
        assert group == min(names[n] for n in reached)
        assert {n for n in range(len(rows)) if groups[n] == group} == reached


QUERIES = st.lists(st.sampled_from("abcd"), min_size=1, max_size=8).map(" ".join)


def similarity(left, right):
    """Jaccard similarity of three-word shingles, for queries of words and blanks."""
    first, second = (
        set(itertools.pairwise(itertools.pairwise(["<", "<", *query.split(), ">", ">"])))
        for query in (left, right)
    )
    return len(first & second) / len(first | second)


@given(
    st.lists(st.tuples(QUERIES, st.integers(0, 9)), min_size=1, max_size=25),
    st.sampled_from([0.3, 0.5, 0.8]),
    st.integers(0, 20),
    st.booleans(),
)
def test_no_near_duplicates_are_in_two_splits(rows, threshold, seed, temporal):
    queries = [query for query, _ in rows]
    names = np.array([name for _, name in rows], dtype=np.uint64)
    views = np.array([hashed(query) for query in queries], dtype=np.uint64)
    groups = joined_groups(names, views, near_duplicate_links(queries, threshold))
    times = np.arange(len(rows), dtype=float)
    splits = splits_of(groups, SHARES, seed)
    if temporal:
        splits = temporal_splits(groups, times, SHARES, seed)
    for one, other in itertools.combinations(range(len(rows)), 2):
        if names[one] == names[other] or similarity(queries[one], queries[other]) >= threshold:
            assert (groups[one], splits[one]) == (groups[other], splits[other])


def rows_of(count):
    return [
        {"query": f"query {n}", "needs_frontier": n % 2, "id": n, "group": f"g{n}"}
        for n in range(count)
    ]


def prepared(tmp_path, rows, **settings):
    lines = map(json.dumps, rows)
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    settings = {
        "shares": SHARES,
        "seed": 3,
        "near_duplicate_threshold": 0.8,
        "near_duplicate_rows": 10_000,
        **settings,
    }
    split = {
        name: settings.pop(name) for name in Splitting.__dataclass_fields__ if name in settings
    }
    reading = Reading(**{"max_bad_share": 0.0, **settings})
    source = LogSource(tmp_path / "log.jsonl")
    summary = prepare([source], tmp_path, reading, Splitting(**split))
    return Examples.read_parquet(tmp_path / "data" / "examples.parquet"), summary


def test_below_a_thousand_rows_there_is_no_calibration_and_no_certification_split(tmp_path):
    assert set(prepared(tmp_path, rows_of(999))[0].split) == {"train", "test"}
    assert set(prepared(tmp_path, rows_of(1000))[0].split) == set(SPLITS)


def test_a_log_that_grows_keeps_its_test_rows(tmp_path):
    few, many = prepared(tmp_path, rows_of(400))[0], prepared(tmp_path, rows_of(1400))[0]
    assert [split == "test" for split in few.split] == [
        split == "test" for split in many.split[:400]
    ]


def test_what_is_written_in_batches_is_what_was_read(tmp_path, monkeypatch):
    whole, summary = prepared(tmp_path, rows_of(300))
    monkeypatch.setattr("querytier.data.ingest.preparing._ROWS_AT_ONCE", 7)
    monkeypatch.setattr("querytier.data.ingest.log_batches._ROWS_AT_ONCE", 11)
    pieces, again = prepared(tmp_path, rows_of(300))
    assert again == summary
    assert pieces.fingerprint() == whole.fingerprint() == summary.fingerprint
    assert pieces.query.tolist() == [f"query {n}" for n in range(300)]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "examples.parquet",
        "summary.json",
        "unlabelled.parquet",
    ]


LONG = " ".join(f"word{n}" for n in range(40))


def test_near_duplicates_share_group_and_split(tmp_path):
    rows = [{**row, "query": f"{row['query']} alone"} for row in rows_of(300)]
    for n in range(0, 300, 3):
        rows[n]["query"] = f"{n} {LONG} {n}"
        rows[n + 1]["query"] = f"{n} {LONG} {n}!"
    examples, summary = prepared(tmp_path, rows)
    assert summary.near_duplicates >= 100
    for n in range(0, 300, 3):
        assert examples.group[n] == examples.group[n + 1]
        assert examples.split[n] == examples.split[n + 1]
    apart, summary = prepared(tmp_path, rows, near_duplicate_rows=10)
    assert summary.near_duplicates is None
    assert any(apart.split[n] != apart.split[n + 1] for n in range(0, 300, 3))


def test_temporal_puts_the_newest_groups_into_test(tmp_path):
    rows = [
        {**row, "time": f"2031-01-01 00:{n // 60:02}:{n % 60:02}"}
        for n, row in enumerate(rows_of(300))
    ]
    examples, _ = prepared(tmp_path, rows, temporal=True)
    assert (examples.split == "test").tolist() == [n >= 240 for n in range(300)]
    del rows[7]["time"]
    with pytest.raises(LogError, match="1 of the 300 examples have no time"):
        prepared(tmp_path, rows, temporal=True)


def test_personal_data_is_replaced_before_anything_is_written(tmp_path):
    rows = [
        {**row, "query": f"{row['query']} for ann{n}@example.org"}
        for n, row in enumerate(rows_of(300))
    ]
    rows.append({"query": "mail bob@example.org", "needs_frontier": "?"})
    examples, summary = prepared(tmp_path, rows, redaction="on", max_bad_share=0.1)
    assert summary.redacted == {"EMAIL": 300}
    assert all(query.endswith("for [EMAIL]") for query in examples.query)
    assert "example.org" not in (tmp_path / "quarantine.jsonl").read_text()
    with pytest.raises(LogError, match=r"contains personal data \(EMAIL: 300\)"):
        prepared(tmp_path, rows, redaction="fail", max_bad_share=0.1)


@given(st.integers(20, 120), st.integers(20, 120), st.integers(0, 200), st.sampled_from([1, 2, 7]))
def test_each_label_gets_its_share_of_every_split_however_chance_deals(needy, others, seed, size):
    """Cumulated from the test split on, no label is further from its shares than allowed."""
    labels = np.repeat([1.0, 0.0], [needy * size, others * size])
    groups = np.repeat(np.arange(needy + others, dtype=np.uint64), size)
    splits = splits_of(groups, SHARES, seed, labels)
    for label, count in ((1.0, needy), (0.0, others)):
        found, reached, wanted = splits[labels == label], 0.0, 0.0
        for split in ("test", "certification", "calibration"):
            reached += (found == split).mean()
            wanted += SHARES[split]
            assert abs(reached - wanted) <= STRATUM_TOLERANCE + 1 / count


@given(st.integers(0, 50), st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=1, max_size=300))
def test_a_group_keeps_one_split_whatever_its_labels(seed, labels):
    groups = np.arange(len(labels), dtype=np.uint64) // 3
    splits = splits_of(groups, SHARES, seed, np.array(labels))
    for group in np.unique(groups):
        assert len(set(splits[groups == group])) == 1


def test_many_groups_keep_the_splits_of_their_hashes():
    groups, labels = np.arange(20_000, dtype=np.uint64), np.arange(20_000) % 4 / 3
    by_hash = splits_of(groups, SHARES, 5)
    assert (splits_of(groups, SHARES, 5, labels) == by_hash).all()


def test_splits_get_their_shares_of_many_groups():
    splits = splits_of(np.arange(20_000, dtype=np.uint64), SHARES, 0).tolist()
    for split, share in {**SHARES, "train": 0.5}.items():
        assert splits.count(split) / 20_000 == pytest.approx(share, abs=0.015)


def test_every_field_of_an_example_is_a_column():
    names = [field.name for field in dataclasses.fields(Example)]
    assert sorted(names) == sorted(field.name for field in dataclasses.fields(Examples))
