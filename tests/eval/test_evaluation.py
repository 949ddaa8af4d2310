"""Known facts about real outcomes, reproduced; skipped if the outcome files are missing."""

from functools import cache

import numpy as np
import pytest

from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import read_unsplit
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.eval.curves import gain_curve
from querytier.eval.intervals import Resampling
from querytier.eval.rankings import keyword_scores, length_scores, oracle

MAP = {
    "query": "query",
    "id": "id",
    "group": "meta.group",
    "cheap_score": "weak_score",
    "frontier_score": "strong_score",
}
# rows, ok_threshold, shares: cheap ok, needs frontier, both fail, cheap wins
PREVALENCES = {
    "routellm_mmlu": (14042, 0.5, 0.681, 0.178, 0.141, 0.053),
    "routellm_gsm8k": (1319, 0.5, 0.638, 0.290, 0.071, 0.072),
    "routellm_mtbench": (80, 0.8, 0.762, 0.162, 0.075, 0.012),
    "llmrouter_mix": (5989, 0.5, 0.369, 0.300, 0.331, 0.041),
    "llmdrift": (1550, 0.5, 0.595, 0.216, 0.190, 0.370),
}


@pytest.fixture(scope="module")
def read(outcomes, tmp_path_factory):
    """Return a function that reads a set once, at the threshold of `PREVALENCES`."""
    quarantine = tmp_path_factory.mktemp("read") / "quarantine.jsonl"

    @cache
    def read_set(name):
        source = LogSource(outcomes / f"{name}.jsonl.gz", paths=MAP)
        reading = Reading(LabelRules(ok_threshold=PREVALENCES[name][1]), 0.01)
        return read_unsplit([source], reading, quarantine)

    return read_set


@pytest.mark.parametrize("name", PREVALENCES)
def test_labels_have_their_known_shares(read, name):
    count, _, *expected = PREVALENCES[name]
    _, summary = read(name)
    assert summary.usable == count
    shares = [summary.shares[key] for key in ("cheap_ok", "needs_frontier", "both_fail")]
    assert [*shares, summary.shares["cheap_wins"]] == pytest.approx(expected, abs=0.0006)


# RouteLLM's three sets without the rows it calls contaminated: CPT(50%), CPT(80%), APGR.
CURVES = [
    ("routellm_mmlu", "length", 0.359, 0.691, 0.586),
    ("routellm_mmlu", "keyword", 0.357, 0.696, 0.591),
    ("routellm_mmlu", "oracle", 0.063, 0.100, 1.285),
    ("routellm_gsm8k", "length", 0.367, 0.670, 0.598),
    ("routellm_gsm8k", "oracle", 0.111, 0.177, 1.121),
]


@pytest.mark.parametrize("known", CURVES)
def test_the_curve_reproduces_known_values(read, known):
    name, ranking, *expected = known
    examples, _ = read(name)
    scores = {
        "length": length_scores(examples.query),
        "keyword": keyword_scores(examples.query),
        "oracle": oracle(examples).scores,
    }[ranking]
    gain = examples.frontier_score - examples.cheap_score
    curve = gain_curve(scores, gain, np.ones((1, len(examples))))
    found = [curve.cpt(0.5)[0], curve.cpt(0.8)[0], curve.apgr()[0]]
    assert found == pytest.approx(expected, abs=0.015)


def test_the_drifted_pair_has_no_gap_to_recover(read):
    """In June 2023 the cheap model did better on average: a negative gap."""
    examples, _ = read("llmdrift")
    gain = examples.frontier_score - examples.cheap_score
    resampling = Resampling(examples.group.tolist(), 200, 0)
    gap = resampling.estimate(lambda w: w @ gain / w.sum(axis=1), "")
    assert gap.high < 0
