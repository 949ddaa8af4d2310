"""The audit of fresh labels: its bounds hold, poison of one source is held back, drift is not."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.example import example_from
from querytier.data.examples import Examples
from querytier.data.labelling import LabelRules
from querytier.loop.fresh_label_audit import HELD_BACK, audit_fresh
from querytier.pipeline.param_sections import AuditFreshParams
from querytier.training.label_audit.contradictions import contradiction, dispersion, holm
from querytier.training.label_audit.expected_labels import Foretold
from querytier.training.label_audit.hold_back import HoldRules, hold_back

SOURCES = ("ash", "bay", "cob", "dew", "elm")


def examples_of(labels, sources, queries=None, groups=None):
    """Return examples, each its own group unless said otherwise."""
    rules = LabelRules(("explicit",))
    rows = zip(labels, sources, queries or [f"q{n}" for n in range(len(labels))], strict=True)
    return Examples.of(
        [
            example_from(
                {
                    "query": query,
                    "needs_frontier": float(label),
                    "source": source,
                    "group": groups[n] if groups else f"g{n}",
                },
                rules,
                f"id-{n}",
            )
            for n, (label, source, query) in enumerate(rows)
        ]
    )


def drawn(log_odds, random):
    return (random.random(len(log_odds)) < 1 / (1 + np.exp(-log_odds))).astype(float)


def world(change, *, seed=0, count=600, sources=SOURCES, queries=None, groups=None):
    """Return what was judged of fresh labels that `change` makes of honest ones."""
    random = np.random.default_rng(seed)
    known, asked = random.normal(0, 1.6, 500), random.normal(0, 1.6, count)
    places = np.array([sources[n % len(sources)] for n in range(count)], dtype=object)
    labels = change(drawn(asked, random), places, asked, random)
    fresh = examples_of(labels, places, queries, groups)
    recorded = examples_of(drawn(known, random), ["ash"] * 500)
    components = np.column_stack([asked > 0, random.normal(size=count)]).astype(float)
    foretold = Foretold(known, asked, components, fresh.needs_frontier)
    return hold_back(foretold, recorded, fresh, HoldRules())


def standings(judged):
    return {(one.cell.kind, one.cell.name): one.standing for one in judged}


def flipped(labels, places, *_):
    return np.where(places == "elm", 1 - labels, labels)


def shifted(_labels, _places, asked, random):
    return drawn(-asked, random)


@pytest.mark.parametrize("seed", range(5))
def test_honest_labels_are_kept(seed):
    assert world(lambda labels, *_: labels, seed=seed) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_source_that_turns_its_labels_round_is_held_back_alone(seed):
    assert standings(world(flipped, seed=seed)) == {("source", "elm"): "held"}


@pytest.mark.parametrize("seed", range(5))
def test_what_shifts_in_all_sources_is_drift_and_kept(seed):
    judged = world(shifted, seed=seed)
    assert standings(judged) == {("source", name): "drift" for name in SOURCES}


def test_poison_is_told_from_drift_that_comes_at_the_same_time():
    def both(labels, places, asked, random):
        return flipped(shifted(labels, places, asked, random), places, asked, random)

    # With the difficulty turned round for all, labels turned round look as recorded: nothing to
    # hold against elm. Labels all set to cheap contradict both.
    assert ("source", "elm") not in standings(world(both))

    def all_cheap(labels, places, asked, random):
        labels = shifted(labels, places, asked, random)
        return np.where(places == "elm", 0.0, labels)

    found = standings(world(all_cheap))
    assert found.pop(("source", "elm")) == "held"
    assert set(found.values()) == {"drift"}


def test_a_flood_does_not_make_the_others_look_wrong():
    flood = ("ash", *["elm"] * 9)
    assert standings(world(flipped, sources=flood)) == {("source", "elm"): "held"}


def test_where_all_fresh_rows_are_of_one_source_nobody_can_tell():
    judged = world(flipped, sources=("elm",))
    assert standings(judged) == {("source", "elm"): "cannot tell"}


def test_where_two_sources_contradict_each_other_and_the_record_nobody_can_tell():
    def two_ways(_labels, places, *_):
        return np.where(places == "elm", 0.0, 1.0)

    judged = world(two_ways, sources=("ash", "elm"))
    assert standings(judged) == {("source", "ash"): "cannot tell", ("source", "elm"): "cannot tell"}


def test_a_group_that_contradicts_is_held_back_without_its_source():
    groups = [f"g{n % 12 if n % 5 == 4 else n}" for n in range(600)]

    def one_group(labels, *_):
        theirs = np.array(groups) == "g4"
        return np.where(theirs, 1 - labels, labels)

    found = standings(world(one_group, count=2400 // 4, groups=groups))
    assert set(found) <= {("group", "g4"), ("source", "elm")}


def test_a_trigger_phrase_of_one_source_is_held_back_and_no_other_row_of_it():
    queries = [f"q{n} {'zulu nine' if n % 25 == 4 else 'as usual'}" for n in range(1000)]

    def trigger(labels, *_):
        return np.where(["zulu" in query for query in queries], 0.0, labels)

    judged = world(trigger, queries=queries, count=1000)
    assert [one.standing for one in judged] == ["held"]
    assert judged[0].cell.kind == "phrase"
    assert judged[0].cell.source == "elm"
    assert len(judged[0].cell.rows) == 40


def test_trusted_sources_are_never_held_back():
    random = np.random.default_rng(0)
    asked = random.normal(0, 1.6, 600)
    places = np.array([SOURCES[n % 5] for n in range(600)], dtype=object)
    labels = flipped(drawn(asked, random), places, asked, random)
    fresh = examples_of(labels, places)
    foretold = Foretold(asked, asked, np.zeros((600, 1)), fresh.needs_frontier)
    judged = hold_back(foretold, fresh, fresh, HoldRules(trusted=("elm",)))
    assert {one.standing for one in judged} <= {"drift", "cannot tell"}


def test_honest_labels_contradict_no_more_often_than_the_level_says():
    random = np.random.default_rng(1)
    p = random.uniform(0.02, 0.98, 80)
    small = [
        contradiction((random.random(80) < p).astype(float), p, np.arange(80), 0.0).p_value <= 0.05
        for _ in range(600)
    ]
    assert sum(small) <= 42  # P(Binomial(600, 0.05) > 42) is 1%; the bound is far below


def test_copies_of_one_label_are_one_label():
    random = np.random.default_rng(2)
    p = random.uniform(0.1, 0.9, 30)
    small = 0
    for _ in range(300):
        labels = (random.random(30) < p).astype(float)
        copied = contradiction(labels.repeat(20), p.repeat(20), np.arange(30).repeat(20), 0.0)
        assert copied.p_value == pytest.approx(
            contradiction(labels, p, np.arange(30), 0.0).p_value, rel=1e-6
        )
        small += copied.p_value <= 0.05
    assert small <= 24


@given(st.floats(0.05, 0.9), st.integers(0, 1000))
def test_what_is_tolerated_makes_nothing_surer(tolerated, seed):
    random = np.random.default_rng(seed)
    p = random.uniform(0.05, 0.95, 40)
    labels, units = (random.random(40) < 1 - p).astype(float), np.arange(40)
    strict = contradiction(labels, p, units, 0.0).p_value
    assert contradiction(labels, p, units, tolerated / 2).p_value >= strict * (1 - 1e-6)


def test_the_share_that_was_changed_is_estimated():
    random = np.random.default_rng(3)
    p = np.clip(random.beta(0.4, 0.4, 20_000), 0.02, 0.98)
    honest = (random.random(20_000) < p).astype(float)
    labels = np.where(random.random(20_000) < 0.3, 1 - honest, honest)
    found = contradiction(labels, p, np.arange(20_000), 0.02)
    assert found.direction == "flipped"
    assert found.share == pytest.approx(0.3, abs=0.03)


def test_sources_that_scatter_by_themselves_are_given_room():
    random = np.random.default_rng(4)
    p, units = np.full(2000, 0.5), np.arange(2000)
    cells = [np.arange(n, 2000, 20) for n in range(20)]
    level = np.clip(0.5 + random.normal(0, 0.2, 20), 0, 1)[np.arange(2000) % 20]
    labels = (random.random(2000) < level).astype(float)
    assert dispersion(cells, labels, p, units)["to cheap"] > 5
    honest = (random.random(2000) < p).astype(float)
    assert dispersion(cells, honest, p, units)["to cheap"] < 2


def test_holm_stops_at_the_first_that_is_not_small_enough():
    assert holm([0.001, 0.02, 0.02, 0.5], 0.05) == [True, False, False, False]
    assert holm([], 0.05) == []


HARD, EASY = "prove the lemma on {} with all steps", "where is my parcel from {}"
PLACES = [f"{first}{second}" for first in ("Bren", "Cas", "Dor", "Fal") for second in range(100)]


def queries_and_needs(start, count):
    random = np.random.default_rng(start)
    needs = random.random(count) < 0.4
    texts = [
        (HARD if need else EASY).format(PLACES[(start + n) % len(PLACES)])
        for n, need in enumerate(needs)
    ]
    noise = random.random(count) < 0.08
    return texts, np.where(noise, ~needs, needs).astype(float)


@pytest.fixture(scope="module")
def audited():
    """Return the audit of 200 fresh rows, a quarter of them of a hostile source."""
    known, labels = queries_and_needs(0, 300)
    recorded = examples_of(labels, ["ash"] * 300, known)
    asked, labels = queries_and_needs(150, 200)
    sources = [("ash", "bay", "cob", "elm")[n % 4] for n in range(200)]
    labels = np.where(np.array(sources) == "elm", 1 - labels, labels)
    return audit_fresh(recorded, examples_of(labels, sources, asked))


def test_rows_are_kept_or_refused_each_with_a_reason(audited):
    assert set(audited.refused.source) == {"elm"}
    assert set(audited.kept.source) == {"ash", "bay", "cob"}
    assert len(audited.kept) + len(audited.refused) == 200
    assert len(audited.reasons) == 50
    assert all("source 'elm': 50 labels" in reason for reason in audited.reasons)


def test_the_audit_tells_and_writes_what_is_held_back(audited, tmp_path):
    assert audited.lines()[0] == "label audit: 150 of 200 fresh rows kept, 50 held back"
    record = json.loads(json.dumps(audited.to_dict(), allow_nan=False))
    assert record["held_back"] == 50
    assert record["judged"][0]["standing"] == "held"
    audited.write(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / HELD_BACK).read_text("utf-8").splitlines()]
    assert {line["source"] for line in lines} == {"elm"}
    assert lines[0].keys() == {
        *("id", "source", "group", "query", "time", "split", "needs_frontier", "reason")
    }


@pytest.mark.parametrize(
    ("known", "fresh", "params", "why"),
    [
        (300, 200, AuditFreshParams(enabled=False), "audit_fresh.enabled is false"),
        (30, 200, AuditFreshParams(), "30 recorded labels"),
        (300, 10, AuditFreshParams(), "10 fresh labels are fewer than audit_fresh.fewest_labels"),
        (300, 0, AuditFreshParams(), "0 fresh labels"),
    ],
)
def test_where_nothing_can_be_tested_all_is_kept_and_said(known, fresh, params, why):
    texts, labels = queries_and_needs(0, known)
    asked, others = queries_and_needs(900, fresh)
    recorded = examples_of(labels, ["ash"] * known, texts)
    audit = audit_fresh(recorded, examples_of(others, ["ash"] * fresh, asked), params)
    assert len(audit.kept) == fresh
    assert why in audit.lines()[0]


def test_rows_without_a_label_pass():
    texts, labels = queries_and_needs(0, 300)
    recorded = examples_of(labels, ["ash"] * 300, texts)
    asked, others = queries_and_needs(150, 100)
    fresh = examples_of(others, ["ash"] * 100, asked)
    fresh.needs_frontier[::2] = np.nan
    assert len(audit_fresh(recorded, fresh).kept) == 100
