"""Batch decisions, and the ranking that follows from them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blank import blank_examples
from querytier.classifier.threshold import goes_to_frontier, tier_of
from querytier.eval.report.mistakes import Neighbourhood, mistakes_record
from querytier.eval.report.plots import score_plot
from querytier.pipeline.scoring import decide_all, load_for_evaluation, ranking_of, score_all
from querytier.serve import Decision

NUMBERS = st.floats(-1, 1)
ARTIFACT = Path(__file__).parents[1] / "fixtures" / "artifacts" / "format-2"


def decision(tier, score, threshold, p_frontier=None):
    reason = "classifier" if score is not None else "fallback:error"
    return Decision(tier, p_frontier, score, score, threshold, reason, 1.0, "v", 0.1)


@given(NUMBERS, st.lists(NUMBERS), st.lists(st.sampled_from(["cheap", "frontier"]), min_size=1))
def test_a_ranking_has_the_tier_of_each_decision(threshold, scores, fallbacks):
    """The report gave a fallback the score 0 or 1, the gate -inf or inf. The gate was right.

    Gains and their threshold may be below 0, where a score of 0 for a fallback to the cheap tier
    counted as a query sent to the frontier tier.
    """
    decisions = [
        *(decision(tier_of(score, threshold), score, threshold, 0.5) for score in scores),
        *(decision(tier, None, threshold) for tier in fallbacks),
    ]
    ranking = ranking_of("classifier", decisions)
    frontier = [one.tier == "frontier" for one in decisions]
    assert goes_to_frontier(ranking.scores, threshold).tolist() == frontier
    assert ranking.probabilities.min() >= 0
    assert ranking.probabilities.max() <= 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("known", [[], [-0.2, 0.4]])
def test_reports_accept_fallbacks_without_a_score(known):
    decisions = [decision(tier_of(score, -0.3), score, -0.3, 0.5) for score in known]
    decisions += [decision("cheap", None, -0.3), decision("frontier", None, -0.3)]
    ranking = ranking_of("classifier", decisions)
    examples = blank_examples(
        needs_frontier=[0.0] * len(known) + [1.0, 0.0], group=list("abcd")[: len(decisions)]
    )
    frontier = np.array([one.tier == "frontier" for one in decisions])
    vectors = np.ones((len(decisions), 2), dtype=np.float32)
    near = Neighbourhood(examples, vectors, vectors)
    record = mistakes_record(examples, ranking, frontier, near, 5)
    assert record["sent_cheap"][0]["decision_score"] is None
    json.dumps(record, allow_nan=False)
    scored = np.isfinite(ranking.scores)
    assert "<svg" in score_plot(ranking.scores[scored], examples.needs_frontier[scored], -0.3)


def test_scores_of_many_queries_are_those_of_their_decisions():
    router = load_for_evaluation(ARTIFACT)
    queries = [f"Prove that {number} is a prime number" for number in range(30)]
    scores, decisions = score_all(router, queries), decide_all(router, queries)
    assert scores.p_frontier.tolist() == [one.p_frontier for one in decisions]
    assert scores.decision_scores.tolist() == [one.decision_score for one in decisions]
    assert scores.to_frontier.tolist() == [one.tier == "frontier" for one in decisions]
