"""The router never raises, fails towards quality, and reports the propensity of each tier."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.errors import ArtifactError
from querytier.serve import Decision, Exploration, Router, RouterSettings
from querytier.serve.choices import allowed_tiers
from querytier.serve.decision import DecisionRequest
from querytier.serve.http.shadow import Shadow
from served import stable

TIERS = ("cheap", "frontier")


@pytest.fixture(scope="module")
def of_each_tier(router):
    """Return a query for each tier, as the classifier decides."""
    asked = [
        "Hi",
        "Thanks!",
        "capital of Mongolia?",
        "Prove that there are infinitely many primes.",
    ]
    asked += [
        f"Design a fault-tolerant scheduler for {n} shards, and prove it live." for n in range(9)
    ]
    found = {router.decide(query).tier: query for query in asked}
    assert set(found) == set(TIERS), "the fixture's classifier separates these"
    return found


def test_default_settings_return_the_classifiers_choice(router, of_each_tier):
    for tier, query in of_each_tier.items():
        decision = router.decide(query)
        assert (decision.tier, decision.reason, decision.propensity) == (tier, "classifier", 1.0)
        assert (decision.decision_score >= decision.threshold) == (tier == "frontier")
        assert json.loads(json.dumps(decision.to_dict()))["propensity"] == 1.0


def test_allow_and_deny_take_precedence(router, of_each_tier):
    for tier, query in of_each_tier.items():
        for other in TIERS:
            for words in ({"allow": [other]}, {"deny": [t for t in TIERS if t != other]}):
                decision = router.decide(query, **words)
                assert decision.tier == other
                assert decision.reason == ("classifier" if other == tier else "override")
                assert decision.p_frontier is not None


@given(
    st.none() | st.lists(st.sampled_from([*TIERS, "huge", ""])),
    st.none() | st.lists(st.sampled_from([*TIERS, "huge"])),
)
def test_any_allow_and_deny_lead_to_a_tier(router, allow, deny):
    decision = router.decide("Where is my order?", allow=allow, deny=deny)
    try:
        allowed = allowed_tiers(allow, deny)
    except ValueError:
        assert decision.reason == "fallback:error"
        assert decision.tier == router.classifier.manifest.fallback_tier
    else:
        assert decision.tier in (allowed or TIERS)


@given(
    st.text(),
    st.none() | st.lists(st.sampled_from(TIERS), min_size=1),
    st.none() | st.sampled_from(["law", "shop"]),
)
def test_a_request_is_decided_like_its_arguments(router, query, allow, domain):
    request = DecisionRequest(query, allowed_tiers(allow, None), domain=domain)
    one, other = router.decide_request(request), router.decide(query, allow=allow, domain=domain)
    assert stable(one.to_dict()) == stable(other.to_dict())


def test_exploration_chooses_the_other_tier_at_its_rate(artifact, of_each_tier):
    router = Router.load(artifact, RouterSettings(exploration=Exploration(0.2)))
    decisions = [router.decide(of_each_tier["cheap"]) for _ in range(3000)]
    other = [decision for decision in decisions if decision.reason == "explore"]
    error = 4 * (0.2 * 0.8 / 3000) ** 0.5
    assert len(other) / 3000 == pytest.approx(0.2, abs=error)
    assert {(one.tier, one.propensity) for one in other} == {("frontier", 0.2)}
    stayed = {(d.tier, d.propensity) for d in decisions if d.reason == "classifier"}
    assert stayed == {("cheap", 0.8)}
    mean_weight = np.mean([1 / d.propensity for d in decisions if d.tier == "frontier"] or [0])
    assert mean_weight == pytest.approx(5)


def test_exploration_respects_the_band_and_the_caller(artifact, of_each_tier):
    far = Router.load(artifact, RouterSettings(exploration=Exploration(0.5, band=1e-9)))
    near = Router.load(artifact, RouterSettings(exploration=Exploration(0.5, band=1.0)))
    query = of_each_tier["cheap"]
    assert {far.decide(query).reason for _ in range(50)} == {"classifier"}
    assert far.decide(query).propensity == 1.0
    assert {near.decide(query).reason for _ in range(50)} == {"classifier", "explore"}
    told = [near.decide(query, allow=["cheap"]) for _ in range(50)]
    assert {(one.tier, one.propensity) for one in told} == {("cheap", 1.0)}
    empty = [near.decide("") for _ in range(50)]
    assert {(one.reason, one.propensity) for one in empty} == {("fallback:empty", 1.0)}


def test_after_the_deadline_the_fallback_tier_is_the_decision(artifact):
    def look_slowly():
        time.sleep(0.5)
        return False

    settings = RouterSettings(deadline_ms=5)
    decision = Router.load(artifact, settings).withdrawn_when(look_slowly).decide("Hi")
    assert (decision.tier, decision.reason) == ("frontier", "fallback:timeout")
    assert decision.p_frontier is None
    assert 5 <= decision.latency_ms < 500
    in_time = Router.load(artifact, RouterSettings(deadline_ms=60_000))
    assert in_time.decide("Hi").reason == "classifier"


def test_decisions_with_a_deadline_are_the_same_on_many_threads(artifact, router):
    timed = Router.load(artifact, RouterSettings(deadline_ms=60_000))
    queries = [f"What is {n} times {n}?" for n in range(60)]
    with ThreadPoolExecutor(8) as threads:
        decisions = list(threads.map(timed.decide, queries))
    expected = [one.decision_score for one in router.decide_many(queries)]
    assert [one.decision_score for one in decisions] == expected


def test_a_conversation_stays_on_the_frontier_tier(artifact, of_each_tier):
    router = Router.load(artifact, RouterSettings(conversations=2))
    cheap, frontier = of_each_tier["cheap"], of_each_tier["frontier"]
    assert router.decide(cheap, conversation="a").reason == "classifier"
    assert router.decide(frontier, conversation="a").tier == "frontier"
    kept = router.decide(cheap, conversation="a")
    assert (kept.tier, kept.reason) == ("frontier", "conversation")
    assert router.decide(cheap, conversation="b").tier == "cheap"
    assert router.decide(cheap, conversation="a", allow=["cheap"]).tier == "cheap"
    assert router.decide(cheap).tier == "cheap"


def test_settings_out_of_range_are_refused(artifact):
    for wrong in ({"deadline_ms": 0}, {"least_typicality": 1.0}, {"conversations": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is "):
            RouterSettings(**wrong)
    for wrong in ({"epsilon": 0}, {"epsilon": 0.6}, {"epsilon": 0.1, "band": 0}):
        with pytest.raises(ValueError, match="is "):
            Exploration(**wrong)
    with pytest.raises(ArtifactError, match="has no typicality output"):
        Router.load(artifact, RouterSettings(least_typicality=0.01))


@given(
    st.text() | st.binary() | st.lists(st.dictionaries(st.text(), st.text())) | st.none(),
    st.none() | st.text(max_size=3),
)
def test_a_router_with_all_settings_never_raises(armed, query, conversation):
    decision = armed.decide(query, conversation=conversation)
    assert isinstance(decision, Decision)
    assert decision.tier in TIERS
    assert 0 < decision.propensity <= 1


@pytest.fixture(scope="module")
def armed(artifact):
    settings = RouterSettings(
        deadline_ms=60_000, exploration=Exploration(0.5, band=0.2), conversations=3
    )
    return Router.load(artifact, settings)


def test_a_shadow_compares_the_challengers_decisions(router, of_each_tier):
    with closing(Shadow(router.decide)) as shadow:
        for query in of_each_tier.values():
            shadow.show(query, router.decide(query))
    found = shadow.agreement
    assert (found.compared, found.agreed, found.dropped) == (2, 2, 0)
    assert found.frontier == found.challenger_frontier == 1


def test_queries_beyond_a_slow_challenger_are_dropped(router):
    gate = threading.Event()

    def decide_slowly(query):
        gate.wait(10)
        return router.decide(query)

    shadow = Shadow(decide_slowly, most_pending=2)
    decision = router.decide("Hi")
    for _ in range(10):
        shadow.show("Hi", decision)
    gate.set()
    shadow.close()
    found = shadow.agreement
    assert found.compared + found.dropped == 10
    assert found.dropped >= 7
