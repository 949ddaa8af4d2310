"""A shadow challenger of the service."""

import asyncio
import json
import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from querytier.data.formats.reading import read_records
from querytier.errors import ArtifactError
from querytier.serve import Router, RouterSettings, TenantCap
from querytier.serve.decision import DecisionRequest
from querytier.serve.http.service import DecisionService
from querytier.serve.http.settings import ServiceSettings
from querytier.serve.http.shadow import Shadow
from querytier.serve.http.shadow_metrics import ShadowSettings, TierCosts
from querytier.serve.http.wire import Outcome, Refusal
from querytier.serve.log.decision_log import DecisionLog
from served import ARTIFACTS, stable, wait_until

CHAMPION, CHALLENGER = ARTIFACTS / "format-1", ARTIFACTS / "format-2"
QUERIES = [f"Prove lemma {n}." if n % 3 else f"Where is order {n}?" for n in range(60)]


def decided(service, queries=QUERIES, **more):
    """Return decisions, made one after the other."""

    async def ask():
        return [await service.decide(DecisionRequest(query, **more)) for query in queries]

    return asyncio.run(ask())


def metrics_of(service):
    text = service.metrics.exposition("")[0].decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_shadow_is_compared_and_changes_no_answer():
    alone = DecisionService(ServiceSettings(CHAMPION))
    shadow = ShadowSettings(CHALLENGER, TierCosts({"cheap": 1.0, "frontier": 11.0}))
    service = DecisionService(ServiceSettings(CHAMPION, shadow=shadow))
    answers = decided(service)
    assert [*map(stable, answers)] == [*map(stable, decided(alone))]
    wait_until(lambda: service.status()["shadow"]["compared"] == len(QUERIES))
    found = service.status()["shadow"]
    others = Router.load(CHALLENGER).decide_many(QUERIES)
    frontier = sum(one.tier == "frontier" for one in others)
    agreed = sum(one["tier"] == other.tier for one, other in zip(answers, others, strict=True))
    assert found["shadow_frontier_rate"] == frontier / len(QUERIES)
    assert found["shadow_cost"] == pytest.approx(1 + 10 * frontier / len(QUERIES))
    assert found["agreement"] == agreed / len(QUERIES)
    assert sum(found["pairs"].values()) == len(QUERIES)
    assert (found["dropped"], found["failed"]) == (0, 0)
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["model_version"] == Router.load(CHALLENGER).classifier.manifest.model_version
    told = metrics_of(service)
    pairs = [value for name, value in told.items() if name[0] == "querytier_shadow_decisions_total"]
    assert sum(pairs) == len(QUERIES)
    assert told["querytier_shadow_cost", ("by", "shadow")] == pytest.approx(found["shadow_cost"])
    json.dumps(service.status())
    service.close()
    alone.close()
    assert alone.status()["shadow"] is None


def test_costs_are_learned_from_outcomes_without_a_log():
    service = DecisionService(ServiceSettings(CHAMPION, shadow=ShadowSettings(CHALLENGER)))
    by_tier = {
        tier: decided(service, ["Hi"], allowed=(tier,))[0]["id"] for tier in ("cheap", "frontier")
    }
    decided(service)
    wait_until(lambda: service.status()["shadow"]["compared"] >= len(QUERIES))
    assert service.status()["shadow"]["shadow_cost"] is None
    for tier, cost in (("cheap", 0.5), ("frontier", 2.5)):
        with pytest.raises(Refusal, match="keeps no decision log"):
            service.record_outcomes([Outcome(id=by_tier[tier], cost=cost)])
    found = service.status()["shadow"]
    assert found["shadow_cost"] == pytest.approx(0.5 + 2 * found["shadow_frontier_rate"])
    assert found["cost"] == pytest.approx(0.5 + 2 * found["frontier_rate"])
    service.close()


def test_the_log_has_the_challengers_decision_by_the_same_id(tmp_path):
    log = DecisionLog(tmp_path)
    shadow = ShadowSettings(CHALLENGER, log=log)
    service = DecisionService(ServiceSettings(CHAMPION, log=log, shadow=shadow))
    answers = decided(service)
    service.close()
    beside = {
        record.fields["id"]: record.fields for record in read_records(tmp_path / "shadow.jsonl")
    }
    assert set(beside) == {one["id"] for one in answers}
    others = Router.load(CHALLENGER).decide_many(QUERIES)
    for other, one in zip(others, answers, strict=True):
        said = beside[one["id"]]
        assert (said["tier"], said["decision_score"]) == (other.tier, other.decision_score)
    assert len(list(read_records(tmp_path / "decisions.jsonl"))) == len(QUERIES)


@pytest.fixture
def shadowed():
    service = DecisionService(ServiceSettings(CHAMPION, shadow=ShadowSettings(CHALLENGER)))
    yield service
    service.close()


def test_a_challenger_that_raises_is_counted(caplog):
    def fail(query):
        raise RuntimeError(query)

    router = Router.load(CHAMPION)
    with closing(Shadow(fail)) as shadow:
        for query in QUERIES:
            shadow.show(query, router.decide(query))
    assert shadow.agreement.failed == len(QUERIES)
    assert (shadow.agreement.compared, shadow.agreement.dropped) == (0, 0)
    assert "the shadow challenger failed" in caplog.text


def test_a_challenger_that_hangs_costs_only_its_comparisons(caplog):
    gate = threading.Event()

    def hang(query):
        gate.wait(60)
        raise RuntimeError(query)

    router = Router.load(CHAMPION)
    shadow = Shadow(hang, most_pending=5)
    started = time.monotonic()
    for query in QUERIES:
        shadow.show(query, router.decide(query))
    assert shadow.agreement.dropped >= len(QUERIES) - 6
    shadow.close(timeout_s=0.2)
    assert time.monotonic() - started < 20
    assert "is abandoned" in caplog.text
    gate.set()


def test_only_decisions_of_artifacts_are_compared():
    router = Router.load(CHAMPION)
    own = router.decide("Hi")
    other = "cheap" if own.tier == "frontier" else "frontier"
    with closing(Shadow(router.decide)) as shadow:
        shadow.show("Hi", router.decide("Hi", allow=[other]))
        shadow.show("Hi", replace(own, tier="cheap", reason="cap"))
        shadow.show("Hi", replace(own, tier=other, reason="explore"))
    assert (shadow.agreement.compared, shadow.agreement.agreed) == (1, 1)


def test_a_reload_restarts_the_comparison(shadowed):
    decided(shadowed)
    wait_until(lambda: shadowed.status()["shadow"]["compared"] == len(QUERIES))
    asyncio.run(shadowed.reload())
    assert shadowed.status()["shadow"]["compared"] == 0
    decided(shadowed, ["Hi"])
    wait_until(lambda: shadowed.status()["shadow"]["compared"] == 1)


def test_a_bad_shadow_is_an_error_at_the_start(tmp_path):
    with pytest.raises(ArtifactError, match="is not a querytier artifact"):
        DecisionService(ServiceSettings(CHAMPION, shadow=ShadowSettings(tmp_path)))
    with pytest.raises(ValueError, match="the cost of cheap is -1"):
        TierCosts({"cheap": -1})


def test_costs_of_forgotten_decisions_are_ignored():
    costs = TierCosts(remembered=2)
    for name in ("a", "b", "c"):
        costs.add(name, "cheap")
    for name, cost in (("a", 100.0), ("b", 1.0), ("c", 2.0), ("c", 50.0)):
        costs.record(name, cost)
    assert costs.mean("cheap") == pytest.approx(1.5)


def test_metrics_count_capped_decisions_without_the_tenant(tmp_path):
    router = RouterSettings(tenant_cap=TenantCap(0.1, window=50, at_least=1))
    log = DecisionLog(tmp_path)
    service = DecisionService(ServiceSettings(CHAMPION, router, log=log))
    asked = ["Hi"] * 30
    insisted = decided(service, asked, tenant="shop-7", allowed=("frontier",))
    assert {one["tier"] for one in insisted} == {"frontier"}
    found = decided(service, QUERIES, tenant="shop-7")
    capped = sum(one["reason"] == "cap" for one in found)
    assert service.status()["traffic"]["reasons"].get("cap", 0) == capped
    assert b"shop-7" not in service.metrics.exposition("")[0]
    service.close()
    assert b'"tenant":"shop-7"' in (tmp_path / "decisions.jsonl").read_bytes().replace(b": ", b":")
