"""The merge of recorded and fresh examples: its laws, and the treatment of single rows."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blank import blank_example
from querytier.data.examples import Examples
from querytier.data.record.merge import MergeRule, merge
from querytier.data.record.weight_caps import capped
from querytier.data.record.write import with_all_splits
from querytier.data.splits import SPLITS
from querytier.data.text_view import hashed

WORDS = ["parse", "invoice", "quorum", "tide", "lemma", "violin", "kernel", "orchid"]


def row(name, query=None, *, group=None, split="train", label=1.0, day=1, **more):
    query = query or f"what is number {name}"
    more = {"id": name, "group": group or f"g-{query}", "split": split, **more}
    time = f"2031-01-{day:02d}T00:00:00.000000Z" if day else ""
    return blank_example(**{"query": query, "needs_frontier": label, "time": time, **more})


def rows(*found):
    return Examples.of(list(found))


NOTHING = rows()
ROW = st.builds(
    lambda number, words, group, split, label, day, source, selected: row(
        f"id-{number}",
        " ".join(words),
        group=f"group-{group}",
        split="train" if selected == "planned" else split,
        selected=selected,
        label=label,
        day=day,
        source=source,
    ),
    st.integers(0, 40),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=5),
    st.integers(0, 12),
    st.sampled_from(SPLITS),
    st.sampled_from([0.0, 1.0, float("nan")]),
    st.integers(0, 28),
    st.sampled_from(["", "app", "api"]),
    st.sampled_from(["random", "random", "random", "planned"]),
)
ROWS = st.lists(ROW, max_size=25)
SHARES = st.none() | st.floats(0.1, 1)
RULES = st.builds(
    MergeRule,
    window_days=st.none() | st.floats(1, 30),
    half_life_days=st.none() | st.floats(1, 30),
    largest_group_share=SHARES,
    largest_source_share=SHARES,
    near_duplicate_threshold=st.sampled_from([None, 0.5, 0.8]),
)


def table(examples):
    columns = [getattr(examples, field.name).tolist() for field in fields(examples)]
    return [tuple(map(repr, one)) for one in zip(*columns, strict=True)]


@given(ROWS, ROWS, RULES)
def test_merging_twice_changes_nothing(first, second, rule):
    record = merge(NOTHING, rows(*first), rule).record
    once = merge(record, rows(*second), rule)
    twice = merge(once.record, rows(*second), rule)
    assert table(twice.record) == table(once.record)
    assert table(twice.examples) == table(once.examples)
    assert not twice.added


@given(ROWS, ROWS, RULES)
def test_planned_rows_train_whatever_they_duplicate(first, second, rule):
    record = merge(merge(NOTHING, rows(*first), rule).record, rows(*second), rule).record
    assert set(record.split[record.planned]) <= {"train"}


def test_small_fresh_logs_fill_all_splits_except_with_planned_groups():
    fresh = rows(*(row(f"r{n}", group=f"{hashed(str(n)):016x}") for n in range(60)))
    shares = {"calibration": 0.4, "certification": 0.4, "test": 0.0}
    dealt = with_all_splits(fresh, 5000, shares, 17)
    assert set(dealt.split) == {"train", "calibration", "certification"}
    selected = np.where(dealt.split == "train", "random", "planned").astype(object)
    assert set(with_all_splits(replace(fresh, selected=selected), 5000, shares, 17).split) == {
        "train"
    }


@given(ROWS, ROWS, RULES, st.randoms())
def test_the_order_of_rows_does_not_matter(first, second, rule, random):
    record = merge(NOTHING, rows(*first), rule).record
    shuffled = random.sample(second, len(second))
    one, other = (merge(record, rows(*fresh), rule) for fresh in (second, shuffled))
    assert table(one.examples) == table(other.examples)
    assert one.counts == other.counts


@given(ROWS, ROWS, RULES)
def test_recorded_rows_never_change_and_no_family_has_two_splits(first, second, rule):
    record = merge(NOTHING, rows(*first), rule).record
    merged = merge(record, rows(*second), rule).record
    kept = merged.where(np.isin(merged.id.astype(str), record.id.astype(str)))
    assert table(kept) == table(record)
    for column in (merged.group, merged.query):
        for name in set(column.tolist()):
            assert len(set(merged.split[column == name].tolist())) == 1


@given(ROWS, ROWS, RULES)
def test_every_row_is_accounted_for(first, second, rule):
    record = merge(NOTHING, rows(*first), rule).record
    counts = merge(record, rows(*second), rule).counts
    gone = counts.repeated + counts.id_reused + counts.straddling + counts.unlabelled
    assert counts.added + gone == counts.fresh == len(second)
    assert counts.used + counts.outside_window == counts.recorded + counts.added


NAMED = st.lists(
    st.tuples(st.floats(0.01, 100), st.sampled_from("abcdefgh"), st.sampled_from("xyz")),
    min_size=1,
    max_size=30,
)


@given(NAMED, SHARES, SHARES)
def test_caps_hold_or_have_a_reason_why_not_and_no_weight_grows(found, group_share, source_share):
    weights = np.array([weight for weight, _, _ in found])
    groups = np.array([group for _, group, _ in found], dtype=object)
    sources = np.array([source for _, _, source in found], dtype=object)
    lowered = capped(weights, groups, sources, group_share, source_share)
    assert (lowered.weights <= weights * (1 + 1e-9)).all()
    assert (lowered.weights > 0).all()
    said = " ".join(lowered.left_out)
    limits = (("group", groups, group_share), ("source", sources, source_share))
    for what, names, share in limits:
        if share is None or f"{what}s cannot" in said or (what == "source" and "both" in said):
            continue
        largest = max(lowered.weights[names == name].sum() for name in set(names.tolist()))
        assert largest <= share * lowered.weights.sum() * (1 + 1e-5)


def test_a_fresh_query_joins_the_group_and_split_of_its_duplicate():
    record = rows(row("a", "where is my order", group="one", split="test"))
    fresh = rows(
        row("b", " where  is my order", group="two"), row("c", "another thing", group="two")
    )
    merged = merge(record, fresh, MergeRule())
    assert merged.record.group.tolist() == ["one"] * 3
    assert merged.record.split.tolist() == ["test"] * 3
    assert (merged.counts.added, merged.counts.joined) == (2, 2)


def test_a_row_that_ties_two_splits_together_is_refused_alone():
    record = rows(row("a", "hello", group="one", split="test"), row("b", "tax form", group="two"))
    fresh = rows(row("c", "hello", group="two"), row("d", "vat form", group="two"))
    merged = merge(record, fresh, MergeRule())
    assert merged.counts.straddling == 1
    assert merged.record.id.tolist() == ["a", "b", "d"]
    assert merged.record.split.tolist() == ["test", "train", "train"]


def test_near_duplicates_across_old_and_new_share_a_split():
    text = "please summarise the attached report on river water quality for the city council"
    record = rows(
        row("a", f"{text} in 2030 and list all of the open points at the end", split="test")
    )
    fresh = rows(row("b", f"{text} in 2031 and list all of the open points at the end"))
    assert merge(record, fresh, MergeRule(near_duplicate_threshold=0.5)).record.split[1] == "test"
    assert merge(record, fresh, MergeRule()).record.split[1] == "train"


def test_the_window_leaves_out_old_rows_but_keeps_them_in_the_record():
    fresh = rows(row("old", day=1), row("new", day=20), row("undated", day=0))
    merged = merge(NOTHING, fresh, MergeRule(window_days=10))
    assert merged.examples.id.tolist() == ["new", "undated"]
    assert len(merged.record) == 3
    assert (merged.counts.outside_window, merged.counts.undated) == (1, 1)


def test_a_half_life_halves_weights_only_in_training():
    fresh = rows(row("a", day=1), row("b", day=11), row("c", day=1, split="test"))
    merged = merge(NOTHING, fresh, MergeRule(half_life_days=10))
    assert merged.examples.weight.tolist() == [0.5, 1.0, 1.0]
    assert merged.record.weight.tolist() == [1.0, 1.0, 1.0]
    assert merged.counts.decayed == 1


def test_a_group_that_floods_the_log_weighs_no_more_than_its_share():
    flood = [row(f"f{n}", f"flood {n}", group="bot") for n in range(80)]
    others = [row(f"o{n}", f"other {n}", group=f"g{n}") for n in range(20)]
    merged = merge(NOTHING, rows(*flood, *others), MergeRule(largest_group_share=0.1))
    bot = merged.examples.weight[merged.examples.group == "bot"]
    assert bot.sum() == pytest.approx(0.1 * merged.examples.weight.sum())
    assert merged.counts.capped_groups == {"bot": pytest.approx(bot.sum() / 80)}


def test_ids_of_line_numbers_are_replaced_and_reused_ids_refused():
    record = merge(NOTHING, rows(row("line-1", "first"), row("named", "a")), MergeRule()).record
    fresh = rows(row("line-1", "second"), row("new.jsonl:line-2", "first"), row("named", "b"))
    counts = merge(record, fresh, MergeRule()).counts
    assert (counts.added, counts.repeated, counts.id_reused) == (1, 1, 1)


def test_a_recorded_label_stays_if_the_log_changes_it():
    record = rows(row("a", label=1.0))
    merged = merge(record, replace(record, needs_frontier=np.zeros(1)), MergeRule())
    assert merged.record.needs_frontier.tolist() == [1.0]
    assert merged.counts.repeated == 1
