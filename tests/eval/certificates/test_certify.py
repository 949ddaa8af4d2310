"""The claims of a certificate, tested on routers with known risk; refusals; the cross-check."""

import json
import math
import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.risk_control import BinaryClassificationController, BinaryRisk
from scipy.stats import binomtest

from querytier.data.example import example_from
from querytier.data.examples import Examples
from querytier.data.labelling import LabelRules
from querytier.eval.certificates.certify import certify
from querytier.eval.certificates.losses import Losses
from querytier.eval.certificates.threshold_tests import (
    ThresholdTests,
    candidate_thresholds,
    sequence_of_thresholds,
)

ROUTERS = 500
DELTA = 0.1


def losses(scores, values, groups="g", slices=None, risk="needs_frontier"):
    """Losses with a group each; `groups` is a prefix that keeps two sets apart."""
    names = np.char.add(groups, np.arange(len(scores)).astype(str)).astype(object)
    parts = np.full(len(scores), "", dtype=object) if slices is None else slices
    return Losses(risk, scores, values.astype(float), names, parts)


class Router:
    """Scores from 0 to 1; at each score, the share base + rise * score ** power fails."""

    def __init__(self, base, rise, power, spread=None):
        self.base, self.rise, self.power, self.spread = base, rise, power, spread

    @classmethod
    def at_random(cls, random):
        """Return a router whose risk is at most 0.1 at some, all or no thresholds."""
        return cls(random.uniform(0, 0.08), random.uniform(0.1, 0.4), random.uniform(0.5, 3))

    def risk(self, threshold):
        """Return the risk of the queries that a threshold sends cheap."""
        share = np.clip(threshold, 1e-9, 1)
        return self.base + self.rise * share**self.power / (self.power + 1)

    def draw(self, random, count, groups):
        """Return losses, 0 or 1 unless there is a spread."""
        scores = random.random(count)
        means = self.base + self.rise * scores**self.power
        if self.spread is None:
            return losses(scores, random.random(count) < means, groups)
        values = random.beta(means * self.spread, (1 - means) * self.spread)
        return losses(scores, values, groups, risk="quality_lost")


def certified(router, random, count, alpha, **others):
    calibration, certification = (router.draw(random, count, name) for name in "ab")
    return certify(calibration, certification, alpha=alpha, delta=DELTA, seed=1, **others)


def broken(router, certification, alpha):
    return certification.granted and router.risk(certification.threshold) > alpha


def naive_threshold(calibration, certification, alpha):
    """Return the usual threshold: the most queries sent cheap at a measured risk up to alpha."""
    thresholds = candidate_thresholds(calibration.decision_scores)
    failures, counts = certification.totals(thresholds)
    met = thresholds[failures <= alpha * np.maximum(counts, 1)]
    return met[-1] if len(met) else -math.inf


def within(hits, share=DELTA, trials=ROUTERS):
    """Whether a one-sided binomial test does not reject that the share is at most this."""
    return binomtest(int(hits), trials, share, alternative="greater").pvalue > 0.05


def test_promises_are_kept_and_the_usual_rule_breaks_more():
    random = np.random.default_rng(0)
    ours = naive = granted = 0
    for _ in range(ROUTERS):
        router = Router.at_random(random)
        calibration, rows = router.draw(random, 600, "a"), router.draw(random, 600, "b")
        found = certify(calibration, rows, alpha=0.1, delta=DELTA, seed=1)
        granted += found.granted
        ours += broken(router, found, 0.1)
        naive += router.risk(naive_threshold(calibration, rows, 0.1)) > 0.1
    assert granted > ROUTERS / 2
    assert within(ours)
    assert not within(naive)


def test_a_risk_just_above_alpha_is_certified_in_delta_of_the_runs():
    """The worst case: every certificate breaks its promise."""
    random, router = np.random.default_rng(1), Router(0.1001, 0.0, 1.0)
    hits = sum(certified(router, random, 400, 0.1).granted for _ in range(ROUTERS))
    assert within(hits)
    assert hits > ROUTERS * DELTA / 4


@pytest.mark.slow
def test_promises_about_graded_losses_are_kept_as_well():
    random, router = np.random.default_rng(2), Router(0.03, 0.18, 1.0, spread=4.0)
    found = [certified(router, random, 300, 0.1) for _ in range(ROUTERS)]
    assert sum(one.granted for one in found) > ROUTERS / 3
    assert within(sum(broken(router, one, 0.1) for one in found))
    flat = Router(0.1001, 0.0, 1.0, spread=0.3)
    assert within(sum(certified(flat, random, 150, 0.1).granted for _ in range(ROUTERS)))


def test_promises_about_slices_hold_together():
    """Three slices with a risk just above alpha, next to one that makes the whole look safe."""
    random, risks = np.random.default_rng(3), np.array([0.1501, 0.1501, 0.1501, 0.0])
    names = np.array(["law", "code", "maths", "chat"], dtype=object)
    hits = 0
    for _ in range(ROUTERS):
        slices = random.integers(0, 4, size=(2, 500))
        sets = [
            losses(random.random(500), random.random(500) < risks[one], prefix, names[one])
            for one, prefix in zip(slices, "ab", strict=True)
        ]
        found = certify(*sets, alpha=0.15, delta=DELTA, seed=1, slices=names[:3].tolist())
        hits += any(part.status == "granted" for part in found.slices)
    assert within(hits)
    assert hits > 0


def test_safe_slices_are_covered_and_the_others_are_listed():
    random = np.random.default_rng(4)
    names = np.array(["chat", "law", "rare"], dtype=object)
    sets = []
    for prefix in "ab":
        slices = random.choice(3, size=3000, p=[0.6, 0.39, 0.01])
        failed = random.random(3000) < np.array([0.02, 0.12, 0.02])[slices]
        sets.append(losses(random.random(3000), failed, prefix, names[slices]))
    found = certify(*sets, alpha=0.1, delta=DELTA, seed=1, slices=["chat", "law", "none"])
    chat, law, absent = found.slices
    assert (chat.status, law.status, absent.status) == ("granted", "refused", "refused")
    assert chat.bound <= 0.1 < law.bound
    assert "the risk may be" in law.reason
    assert "0 rows sent cheap, fewer than the" in absent.reason
    assert found.uncovered == ("law", "rare")
    assert json.loads(json.dumps(found.to_dict()))["slices"][0]["name"] == "chat"


def test_the_start_by_calibration_rows_certifies_more_than_the_strictest():
    random, router, ours, strict = np.random.default_rng(5), Router(0.02, 0.16, 1.0), [], []
    tests = ThresholdTests(0.08, DELTA, exact=True)
    for _ in range(200):
        calibration, rows = (router.draw(random, 1500, name) for name in "ab")
        for found, order in (
            (ours, sequence_of_thresholds(calibration, tests, 1500)),
            (strict, candidate_thresholds(calibration.decision_scores)),
        ):
            passed = tests.passed(rows, order)
            found.append(order[passed - 1] if passed else 0.0)
    assert np.mean(ours) > 0.7 * 0.75, "of the share at which the risk is alpha"
    assert np.mean(strict) < np.mean(ours) / 2


def test_a_certificate_states_its_basis():
    random, router = np.random.default_rng(6), Router(0.02, 0.2, 1.0)
    calibration, rows = (router.draw(random, 2000, name) for name in "ab")
    found = certify(calibration, rows, alpha=0.1, delta=DELTA, seed=1)
    cheap = rows.decision_scores < found.threshold
    assert (found.n, found.sent_cheap, found.k) == (2000, cheap.sum(), rows.values[cheap].sum())
    assert found.k / found.sent_cheap < found.bound <= 0.1
    assert found.coverage_low < found.coverage == cheap.mean() < found.coverage_high
    assert found.coverage_high - found.coverage_low == pytest.approx(0.0607, abs=1e-4)
    assert found.reason.startswith("needs_frontier among queries sent cheap is at most 0.1, with")


def test_the_first_share_is_where_the_tests_start():
    random, router = np.random.default_rng(6), Router(0.02, 0.2, 1.0)
    calibration, rows = (router.draw(random, 2000, name) for name in "ab")
    found = certify(calibration, rows, alpha=0.1, delta=DELTA, seed=1, first_share=0.6)
    assert found.granted
    assert found.coverage >= 0.58
    refused = certify(calibration, rows, alpha=0.1, delta=DELTA, seed=1, first_share=0.95)
    assert not refused.granted


def test_mapie_certifies_the_same_threshold():
    """Its learn-then-test over our sequence, with the share that fails among those sent cheap."""
    failing = BinaryRisk(
        risk_occurrence=lambda truth, _: truth == 1,
        risk_condition=lambda _, decided: decided == 0,
        higher_is_better=False,
    )
    random, compared = np.random.default_rng(7), 0
    for _ in range(20):
        router = Router.at_random(random)
        calibration, rows = (router.draw(random, 800, name) for name in "ab")
        found = certify(calibration, rows, alpha=0.1, delta=DELTA, seed=1)
        thresholds = sequence_of_thresholds(
            calibration, ThresholdTests(0.1, DELTA, exact=True), 800
        )
        controller = BinaryClassificationController(
            lambda scores: np.stack([1 - scores, scores], axis=1),
            failing,
            0.1,
            confidence_level=1 - DELTA,
            best_predict_param_choice="predicted_positive_fraction",
            list_predict_params=thresholds,
            fwer_method="fixed_sequence",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a measured risk that falls somewhere
            controller.calibrate(rows.decision_scores, rows.values)
        assert controller.best_predict_param == found.threshold
        compared += found.granted
    assert compared > 5


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), min_size=1, max_size=30))
def test_totals_are_of_the_queries_whose_score_is_below_the_threshold(rows):
    scores, values = np.array(rows, dtype=float).T
    some = losses(scores, values)
    thresholds = np.arange(-0.5, 6, 0.5)
    sums, counts = some.totals(thresholds)
    sent = [some.sent_cheap(threshold) for threshold in thresholds]
    assert counts.tolist() == [len(one) for one in sent]
    assert counts.tolist() == [(scores < threshold).sum() for threshold in thresholds]
    assert sums == pytest.approx([one.sum() for one in sent])


def test_one_row_of_each_group_is_taken_by_chance():
    groups = np.array(["a", "a", "a", "b"], dtype=object)
    rows = Losses("needs_frontier", np.arange(4.0), np.zeros(4), groups, groups)
    kept = [rows.one_per_group(seed) for seed in range(40)]
    assert all(sorted(one.groups) == ["a", "b"] for one in kept)
    assert {score for one in kept for score in one.decision_scores} == {0, 1, 2, 3}
    assert {one.groups[0] for one in kept} == {"a", "b"}


def test_copies_of_a_query_in_one_group_buy_no_certificate():
    random, router = np.random.default_rng(8), Router(0.02, 0.0, 1.0)
    calibration, few = router.draw(random, 500, "a"), router.draw(random, 20, "b")
    copies = few.where(np.arange(20).repeat(50))
    found = certify(calibration, copies, alpha=0.1, delta=DELTA, seed=1)
    assert (found.status, found.n) == ("refused", 20)


def test_losses_come_from_labels_and_from_scores():
    rule = LabelRules(("cheap_fails_frontier_succeeds",), ok_threshold=0.6)
    logged = [
        {"query": "q", "group": "g", "domain": "law", "cheap_score": 0.25, "frontier_score": 0.75},
        {"query": "r", "cheap_score": 0.9, "frontier_score": 0.5},
    ]
    examples = Examples.of([example_from(record, rule, "id") for record in logged])
    scores = np.array([0.3, 0.1])
    assert Losses.needs_frontier(examples, scores).values.tolist() == [1.0, 0.0]
    lost = Losses.quality_lost(examples, scores)
    assert lost.values.tolist() == [0.5, 0.0]
    assert lost.of_slice("law").groups.tolist() == ["g"]
    assert not lost.binary


SCORES = np.linspace(0, 1, 200)
LABELS = np.tile([0.0, 0.0, 0.0, 1.0], 50)


@pytest.mark.parametrize(
    ("calibration", "certification", "others", "reason"),
    [
        ({}, {}, {"annotations_only": True}, "the labels are annotations: somebody's opinion"),
        ({}, {"keep": 10}, {}, "10 certification rows in separate groups; .* needs 22 sent"),
        ({"keep": 0}, {}, {}, "0 calibration rows .* label at least 22 more groups"),
        ({}, {"prefix": "a"}, {}, "200 groups are among the calibration and the certification"),
        (
            {"labels": LABELS * 0},
            {"labels": LABELS * 0},
            {},
            "all 400 calibration and certification rows have needs.* 0; one class shows no risk",
        ),
        ({"scores": SCORES * 0 + 0.5}, {}, {}, "the decision score 0.5; no threshold separates"),
        ({}, {"labels": LABELS / 2}, {}, "0 or 1 in every calibration row and 0.5 in a"),
        ({}, {}, {}, r"no threshold qualifies: .* may be 0\.\d+, above alpha 0.1; choose a larger"),
    ],
)
def test_a_refusal_says_what_was_wrong_and_the_cure(calibration, certification, others, reason):
    def given(prefix="b", scores=SCORES, labels=LABELS, keep=200):
        return losses(scores[:keep], labels[:keep], prefix)

    sets = given(**{"prefix": "a", **calibration}), given(**certification)
    found = certify(*sets, alpha=0.1, delta=DELTA, seed=1, **others)
    assert (found.status, found.threshold, found.coverage) == ("refused", None, None)
    assert found.uncovered == ("",)
    assert re.search(reason, found.reason), found.reason


def test_certification_rows_without_a_failure_are_certified():
    found = certify(
        losses(SCORES, LABELS, "a"), losses(SCORES, LABELS * 0, "b"), alpha=0.3, delta=DELTA, seed=1
    )
    assert (found.status, found.k) == ("granted", 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 1.0}, "alpha is 1; it must be between 0 and 1"),
        ({"delta": 0.0}, "delta is 0"),
        ({"first_share": 0.0}, "first_share is 0"),
    ],
)
def test_a_parameter_out_of_its_range_is_an_error(changes, message):
    parameters = {"alpha": 0.1, "delta": 0.1, "seed": 1, **changes}
    with pytest.raises(ValueError, match=message):
        certify(losses(SCORES, LABELS, "a"), losses(SCORES, LABELS, "b"), **parameters)


def test_two_risks_cannot_be_mixed():
    graded = losses(SCORES, LABELS, "b", risk="quality_lost")
    with pytest.raises(ValueError, match="measure the same risk on both"):
        certify(losses(SCORES, LABELS, "a"), graded, alpha=0.1, delta=0.1, seed=1)


@pytest.mark.parametrize(
    ("scores", "values", "message"),
    [
        ([0.1], [2.0], r"needs_frontier is 2; it must be in \[0, 1\]"),
        ([0.1], [math.nan], "needs_frontier is nan"),
        ([math.nan], [1.0], "a decision score is nan"),
        ([0.1, 0.2], [1.0], "columns of unequal length"),
    ],
)
def test_losses_out_of_their_range_are_an_error(scores, values, message):
    with pytest.raises(ValueError, match=message):
        losses(np.array(scores), np.array(values))
