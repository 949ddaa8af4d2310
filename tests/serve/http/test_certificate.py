"""A service whose certificate is refuted by outcomes falls back, and remembers it."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from querytier.classifier.export.certify_artifact import write_certificate
from querytier.classifier.manifest import Certificate
from querytier.serve import RouterSettings
from querytier.serve.http.service import DecisionService
from querytier.serve.http.settings import ServiceSettings
from served import ARTIFACT, serving, wait_until

EXPIRES = (datetime.now(UTC) + timedelta(days=365)).date().isoformat()


def certify(artifact, **details):
    """Send all queries cheap, and promise that at most a tenth of them need the frontier model."""
    known = {"risk": "needs_frontier", "alpha": 0.1, "expires": EXPIRES, **details}
    write_certificate(artifact, Certificate("granted", "a test", known), 2.0)


def reason(served):
    return served.result("/v1/decide", {"query": "Where is my order?"})["reason"]


@pytest.fixture
def artifact(tmp_path):
    folder = Path(shutil.copytree(ARTIFACT, tmp_path / "model"))
    certify(folder)
    return folder


def test_outcomes_withdraw_the_certificate_until_a_new_one(artifact, tmp_path):
    logs, errors = tmp_path / "logs", tmp_path / "errors.jsonl"
    with serving(
        artifact, "--watch", 0.1, "--log", logs, "--audit-rate", 1, errors=errors
    ) as served:
        told = break_promise(served)
        decision = served.result("/v1/decide", {"query": "Where is my order?"})
        assert (decision["tier"], decision["reason"]) == ("frontier", "fallback:certificate")
        assert (decision["audit"], decision["audit_propensity"]) == (False, 0.0)
        assert served.metric("querytier_certificate_withdrawn") == 1
        assert served.metric("querytier_retrain_due") == 1
        assert served.metric("querytier_audits_extra_calls_total", tier="frontier") == len(told)
        assert served.metric("querytier_audits_cost_total") == pytest.approx(0.02 * len(told))
        certificate = served.result("/v1/status")["certificate"]
        assert certificate["watch"]["state"] == "withdrawn"
        assert certificate["watch"]["wealth"] >= certificate["watch"]["needed"] == 20
        assert certificate["retrain_due"] is True
    assert "the certificate is withdrawn" in errors.read_text()
    with serving(artifact, "--watch", 0.1, "--log", logs) as served:
        assert reason(served) == "fallback:certificate", "even if nothing is audited now"
        assert served.metric("querytier_certificate_withdrawn") == 1
        certify(artifact, date="2031-05-07")
        wait_until(lambda: served.metric("querytier_reloads_total", result="success") >= 1)
        assert reason(served) == "classifier"
        assert served.metric("querytier_retrain_due") == 0
        assert served.metric("querytier_certificate_wealth") == 1
    lines = [json.loads(line) for line in (logs / "decisions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines if line["audit"]] == told


def break_promise(served):
    """Report a failed cheap answer for each audit until the certificate is withdrawn."""
    told = []
    for number in range(20):
        decision = served.result(
            "/v1/decide", {"query": f"query {number}", "conversation": f"c-{number}"}
        )
        if decision["reason"] != "classifier":
            return told
        assert decision["audit"] is True
        told.append(decision["id"])
        scores = {"cheap_score": 0, "frontier_score": 1}
        costs = {"cheap_cost": 0.001, "frontier_cost": 0.02}
        served.result("/v1/outcomes", {"id": decision["id"], **scores, **costs})
    raise AssertionError("twenty broken promises out of twenty, and it still serves")


def test_evidence_survives_a_restart_and_tensors_are_not_audited(artifact, tmp_path):
    rate = ("--audit-rate", 1, "--audit-level", 0.01)
    with serving(artifact, "--log", tmp_path / "logs", *rate) as served:
        inputs = [{"name": "query", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]
        served.result("/v2/models/querytier/infer", {"inputs": inputs})
        assert served.metric("querytier_audits_waiting") == 0
        batch = served.result("/v1/decide/batch", {"queries": ["a", "b", "c"]})["decisions"]
        assert all(one["audit"] for one in batch)
        served.result("/v1/outcomes", {"id": batch[1]["id"], "cheap_score": 0, "frontier_score": 1})
        assert served.metric("querytier_audits_taken_total") == 0, "the first holds it up"
        served.result("/v1/outcomes", {"id": batch[0]["id"], "cheap_score": 0, "frontier_score": 1})
        before = served.result("/v1/status")["certificate"]["watch"]
    assert (before["taken"], before["waiting"], before["needed"]) == (2, 1, 100)
    with serving(artifact, "--log", tmp_path / "logs", *rate) as served:
        assert served.result("/v1/status")["certificate"]["watch"] == before


def test_the_domain_of_a_request_reaches_router_and_watch(tmp_path):
    """Until the request could name a domain, slice certificates never applied over HTTP."""
    artifact = Path(shutil.copytree(ARTIFACT, tmp_path / "model"))
    certify(artifact, slices=[{"name": name, "status": "granted"} for name in ("law", "shop")])
    with serving(artifact, "--log", tmp_path / "logs", "--audit-rate", 1) as served:

        def decide(domain, cheap_score):
            decision = served.result(
                "/v1/decide", {"query": "Where is my order?", "domain": domain}
            )
            if decision["audit"]:
                scores = {"cheap_score": cheap_score, "frontier_score": 1}
                served.result("/v1/outcomes", {"id": decision["id"], **scores})
            return decision["reason"]

        assert decide("shop", 1) == "classifier"
        assert decide("medicine", 1) == "fallback:certificate"
        queries = {"queries": ["a", "b"], "domain": "medicine"}
        batch = served.result("/v1/decide/batch", queries)["decisions"]
        assert {one["reason"] for one in batch} == {"fallback:certificate"}
        for _ in range(30):
            decide("law", 0)
        assert decide("law", 0) == "fallback:certificate"
        assert served.result("/v1/status")["certificate"]["watch"]["state"] == "withdrawn"
    (journal,) = (tmp_path / "logs").glob("certificate-*.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert {line.get("domain") for line in lines if "audit" in line} == {"shop", "law"}


def test_an_audit_needs_a_log(artifact, call):
    code, _, errors = call("serve", "--artifact", artifact, "--audit-rate", "0.1")
    assert code == 2
    assert "add --log DIR" in errors
    code, _, errors = call(
        *("serve", "--artifact", artifact, "--log", artifact.parent / "logs"),
        *("--audit-rate", "0.1", "--audit-missing", "forgotten"),
    )
    assert code == 2
    assert "left_out or loss" in errors


def test_audits_without_a_certificate_are_warned_about(caplog):
    """A caller who expects audits should get a warning if there are none."""
    DecisionService(ServiceSettings(ARTIFACT, RouterSettings(audit_rate=0.5))).close()
    assert "nothing is audited: the certificate of this artifact is refused" in caplog.text
    caplog.clear()
    DecisionService(ServiceSettings(ARTIFACT, RouterSettings())).close()
    assert "nothing is audited" not in caplog.text
