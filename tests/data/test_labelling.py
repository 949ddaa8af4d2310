"""Which rule labels a record, and how records without a label are kept."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.column_map import ColumnMap
from querytier.data.example import example_from
from querytier.data.examples import Examples
from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import Splitting, prepare
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import (
    AUTOMATIC_RULES,
    RULE_BIASES,
    RULE_FIELDS,
    LabelRules,
    Outcomes,
    label_of,
    scores_of,
)
from querytier.data.model_pair import ModelPair
from querytier.data.values import BadRecordError
from querytier.errors import UsageError

SCORE = st.floats(-10, 10)
GAP = LabelRules(("quality_gap",), margin=2.0)


def labelled(values, rules=None, pair=None):
    return example_from({"query": "q", **values}, rules or LabelRules(), "id", pair)


@pytest.mark.parametrize(
    ("values", "label", "rule"),
    [
        ({"needs_frontier": 0.3, "cheap_score": 0, "frontier_score": 1}, 0.3, "explicit"),
        ({"cheap_grades": [1, 0], "frontier_grades": "[1]"}, 0.5, "graded_samples"),
        ({"cheap_score": "0", "frontier_score": True}, 1.0, "cheap_fails_frontier_succeeds"),
        ({"winner": "Tie (bothbad)"}, 0.0, "preference"),
        ({"tier": "cheap", "feedback": "Thumbs-down"}, 2 / 3, "feedback"),
        ({"tier": "cheap", "feedback": False}, 2 / 3, "feedback"),
        ({"tier": "cheap", "outcome": 0.5}, 0.0, "feedback"),
        ({"tier": "cheap", "outcome": 0.4}, 2 / 3, "feedback"),
    ],
)
def test_the_first_rule_that_has_all_it_needs_makes_the_label(values, label, rule):
    example = labelled(values)
    assert example.needs_frontier == pytest.approx(label)
    assert (example.label_source, example.unlabelled) == (rule, "")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"tier": "frontier", "feedback": "thumbs_up"}, "only the frontier answer known"),
        ({"tier": "cheap"}, "outcome missing"),
        ({"feedback": "retry"}, "tier missing"),
    ],
)
def test_a_record_that_no_rule_can_label_is_kept_with_the_reason(values, reason):
    example = labelled(values, LabelRules(("feedback",)))
    assert math.isnan(example.needs_frontier)
    assert (example.label_source, example.unlabelled) == ("", reason)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tier": "gold"}, "tier is not one of cheap, frontier or .*--cheap and --fr.*: gold"),
        ({"winner": "model_c"}, "winner is not one of .* both_bad or a model of the .*: model_c"),
        ({"feedback": "meh"}, "feedback is not one of thumbs_up, .*: meh"),
        ({"feedback": 4}, r"feedback is not one of .*map a rating as outcome.*: 4"),
        ({"propensity": 0}, r"propensity outside \(0, 1\]: 0"),
        ({"propensity": 1.5}, r"propensity outside \(0, 1\]: 1.5"),
        ({"cheap_grades": "[1"}, "cheap_grades is not a finite number"),
        ({"frontier_grades": [1, "NaN"]}, "frontier_grades is not a finite number"),
    ],
)
def test_an_impossible_value_is_a_bad_record(values, message):
    with pytest.raises(BadRecordError, match=message):
        labelled(values)


def test_the_pair_of_models_gives_tiers_and_winners():
    pair = ModelPair("small-1", "large-2")
    example = labelled({"tier": "vendor/large-2", "winner": "small-1", "cost": 3}, pair=pair)
    assert (example.tier, example.needs_frontier) == ("frontier", 0.0)
    assert (example.cheap_score, example.frontier_score) == (1.0, 0.0)
    assert math.isnan(example.cheap_cost)
    assert example.frontier_cost == 3


def test_a_missing_propensity_is_never_assumed():
    example = labelled({"tier": "cheap", "outcome": 1, "policy": "v7"})
    assert math.isnan(example.propensity)
    assert (example.tier, example.outcome, example.policy) == ("cheap", 1.0, "v7")
    assert labelled({"tier": "cheap", "propensity": 0.25}).propensity == 0.25


@given(st.sampled_from(["frontier", "cheap", "tie", "both_bad"]), SCORE)
def test_the_scores_of_a_vote_agree_with_the_vote(winner, ok_threshold):
    cheap, frontier, ok = scores_of(Outcomes(winner=winner), ok_threshold)
    assert (frontier > cheap) == (winner == "frontier")
    assert (cheap > frontier) == (winner == "cheap")
    assert (cheap < ok and frontier < ok) == (winner == "both_bad")
    by_scores = Outcomes(cheap_score=cheap, frontier_score=frontier)
    label, _ = label_of(by_scores, LabelRules(("cheap_fails_frontier_succeeds",)), ok)
    assert label == label_of(Outcomes(winner=winner), LabelRules(("preference",)), ok)[0]


@given(SCORE, SCORE)
def test_the_gap_is_used_only_on_request(cheap, frontier):
    outcomes = Outcomes(cheap_score=cheap, frontier_score=frontier)
    label, rule = label_of(outcomes, GAP, 0.5)
    assert (rule, label > 0) == ("quality_gap", frontier > cheap)
    assert label_of(outcomes, LabelRules(), 0.5)[1] == "cheap_fails_frontier_succeeds"


def test_each_source_has_its_own_threshold():
    rules = LabelRules(ok_threshold=0.5, ok_thresholds={"bench": 0.8})
    scores = {"cheap_score": 0.6, "frontier_score": 0.9}
    assert labelled(scores, rules).needs_frontier == 0.0
    example = labelled({**scores, "source": "bench"}, rules)
    assert (example.needs_frontier, example.ok_threshold) == (1.0, 0.8)


def test_every_rule_has_fields_and_a_bias():
    assert list(RULE_FIELDS) == list(RULE_BIASES)
    assert set(RULE_FIELDS) - set(AUTOMATIC_RULES) == {"quality_gap"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rules": ("guess",)}, "no label rule 'guess'; choose from explicit"),
        ({"rules": ("quality_gap",)}, "has the margin None; set --margin above 0"),
        ({"rules": ("quality_gap",), "margin": 0}, "has the margin 0; set --margin above 0"),
    ],
)
def test_wrong_rules_are_a_usage_error(arguments, message):
    with pytest.raises(UsageError, match=message):
        LabelRules(**arguments)


def test_rules_whose_columns_are_missing_are_left_out():
    columns = ColumnMap({"query": "q", "tier": "t", "outcome": "o", "winner": "w"})
    assert LabelRules().served_by(columns).rules == ("preference", "feedback")
    with pytest.raises(UsageError, match=r"add needs_frontier=COLUMN$"):
        LabelRules(("explicit",)).served_by(columns)


def one_sided_rows(count):
    """Yield a router's own log: which tier answered, what its reader did, the propensity."""
    for n in range(count):
        tier = "frontier" if n % 3 == 0 else "cheap"
        said = ("escalation", "thumbs_up", "thumbs_down")[n % 7 % 3]
        row = {"query": f"question {n}", "tier": tier, "feedback": said, "policy": f"v{n % 2}"}
        yield row if n % 5 == 0 else {**row, "propensity": 0.5}


def test_one_sided_logs_train_by_the_cheap_answers(tmp_path):
    path = tmp_path / "router.jsonl"
    path.write_text("\n".join(map(json.dumps, one_sided_rows(600))))
    splitting = Splitting({"calibration": 0.15, "certification": 0.15, "test": 0.2})
    summary = prepare([LogSource(path)], tmp_path, Reading(), splitting)
    assert (summary.rows, summary.usable) == (600, 400)
    assert summary.unlabelled == {"only the frontier answer known": 200}
    assert summary.label_sources == {"feedback": 400}
    assert summary.one_sided.tiers == {"frontier": 200, "cheap": 400}
    assert (summary.one_sided.outcomes, summary.one_sided.propensities) == (600, 480)
    assert summary.one_sided.policies == {"v0": 300, "v1": 300}
    assert not summary.quarantined
    kept = Examples.read_parquet(tmp_path / "data" / "unlabelled.parquet")
    assert len(kept) == 200
    assert set(kept.split) == {"train", "test"}
    assert np.isnan(kept.needs_frontier).all()
    assert DataSummary.read(tmp_path / "data" / "summary.json") == summary
