"""Tests of labels keep their level; poison of one source or group is held back, drift is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blank import blank_examples
from querytier.training.label_audit.contradictions import contradiction, dispersion
from querytier.training.label_audit.expected_labels import ExpectedLabels
from querytier.training.label_audit.hold_back import HoldRules, hold_back

SOURCES = ("ash", "bay", "cob", "dew", "elm")


def examples_of(labels, sources, groups=None):
    """Return labelled examples; each is in its own group unless groups are given."""
    numbers = range(len(labels))
    return blank_examples(
        id=[f"id-{n}" for n in numbers],
        needs_frontier=labels,
        source=list(sources),
        query=[f"q{n}" for n in numbers],
        group=list(groups or [f"g{n}" for n in numbers]),
    )


def drawn(log_odds, random):
    return (random.random(len(log_odds)) < 1 / (1 + np.exp(-log_odds))).astype(float)


def findings(change, *, seed=0, count=600, sources=SOURCES, groups=None):
    """Return the findings of an audit of fresh labels, honest but for a change."""
    random = np.random.default_rng(seed)
    known, log_odds = random.normal(0, 1.6, 500), random.normal(0, 1.6, count)
    places = np.array([sources[n % len(sources)] for n in range(count)], dtype=object)
    labels = change(drawn(log_odds, random), places, log_odds, random)
    fresh = examples_of(labels, places, groups)
    recorded = examples_of(drawn(known, random), ["ash"] * 500)
    components = np.column_stack([log_odds > 0, random.normal(size=count)]).astype(float)
    expected = ExpectedLabels(known, log_odds, components, fresh.needs_frontier)
    return hold_back(expected, recorded, fresh, HoldRules())


def verdicts(found):
    return {(one.cell.kind, one.cell.name): one.verdict for one in found}


def flipped(labels, places, *_):
    return np.where(places == "elm", 1 - labels, labels)


def shifted(_labels, _places, log_odds, random):
    return drawn(-log_odds, random)


@pytest.mark.parametrize("seed", range(5))
def test_honest_labels_are_kept(seed):
    assert findings(lambda labels, *_: labels, seed=seed) == []


@pytest.mark.parametrize("seed", range(5))
def test_only_the_source_with_flipped_labels_is_held_back(seed):
    assert verdicts(findings(flipped, seed=seed)) == {("source", "elm"): "held"}


@pytest.mark.parametrize("seed", range(5))
def test_a_shift_in_all_sources_is_drift_and_kept(seed):
    found = findings(shifted, seed=seed)
    assert verdicts(found) == {("source", name): "drift" for name in SOURCES}


def test_poison_is_found_during_drift():
    def both(labels, places, log_odds, random):
        return flipped(shifted(labels, places, log_odds, random), places, log_odds, random)

    # If the difficulty is reversed for all, elm's flipped labels look like the recorded ones, so
    # nothing contradicts them. Labels that are all set to cheap contradict both.
    assert ("source", "elm") not in verdicts(findings(both))

    def all_cheap(labels, places, log_odds, random):
        labels = shifted(labels, places, log_odds, random)
        return np.where(places == "elm", 0.0, labels)

    found = verdicts(findings(all_cheap))
    assert found.pop(("source", "elm")) == "held"
    assert set(found.values()) == {"drift"}


def test_a_flood_does_not_make_the_others_look_wrong():
    flood = ("ash", *["elm"] * 9)
    assert verdicts(findings(flipped, sources=flood)) == {("source", "elm"): "held"}


def test_a_single_fresh_source_cannot_be_told_from_drift():
    found = findings(flipped, sources=("elm",))
    assert verdicts(found) == {("source", "elm"): "cannot tell"}


def test_two_sources_that_contradict_each_other_cannot_be_told_apart():
    def two_ways(_labels, places, *_):
        return np.where(places == "elm", 0.0, 1.0)

    found = findings(two_ways, sources=("ash", "elm"))
    assert verdicts(found) == {("source", "ash"): "cannot tell", ("source", "elm"): "cannot tell"}


def test_a_poisoned_group_is_held_back_without_its_source():
    """The three groups of elm have 40 rows each, so they can be tested."""
    groups = [f"elm-{n % 3}" if n % 5 == 4 else f"g{n}" for n in range(600)]

    def one_group(labels, *_):
        return np.where(np.array(groups) == "elm-1", 1 - labels, labels)

    assert verdicts(findings(one_group, groups=groups)) == {("group", "elm-1"): "held"}


def test_trusted_sources_are_never_held_back():
    random = np.random.default_rng(0)
    log_odds = random.normal(0, 1.6, 600)
    places = np.array([SOURCES[n % 5] for n in range(600)], dtype=object)
    labels = flipped(drawn(log_odds, random), places, log_odds, random)
    fresh = examples_of(labels, places)
    expected = ExpectedLabels(log_odds, log_odds, np.zeros((600, 1)), fresh.needs_frontier)
    found = hold_back(expected, fresh, fresh, HoldRules(trusted=("elm",)))
    assert {one.verdict for one in found} <= {"drift", "cannot tell"}


def test_honest_labels_contradict_at_most_at_the_level():
    random = np.random.default_rng(1)
    p = random.uniform(0.02, 0.98, 80)
    small = [
        contradiction((random.random(80) < p).astype(float), p, np.arange(80), 0.0).p_value <= 0.05
        for _ in range(600)
    ]
    assert sum(small) <= 42  # P(Binomial(600, 0.05) > 42) is 1%; the bound is far below


def test_copies_of_a_label_count_once():
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
def test_a_tolerated_share_lowers_no_p_value(tolerated, seed):
    random = np.random.default_rng(seed)
    p = random.uniform(0.05, 0.95, 40)
    labels, units = (random.random(40) < 1 - p).astype(float), np.arange(40)
    strict = contradiction(labels, p, units, 0.0).p_value
    assert contradiction(labels, p, units, tolerated / 2).p_value >= strict * (1 - 1e-6)


def test_the_share_of_changed_labels_is_estimated():
    random = np.random.default_rng(3)
    p = np.clip(random.beta(0.4, 0.4, 20_000), 0.02, 0.98)
    honest = (random.random(20_000) < p).astype(float)
    labels = np.where(random.random(20_000) < 0.3, 1 - honest, honest)
    found = contradiction(labels, p, np.arange(20_000), 0.02)
    assert found.direction == "flipped"
    assert found.share == pytest.approx(0.3, abs=0.03)


def test_sources_that_differ_by_themselves_raise_the_dispersion():
    random = np.random.default_rng(4)
    p, units = np.full(2000, 0.5), np.arange(2000)
    cells = [np.arange(n, 2000, 20) for n in range(20)]
    level = np.clip(0.5 + random.normal(0, 0.2, 20), 0, 1)[np.arange(2000) % 20]
    labels = (random.random(2000) < level).astype(float)
    assert dispersion(cells, labels, p, units)["to cheap"] > 5
    honest = (random.random(2000) < p).astype(float)
    assert dispersion(cells, honest, p, units)["to cheap"] < 2
