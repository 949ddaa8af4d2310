"""Changes of a choice: a tenant's share is kept exactly, and propensities stay correct."""

from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.data.examples import Examples
from querytier.data.formats.reading import read_records
from querytier.data.ingest.labelled_log import LabelledLog, Reading
from querytier.data.ingest.sources import LogSource
from querytier.serve import Exploration, Router, RouterSettings, TenantCap
from querytier.serve.choices import Choice, Conversations, TenantShares, apply_cap
from querytier.serve.log.decision_log import DecisionLog

ARTIFACT = Path(__file__).parents[1] / "fixtures" / "artifacts" / "format-2"
CAP = TenantCap(0.5, window=20, at_least=4)


def router(cap=CAP, **more):
    """Return a router that sends every query to the frontier tier."""
    loaded = Router.load(ARTIFACT, RouterSettings(tenant_cap=cap, **more))
    manifest = replace(loaded.classifier.manifest, threshold=-1.0)
    return Router(replace(loaded.classifier, manifest=manifest), loaded.settings)


def chosen(shares, tenant, tier, reason="classifier", cap=CAP):
    choice = Choice(tier, reason)
    return shares.choose(tenant, lambda full: apply_cap(choice, cap) if full else choice)


@given(
    st.lists(st.sampled_from(["cheap", "frontier"]), max_size=120),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0.05, 0.95),
)
def test_no_window_exceeds_its_share_once_the_cap_applies(wanted, more, least, share):
    cap = TenantCap(share, window=least + more, at_least=least)
    shares, window = TenantShares(cap), deque(maxlen=cap.window)
    for place, tier in enumerate(wanted):
        choice = chosen(shares, "a", tier, cap=cap)
        window.append(choice.tier == "frontier")
        if place >= least and choice.tier == "frontier":
            assert sum(window) <= share * len(window)
        assert choice.tier == "cheap" or tier == "frontier"
        assert (choice.reason == "cap") == (choice.tier != tier)


def test_only_the_tenant_beyond_its_share_is_capped():
    capping = router()
    decided = [capping.decide("Prove it.", tenant="greedy") for _ in range(40)]
    assert Counter(one.tier for one in decided)["frontier"] == 20
    assert {(one.tier, one.reason, one.propensity) for one in decided} == {
        ("frontier", "classifier", 1.0),
        ("cheap", "cap", 1.0),
    }
    assert all(one.decision_score is not None for one in decided)
    assert capping.decide("Prove it.", tenant="modest").tier == "frontier"
    assert capping.decide("Prove it.").tier == "frontier"


def test_allow_takes_precedence_over_the_cap_and_counts():
    capping = router()
    insisted = [capping.decide("Hi", tenant="a", allow=["frontier"]) for _ in range(30)]
    assert {one.tier for one in insisted} == {"frontier"}
    assert capping.decide("Hi", tenant="a").reason == "cap"
    assert capping.decide("Hi", tenant="a", allow=["cheap", "frontier"]).reason == "cap"


def test_a_conversation_on_the_frontier_tier_is_capped_too():
    capping = router(conversations=5)
    found = [capping.decide("Hi", tenant="a", conversation="talk") for _ in range(30)]
    assert Counter(one.reason for one in found)["cap"] > 10


def test_the_cap_suspends_exploration():
    exploring = router(exploration=Exploration(0.5))
    found = [exploring.decide("Hi", tenant="a") for _ in range(400)]
    assert {(one.reason, one.tier, one.propensity) for one in found} <= {
        ("classifier", "frontier", 0.5),
        ("explore", "cheap", 0.5),
        ("cap", "cheap", 1.0),
    }
    assert {one.reason for one in found} == {"classifier", "explore", "cap"}


def test_fallbacks_are_not_capped_except_untypical_ones_if_set():
    strange = ("frontier", "fallback:out_of_distribution")
    shares = TenantShares(CAP)
    assert {chosen(shares, "a", *strange).reason for _ in range(50)} == {strange[1]}
    assert chosen(shares, "a", "frontier").reason == "classifier"
    strict = replace(CAP, out_of_distribution=True)
    shares = TenantShares(strict)
    found = Counter(chosen(shares, "a", *strange, cap=strict).reason for _ in range(40))
    assert found["cap"] == 20
    failed = ("frontier", "fallback:error")
    assert {chosen(shares, "a", *failed, cap=strict).reason for _ in range(9)} == {failed[1]}


def test_the_least_recently_seen_tenant_starts_from_zero():
    shares = TenantShares(replace(CAP, window=200, tenants=2))
    for tenant in ("a", "b", "a", "c"):
        for _ in range(10):
            chosen(shares, tenant, "frontier")
    assert chosen(shares, "a", "frontier").reason == "cap"
    assert chosen(shares, "b", "frontier").reason == "classifier"


def test_threads_keep_the_share_exactly():
    shares = TenantShares(TenantCap(0.3, window=1000, at_least=1))
    with ThreadPoolExecutor(8) as threads:
        choices = list(threads.map(lambda _: chosen(shares, "a", "frontier"), range(1000)))
    assert sum(one.tier == "frontier" for one in choices) == 300


@pytest.mark.parametrize(
    "wrong", [{"share": 1.0}, {"share": 0}, {"window": 0}, {"tenants": 0}, {"window": 5}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"in \(0, 1\)|has to be 1|widen the window"):
        TenantCap(**wrong)


def test_the_tenant_of_a_logged_decision_is_the_source_of_its_example(tmp_path):
    capping = router()
    with DecisionLog(tmp_path) as log:
        for _ in range(30):
            decision = capping.decide("Prove it.", tenant="shop-7")
            log.append_outcome(log.append(decision, "Prove it.", tenant="shop-7"), outcome=1.0)
    lines = [record.fields for record in read_records(tmp_path / "decisions.jsonl")]
    assert {line["tenant"] for line in lines} == {"shop-7"}
    source = LogSource(tmp_path / "decisions.jsonl", scores=tmp_path / "outcomes.jsonl")
    log = LabelledLog([source], Reading(), tmp_path / "bad.jsonl")
    examples = Examples.concatenated([batch.examples for batch in log])
    assert set(examples.source) == {"shop-7"}
    version = capping.classifier.manifest.model_version
    assert set(examples.policy) == {version, f"{version}+cap"}


def test_the_least_recently_seen_conversation_is_dropped():
    names = Conversations(2)
    names.add("a")
    names.add("b")
    assert "a" in names
    names.add("c")
    assert ("a" in names, "b" in names, "c" in names) == (True, False, True)
