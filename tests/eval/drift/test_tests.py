"""Drift between two windows: laws of the tests, and planted shifts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from querytier.eval.drift.findings import DriftRule
from querytier.eval.drift.tests import find_drift
from querytier.eval.drift.windows import Observed
from querytier.pipeline.param_sections import DriftParams

RULE = DriftRule(permutations=1199, fewest_groups=50)


def texts(values):
    return np.array(list(values), dtype=object)


def window(seed, rows=200, *, per_group=1, name="g", label_source="explicit"):
    """Return traffic in which each group is one draw and its rows are copies."""
    random = np.random.default_rng(seed)
    groups = rows // per_group
    p_frontier = random.beta(2, 3, groups)
    one = Observed(
        group=texts(f"{name}{seed}-{n}" for n in range(groups)),
        decision_score=p_frontier,
        p_frontier=p_frontier,
        to_frontier=p_frontier > 0.6,
        embedding=random.standard_normal((groups, 8)).astype(np.float32),
        surface=random.poisson(3, (groups, 4)).astype(np.float32),
        surface_names=("words", "digits", "commas", "colons"),
        cut=random.random(groups) < 0.1,
        unknown_share=random.random(groups) * 0.02,
        script=texts(random.choice(["Latin", "Cyrillic"], groups)),
        language=texts([""] * groups),
        domain=texts(random.choice(["chat", "code", "law"], groups)),
        source=texts(random.choice(["web", "app"], groups)),
        label_source=texts([label_source] * groups),
        needs_frontier=(random.random(groups) < p_frontier).astype(float),
    )
    return one.where(np.repeat(np.arange(groups), per_group))


def found(findings, name):
    return next(one for one in findings.findings if one.name == name)


def smallest(reference, recent, seed=0):
    rule = replace(RULE, permutations=199, seed=seed)
    return min(one.adjusted_p_value for one in find_drift(reference, recent, rule).findings)


def test_the_same_window_twice_has_not_drifted():
    same = window(1)
    findings = find_drift(same, same, RULE)
    assert findings.verdict == "no drift found"
    assert findings.headline() == "no drift found (false alarm rate 1%)"
    for one in findings.findings:
        assert one.p_value == 1
        assert one.size < 0.05


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_matter(seed):
    first, second = window(1, 100), window(2, 100)
    random = np.random.default_rng(seed)
    shuffled = (one.where(random.permutation(len(one))) for one in (first, second))
    rule = replace(RULE, permutations=99)
    assert find_drift(first, second, rule).to_dict() == find_drift(*shuffled, rule).to_dict()


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        (lambda w: {"decision_score": w.decision_score + 0.15}, "decision score"),
        (lambda w: {"embedding": w.embedding + 0.5}, "embeddings"),
        (lambda w: {"surface": w.surface + np.array([0, 0, 3, 0])}, "surface features"),
        (lambda w: {"cut": w.cut | (w.decision_score > 0.5)}, "queries cut"),
        (lambda w: {"unknown_share": w.unknown_share + 0.03}, "unknown tokens"),
        (lambda w: {"script": texts(["Han"] * len(w))}, "script mix"),
        (lambda w: {"domain": texts(["code"] * len(w))}, "domain mix"),
        (lambda w: {"needs_frontier": np.zeros(len(w))}, "needs_frontier rate"),
        (lambda w: {"p_frontier": np.clip(w.p_frontier + 0.3, 0, 1)}, "calibration"),
        (lambda w: {"label_source": texts(["feedback"] * len(w))}, "label rule mix"),
    ],
)
def test_a_planted_shift_is_found_and_named(changed, name):
    reference, recent = window(1), window(2)
    findings = find_drift(reference, replace(recent, **changed(recent)), RULE)
    assert name in {one.name for one in findings.drifted}
    assert name in findings.headline()
    # Flat labels are badly calibrated, too.
    expected = {name} | ({"calibration"} if name == "needs_frontier rate" else set())
    assert {one.name for one in findings.drifted} <= expected


def test_the_source_whose_labels_moved_is_named():
    reference, recent = window(1, 400), window(2, 400)
    of_app = recent.source == "app"
    labels = np.where(of_app, 1.0, recent.needs_frontier)
    findings = find_drift(reference, replace(recent, needs_frontier=labels), RULE)
    assert found(findings, "needs_frontier rate").parts[0].name == "source app"


def test_shifted_inputs_do_not_look_like_worse_calibration():
    """Both windows are calibrated; only their probabilities differ."""
    reference, recent = window(1, 600), window(2, 600)
    random = np.random.default_rng(3)
    p_frontier = random.beta(4, 3, 600)
    labels = (random.random(600) < p_frontier).astype(float)
    shifted = replace(
        recent, decision_score=p_frontier, p_frontier=p_frontier, needs_frontier=labels
    )
    findings = find_drift(reference, shifted, RULE)
    assert found(findings, "decision score").drifted
    assert not found(findings, "calibration").drifted


def test_a_significant_but_small_shift_does_not_alarm():
    reference, recent = window(1), window(2)
    recent = replace(recent, unknown_share=recent.unknown_share + 0.03)
    rule = replace(RULE, least_unknown=0.05)
    one = found(find_drift(reference, recent, rule), "unknown tokens")
    assert one.adjusted_p_value <= RULE.false_alarm_rate
    assert not one.drifted


def test_too_few_groups_are_not_compared_whatever_the_rows():
    findings = find_drift(window(1), window(2, 400, per_group=10), RULE)
    assert findings.verdict == "too few rows"
    assert "50 groups" in findings.headline()


def test_unlabelled_windows_are_compared_by_their_inputs():
    recent = window(2)
    unlabelled = replace(recent, needs_frontier=np.full(len(recent), np.nan))
    findings = find_drift(window(1), unlabelled, RULE)
    assert findings.verdict == "no drift found"
    assert {one.about for one in findings.findings} == {"inputs"}
    assert "with a label" in findings.untested["calibration"]


def test_copies_within_a_group_are_no_evidence():
    """Conversations of ten rows alarm as rarely as single rows do, unless groups are ignored."""
    honest = alone = 0
    for seed in range(10):
        first, second = (window(1000 * n + seed, 600, per_group=10) for n in (1, 2))
        honest += smallest(first, second, seed) <= 0.05
        alone += smallest(*(ungrouped(one) for one in (first, second)), seed) <= 0.05
    assert honest <= 3
    assert alone >= 9


def ungrouped(rows):
    return replace(rows, group=texts(f"{name}/{n}" for n, name in enumerate(rows.group)))


@pytest.mark.slow
@pytest.mark.parametrize("per_group", [1, 5])
def test_false_alarms_keep_the_stated_rate(per_group):
    """At a rate of 10% the number of alarms in 400 comparisons is within chance."""
    alarms = sum(
        smallest(
            window(n, 60 * per_group, per_group=per_group, name="a"),
            window(10_000 + n, 60 * per_group, per_group=per_group, name="b"),
            n,
        )
        <= 0.1
        for n in range(400)
    )
    assert alarms <= 58, "above the 99.9% quantile of binomial(400, 0.1)"


def test_a_rate_too_small_for_the_permutations_is_refused():
    with pytest.raises(ValidationError, match="set at least 12000"):
        DriftParams(false_alarm_rate=0.001)
