"""Facts about the seed log that its data card states."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from querytier.eval.metrics import auroc
from querytier.eval.rankings import keyword_scores, length_scores

SEED = Path(__file__).parents[2] / "data" / "seed" / "seed.jsonl"
DEMO_QUERIES = [
    "What are your store hours?",
    "Analyze the tradeoffs of switching our checkout to a subscription model",
]

pytestmark = pytest.mark.checkout


@pytest.fixture(scope="module")
def rows():
    return [json.loads(line) for line in SEED.read_text("utf-8").splitlines()]


def words(text):
    return set(re.findall(r"\w+", text.lower()))


def test_it_has_at_least_800_rows_with_distinct_ids_and_queries(rows):
    assert len(rows) >= 800
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["query"] for row in rows}) == len(rows)


def test_every_row_has_label_source_domain_and_group(rows):
    assert {row["needs_frontier"] for row in rows} == {0, 0.25, 0.5, 0.75, 1}
    assert {row["label_source"] for row in rows} == {"rubric"}
    domains = Counter(row["domain"] for row in rows)
    assert set(domains) == {"support", "assistant", "rewriting", "data", "code", "planning"}
    assert min(domains.values()) >= 100
    assert all(row["group"].startswith(f"{row['domain']}/") for row in rows)


def test_a_tenth_is_in_at_least_eight_other_languages(rows):
    others = Counter(row["language"] for row in rows if row["language"] != "en")
    assert sum(others.values()) >= 0.1 * len(rows)
    assert len([language for language, count in others.items() if count >= 8]) >= 8


def test_there_are_long_inputs_and_inputs_in_harness_text(rows):
    assert sum(len(row["query"]) > 1500 for row in rows) >= 30
    assert sum(bool(re.match(r"\s*<[a-z|]", row["query"])) for row in rows) >= 40


def test_neither_length_nor_keywords_solve_it(rows):
    queries = [row["query"] for row in rows]
    labels = np.array([row["needs_frontier"] for row in rows], dtype=float)
    for scores in (length_scores(queries), keyword_scores(queries)):
        assert 0.30 < auroc(scores, labels, np.ones((1, len(rows))))[0] < 0.70


def test_the_demo_queries_and_near_duplicates_are_not_in_it(rows):
    for demo in DEMO_QUERIES:
        wanted = words(demo)
        for row in rows:
            found = words(row["query"])
            assert len(wanted & found) / len(wanted | found) < 0.5, row["query"]
    text = "\n".join(row["query"].lower() for row in rows)
    assert "store hours" not in text
    assert not re.search(r"subscription model|abonnement model", text)
