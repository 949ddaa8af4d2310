"""The audit of fresh labels: the rows kept, the rows held back, and the report."""

import json

import numpy as np
import pytest

from blank import blank_examples
from querytier.loop.fresh_label_audit import HELD_BACK, audit_fresh
from querytier.pipeline.param_sections import AuditFreshParams

HARD, EASY = "prove the lemma on {} with all steps", "where is my parcel from {}"
PLACES = [f"{first}{second}" for first in ("Bren", "Cas", "Dor", "Fal") for second in range(100)]


def examples_of(labels, sources, queries):
    """Return labelled examples, each a group of its own."""
    names = [f"{query[:1]}{n}" for n, query in enumerate(queries)]
    return blank_examples(
        id=names, group=names, needs_frontier=labels, source=sources, query=queries
    )


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
