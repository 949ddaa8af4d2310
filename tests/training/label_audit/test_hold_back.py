"""The audit of fresh labels: its bounds hold, poison of one source is held back, drift is not."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blank import blank_examples
from querytier.loop.fresh_label_audit import HELD_BACK, audit_fresh
from querytier.pipeline.param_sections import AuditFreshParams
from querytier.training.label_audit.contradictions import contradiction, dispersion
from querytier.training.label_audit.expected_labels import ExpectedLabels
from querytier.training.label_audit.hold_back import HoldRules, hold_back

SOURCES = ("ash", "bay", "cob", "dew", "elm")


def examples_of(labels, sources, queries=None, groups=None):
    """Return labelled examples; each is a group of its own unless groups are given."""
    numbers = range(len(labels))
    return blank_examples(
        id=[f"id-{n}" for n in numbers],
        needs_frontier=[float(label) for label in labels],
        source=list(sources),
        query=list(queries or [f"q{n}" for n in numbers]),
        group=list(groups or [f"g{n}" for n in numbers]),
    )


def drawn(log_odds, random):
    return (random.random(len(log_odds)) < 1 / (1 + np.exp(-log_odds))).astype(float)


def findings(change, *, seed=0, count=600, sources=SOURCES, groups=None):
    """Return the findings of an audit of fresh labels, honest but for a change."""
    random = np.random.default_rng(seed)
    known, asked = random.normal(0, 1.6, 500), random.normal(0, 1.6, count)
    places = np.array([sources[n % len(sources)] for n in range(count)], dtype=object)
    labels = change(drawn(asked, random), places, asked, random)
    fresh = examples_of(labels, places, groups=groups)
    recorded = examples_of(drawn(known, random), ["ash"] * 500)
    components = np.column_stack([asked > 0, random.normal(size=count)]).astype(float)
    expected = ExpectedLabels(known, asked, components, fresh.needs_frontier)
    return hold_back(expected, recorded, fresh, HoldRules())


def verdicts(found):
    return {(one.cell.kind, one.cell.name): one.verdict for one in found}


def flipped(labels, places, *_):
    return np.where(places == "elm", 1 - labels, labels)


def shifted(_labels, _places, asked, random):
    return drawn(-asked, random)


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
    def both(labels, places, asked, random):
        return flipped(shifted(labels, places, asked, random), places, asked, random)

    # If the difficulty is reversed for all, elm's flipped labels look like the recorded ones, so
    # nothing contradicts them. Labels that are all set to cheap contradict both.
    assert ("source", "elm") not in verdicts(findings(both))

    def all_cheap(labels, places, asked, random):
        labels = shifted(labels, places, asked, random)
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
    asked = random.normal(0, 1.6, 600)
    places = np.array([SOURCES[n % 5] for n in range(600)], dtype=object)
    labels = flipped(drawn(asked, random), places, asked, random)
    fresh = examples_of(labels, places)
    expected = ExpectedLabels(asked, asked, np.zeros((600, 1)), fresh.needs_frontier)
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
    """Return the audit of 120 fresh rows, a quarter of them from a hostile source."""
    known, labels = queries_and_needs(0, 220)
    recorded = examples_of(labels, ["ash"] * 220, known)
    queries, labels = queries_and_needs(150, 120)
    sources = [("ash", "bay", "cob", "elm")[n % 4] for n in range(120)]
    labels = np.where(np.array(sources) == "elm", 1 - labels, labels)
    return audit_fresh(recorded, examples_of(labels, sources, queries))


def test_every_row_held_back_has_a_reason(audited):
    assert set(audited.held_back.source) == {"elm"}
    assert set(audited.kept.source) == {"ash", "bay", "cob"}
    assert len(audited.kept) + len(audited.held_back) == 120
    assert len(audited.reasons) == 30
    assert all("source 'elm': 30 labels" in reason for reason in audited.reasons)


def test_the_rows_held_back_are_reported_and_written(audited, tmp_path):
    assert audited.lines()[0] == "label audit: 90 of 120 fresh rows kept, 30 held back"
    record = json.loads(json.dumps(audited.to_dict(), allow_nan=False))
    assert record["held_back"] == 30
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
def test_if_nothing_can_be_tested_all_rows_are_kept(known, fresh, params, why):
    texts, labels = queries_and_needs(0, known)
    queries, others = queries_and_needs(900, fresh)
    recorded = examples_of(labels, ["ash"] * known, texts)
    audit = audit_fresh(recorded, examples_of(others, ["ash"] * fresh, queries), params)
    assert len(audit.kept) == fresh
    assert why in audit.lines()[0]


def test_rows_without_a_label_are_kept():
    texts, labels = queries_and_needs(0, 220)
    recorded = examples_of(labels, ["ash"] * 220, texts)
    queries, others = queries_and_needs(150, 120)
    fresh = examples_of(others, ["ash"] * 120, queries)
    fresh.needs_frontier[::2] = np.nan
    assert len(audit_fresh(recorded, fresh).kept) == 120
