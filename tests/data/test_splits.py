"""Splits: groups stay together, keep their split, and each split gets its share of each label."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.near_duplicates import near_duplicate_links
from querytier.data.splits import (
    STRATUM_TOLERANCE,
    joined_groups,
    splits_of,
    temporal_splits,
)
from querytier.data.text_view import hashed

QUERIES = st.lists(st.sampled_from("abcd"), min_size=1, max_size=8).map(" ".join)
SHARES = {"calibration": 0.15, "certification": 0.15, "test": 0.2}


NAMES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30)


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
    """The joined groups are the connected components that a plain search finds."""
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


@given(st.integers(20, 120), st.integers(20, 120), st.integers(0, 200), st.sampled_from([1, 2, 7]))
def test_each_label_gets_its_share_of_every_split(needy, others, seed, size):
    """Summed up from the test split on, no label is further from its shares than allowed."""
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
