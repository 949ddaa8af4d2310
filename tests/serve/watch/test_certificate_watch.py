"""The watch over a certificate: which queries are audited, the order of losses, persistence."""

import json
import math
import shutil
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querytier.classifier.export.certify_artifact import write_certificate
from querytier.classifier.manifest import Certificate
from querytier.classifier.runtime import Classifier
from querytier.eval.certificates.losses import Losses
from querytier.serve import Exploration, Router, RouterSettings
from querytier.serve.watch.audits import Audit, AuditQueue
from querytier.serve.watch.certificate_watch import CertificateWatch
from querytier.serve.watch.promised_risk import PromisedRisk
from querytier.serve.watch.state import WatchSettings

ARTIFACT = Path(__file__).parents[2] / "fixtures" / "artifacts" / "format-2"
BROKEN, KEPT = (
    {"cheap_score": 0.0, "frontier_score": 1.0},
    {"cheap_score": 1.0, "frontier_score": 1.0},
)


def certified(folder, *, threshold=2.0, **details):
    """Return a copy of an artifact with a certificate, by default for all queries."""
    artifact = Path(shutil.copytree(ARTIFACT, folder))
    expires = (datetime.now(UTC) + timedelta(days=365)).date().isoformat()
    known = {"risk": "needs_frontier", "alpha": 0.1, "expires": expires, **details}
    write_certificate(artifact, Certificate("granted", "a test", known), threshold)
    return artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return certified(tmp_path_factory.mktemp("certified") / "model")


@pytest.fixture(scope="module")
def manifest(artifact):
    return Classifier.load(artifact).manifest


def audit_all(watch, judgements):
    """Add audits together with their scores; return their number until the withdrawal, or None."""
    for number, one in enumerate(judgements):
        watch.add(f"q{number}", "cheap")
        watch.record(f"q{number}", **one)
        if watch.is_withdrawn():
            return number + 1
    return None


# --- picking


def decided(router, count=400, **options):
    return [router.decide(f"query {n}", **options) for n in range(count)]


def test_certified_decisions_are_audited_at_random_at_the_rate(artifact):
    def audited(**settings):
        router = Router.load(artifact, RouterSettings(audit_rate=0.25, audit_seed=3, **settings))
        return decided(router)

    plain = audited()
    assert 70 <= sum(one.audit for one in plain) <= 130
    assert {one.audit_propensity for one in plain} == {0.25}
    assert [one.audit for one in plain] == [one.audit for one in audited()]
    explored = audited(exploration=Exploration(0.5))
    assert Counter(one.tier for one in explored)["frontier"] > 100
    assert [one.audit for one in explored] == [one.audit for one in plain], "its own draws"
    assert all(one.audit for one in decided(Router.load(artifact, RouterSettings(audit_rate=1)), 9))


def test_decisions_without_certificate_are_never_audited(tmp_path, artifact):
    always = RouterSettings(audit_rate=1.0)
    router = Router.load(artifact, always)
    refused = Router.load(ARTIFACT, always)
    dear = Router.load(certified(tmp_path / "dear", threshold=-1.0), always)
    slices = [{"name": "shop", "status": "granted"}]
    sliced = Router.load(certified(tmp_path / "sliced", slices=slices), always)
    for decision in (
        *decided(refused, 3),
        *decided(dear, 3),
        *decided(router, 3, deny=["cheap"]),
        *decided(router, 3, allow=["cheap"]),
        *decided(sliced, 3, domain="law"),
        router.decide(""),
        Router.load(artifact).decide("Hi"),
    ):
        assert (decision.audit, decision.audit_propensity) == (False, 0.0)
    assert decided(sliced, 1, domain="shop")[0].audit


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_rates_and_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="audit_rate is"):
        RouterSettings(audit_rate=wrong)
    with pytest.raises(ValueError, match="level is"):
        WatchSettings(level=wrong)
    with pytest.raises(ValueError, match="timeout_s is"):
        WatchSettings(timeout_s=min(wrong, 0))
    with pytest.raises(ValueError, match="missing is"):
        WatchSettings(missing="forgotten")


# --- losses


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["needs_frontier", "quality_lost"]))
def test_the_watch_measures_the_loss_that_was_certified(cheap, frontier, risk):
    manifest = Classifier.load(ARTIFACT).manifest
    details = {"risk": risk, "alpha": 0.1}
    promised = PromisedRisk.of(
        replace(manifest, certificate=Certificate("granted", "a test", details))
    )
    lost = promised.loss(cheap, frontier)
    if risk == "needs_frontier":
        assert lost == (cheap < 0.5 <= frontier)
    else:
        assert lost == max(0.0, frontier - cheap)
    Losses(risk, np.zeros(1), np.array([lost]), np.array(["g"]), np.array(["s"]))


def test_success_is_defined_as_in_training(manifest):
    rule = {"rules": ["cheap_fails_frontier_succeeds"], "ok_threshold": 0.8}
    promised = PromisedRisk.of(replace(manifest, label_rule=rule))
    assert [promised.loss(0.7, 0.9), promised.loss(0.7, 0.75)] == [1.0, 0.0]
    gap = {"rules": ["quality_gap"], "margin": 0.5}
    assert PromisedRisk.of(replace(manifest, label_rule=gap)).loss(0.5, 0.75) == 0.5


@pytest.mark.parametrize(
    "certificate",
    [
        Certificate("refused", "a test", {"risk": "needs_frontier", "alpha": 0.1}),
        Certificate("granted", "of long ago", {}),
        Certificate("granted", "of another kind", {"risk": "regret", "alpha": 0.1}),
    ],
)
def test_nothing_is_watched_without_a_promise(tmp_path, manifest, certificate):
    watch = CertificateWatch(tmp_path, replace(manifest, certificate=certificate))
    assert audit_all(watch, [BROKEN] * 50) is None
    assert watch.look().state == "nothing promised"
    assert not list(tmp_path.iterdir())


# --- order


@settings(max_examples=40)
@given(st.data())
def test_the_order_in_which_scores_arrive_does_not_matter(tmp_path_factory, manifest, data):
    losses = data.draw(st.lists(st.booleans(), max_size=25))
    order = data.draw(st.permutations(range(len(losses))))
    halves = data.draw(st.permutations(["cheap_score", "frontier_score"]))
    states = []
    for arrival in (range(len(losses)), order):
        watch = CertificateWatch(tmp_path_factory.mktemp("logs"), manifest, clock=lambda: 0.0)
        for number in range(len(losses)):
            watch.add(f"q{number}", "cheap")
        for number in arrival:
            scores = BROKEN if losses[number] else KEPT
            for name in halves:
                watch.record(f"q{number}", **{name: scores[name]})
        states.append(watch.look())
    one, other = states
    assert (one.state, one.wealth) == (other.state, other.wealth)
    if one.state == "watching":  # else later scores are ignored
        assert one == other
        assert one.taken == len(losses)


def test_a_missing_outcome_holds_up_later_ones_until_its_timeout():
    queue = AuditQueue(timeout_s=10)
    for number in range(4):
        queue.add(Audit(f"q{number}", float(number), "cheap"))
    for number in (1, 2):
        queue.record(f"q{number}", dict(BROKEN))
    queue.record("q3", {"cheap_score": 1.0})
    assert queue.release(9.9) == []
    assert [audit.id for audit in queue.release(10)] == ["q0", "q1", "q2"]
    assert len(queue) == 1
    (last,) = queue.release(13)
    assert last.scores is None
    queue.record("q0", dict(KEPT))
    assert len(queue) == 0, "too late"


@pytest.mark.parametrize(("missing", "withdrawn"), [("left_out", False), ("loss", True)])
def test_missing_audits_are_counted_and_may_count_as_lost(tmp_path, manifest, missing, withdrawn):
    now = [0.0]
    watched = WatchSettings(timeout_s=60, missing=missing)
    watch = CertificateWatch(tmp_path, manifest, watched, clock=lambda: now[0])
    for number in range(6):
        watch.add(f"q{number}", "cheap")
    assert watch.look().waiting == 6
    now[0] = 61.0
    assert watch.look().missing == 6
    assert watch.is_withdrawn() is withdrawn
    again = CertificateWatch(tmp_path, manifest, watched, clock=lambda: now[0])
    assert again.look() == watch.look()


def test_only_the_first_audit_of_a_conversation_counts(tmp_path, manifest):
    watch = CertificateWatch(tmp_path, manifest)
    for number in range(20):
        watch.add(f"q{number}", "cheap", conversation="a long one")
        watch.record(f"q{number}", **BROKEN)
    state = watch.look()
    assert (state.taken, state.repeated, state.state) == (1, 19, "watching")


# --- findings


def test_a_broken_promise_is_withdrawn_for_good(tmp_path, artifact, caplog):
    router = Router.load(artifact)
    manifest = router.classifier.manifest
    kept = CertificateWatch(tmp_path / "kept", manifest)
    assert audit_all(kept, [KEPT] * 60) is None
    assert kept.look().wealth < 1
    watch = CertificateWatch(tmp_path / "broken", manifest)
    router = router.withdrawn_when(watch.is_withdrawn)
    assert router.decide("Hi").reason == "classifier"
    assert audit_all(watch, [BROKEN, KEPT] * 20) < 12
    assert (router.decide("Hi").reason, router.decide("Hi").tier) == (
        "fallback:certificate",
        "frontier",
    )
    assert "the certificate is withdrawn" in caplog.text
    lenient = CertificateWatch(tmp_path / "broken", manifest, WatchSettings(level=1e-6))
    assert lenient.is_withdrawn(), "no setting brings a withdrawn certificate back"
    assert lenient.look().withdrawn_for == "all queries"


def test_a_restart_or_a_cut_line_forgets_nothing_else(tmp_path, manifest):
    watch = CertificateWatch(tmp_path, manifest)
    assert audit_all(watch, [BROKEN, KEPT, KEPT]) is None
    watch.add("waits", "cheap")
    watch.record("waits", cheap_score=0)
    (path,) = tmp_path.iterdir()
    with path.open("a") as file:
        file.write('{"time": 1, "aud')
    again = CertificateWatch(tmp_path, manifest)
    assert replace(again.look(), failed=0) == watch.look()
    again.record("waits", frontier_score=1)
    watch.look()
    assert replace(again.look(), failed=0) == replace(watch.look(), failed=0)
    assert again.look().taken == 4
    assert again.look().failed == 1


def test_processes_that_share_a_folder_share_one_test(tmp_path, manifest):
    one, other = (CertificateWatch(tmp_path, manifest) for _ in range(2))
    for number in range(30):
        watch, told = (one, other) if number % 2 else (other, one)
        watch.add(f"q{number}", "cheap")
        told.record(f"q{number}", **BROKEN)
    assert one.look() == other.look()
    assert one.is_withdrawn()
    assert other.is_withdrawn()
    assert next(tmp_path.iterdir()).read_text().count("withdrawn") == 1


def test_a_new_artifact_or_certificate_starts_a_new_test(tmp_path, manifest):
    watch = CertificateWatch(tmp_path, manifest)
    assert audit_all(watch, [BROKEN] * 9)
    certificate = manifest.certificate
    later = replace(certificate, details={**certificate.details, "date": "2031-05-07"})
    for other in (replace(manifest, certificate=later), replace(manifest, model_version="other")):
        assert CertificateWatch(tmp_path, other).look().state == "watching"
    assert CertificateWatch(tmp_path, manifest).is_withdrawn()


def test_slices_have_their_own_tests_and_share_the_level(tmp_path):
    slices = [{"name": name, "status": "granted"} for name in ("law", "shop")]
    artifact = certified(tmp_path / "model", slices=slices)
    watch = CertificateWatch(tmp_path / "logs", Classifier.load(artifact).manifest)
    assert watch.look().needed == pytest.approx(3 / 0.05)
    for number in range(400):
        watch.add(f"q{number}", "cheap", domain="law" if number % 8 == 0 else "shop")
        watch.record(f"q{number}", **(BROKEN if number % 16 == 0 else KEPT))
    assert watch.look().withdrawn_for == "law"


def test_the_watch_counts_extra_answers_and_their_cost(tmp_path, manifest):
    watch = CertificateWatch(tmp_path, manifest)
    for number, tier in enumerate(["cheap", "cheap", "frontier", "cheap"]):
        watch.add(f"q{number}", tier)
    watch.record("q0", **KEPT, cheap_cost=0.5, frontier_cost=2.0)
    watch.record("q2", cheap_cost=0.5, frontier_cost=2.0)
    state = watch.look()
    assert state.extra_calls == {"cheap": 1, "frontier": 3}
    assert state.extra_cost == 2.5
    assert json.loads(json.dumps(state.to_dict()))["waiting"] == 3


def test_bad_scores_are_refused_and_disk_errors_are_counted(tmp_path, manifest):
    watch = CertificateWatch(tmp_path, manifest)
    watch.add("q", "cheap")
    with pytest.raises(ValueError, match="cheap_score outside"):
        watch.record("q", cheap_score=7)
    watch.record("q", outcome=1.0)
    (tmp_path / "no folder").write_text("")
    blind = CertificateWatch(tmp_path / "no folder", manifest)
    assert audit_all(blind, [BROKEN] * 3) is None
    assert blind.look().failed >= 3
