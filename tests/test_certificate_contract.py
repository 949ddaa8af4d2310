"""The certificate's contract: in manifest and graph, for this artifact alone, until it lapses."""

import json
import logging
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.attempts import Attempts
from querytier.classifier.artifact import MODEL, file_sha256
from querytier.classifier.certificate import CERTIFICATE_KEY, expiry, mismatch
from querytier.classifier.certified import write_certificate
from querytier.classifier.graph_metadata import graph_sha256, read_metadata, write_metadata
from querytier.classifier.manifest import Certificate, dump_manifest
from querytier.classifier.protobuf import length_prefixed
from querytier.classifier.runtime import Classifier
from querytier.errors import ArtifactError
from querytier.serve import Router

TODAY = datetime.now(UTC).date()


def granted(folder, **details):
    """Certify an artifact at its own threshold, valid for a year unless told otherwise."""
    threshold = Classifier.load(folder).manifest.threshold
    expires = (TODAY + timedelta(days=365)).isoformat()
    known = {"alpha": 0.1, "threshold": threshold, "expires": expires, **details}
    return write_certificate(folder, Certificate("granted", "a test", known), threshold)


@pytest.fixture(scope="module")
def graph(tmp_path_factory, artifact):
    return shutil.copy2(artifact / MODEL, tmp_path_factory.mktemp("graph") / MODEL)


@given(st.text(max_size=300), st.text(min_size=1, max_size=20))
def test_metadata_is_read_back_replaced_and_not_hashed(graph, value, key):
    before, others = graph_sha256(graph), read_metadata(graph)
    key = f"test.{key}"
    write_metadata(graph, key, "an earlier value")
    write_metadata(graph, key, value)
    assert read_metadata(graph) == {**others, key: value}
    assert graph_sha256(graph) == before


def test_onnx_reads_the_metadata_and_what_it_computes_is_the_same(artifact, tmp_path):
    path = shutil.copy2(artifact / MODEL, tmp_path / MODEL)
    write_metadata(path, "a", "1")
    write_metadata(path, "b", "2")
    before, after = onnx.load(artifact / MODEL), onnx.load(path)
    found = {entry.key: entry.value for entry in after.metadata_props}
    assert (found["a"], found["b"]) == ("1", "2")
    assert before.graph == after.graph
    onnx.checker.check_model(after)


def test_every_other_byte_is_hashed(tmp_path):
    path = tmp_path / "g.onnx"
    model = length_prefixed(7, bytes(range(20, 40))) + length_prefixed(14, b"\x0a\x01a")
    hashes = set()
    for place in range(1, 22):
        changed = bytearray(model)
        changed[place] = changed[place] if place == 1 else changed[place] ^ 1
        path.write_bytes(bytes(changed))
        hashes.add(graph_sha256(path))
    assert len(hashes) == 21


def test_what_is_no_graph_has_no_hash(tmp_path):
    path = tmp_path / "g.onnx"
    path.write_bytes(b"\xff\xff\xff")
    with pytest.raises(ArtifactError, match="not an ONNX graph"):
        graph_sha256(path)


def test_manifest_and_graph_hold_the_same_certificate(artifact_copy):
    before = Classifier.load(artifact_copy).manifest
    manifest = granted(artifact_copy)
    written = json.loads(read_metadata(artifact_copy / MODEL)[CERTIFICATE_KEY])
    assert written["details"] == json.loads(json.dumps(manifest.certificate.details))
    hashes = manifest.certificate.details["hashes"]
    assert hashes["graph"] == graph_sha256(artifact_copy / MODEL)
    assert hashes["data"] == before.data["fingerprint"]
    assert manifest.model_version == before.model_version == hashes["graph"][:12]
    assert mismatch(artifact_copy, manifest) is None
    assert Router.load(artifact_copy).decide("Where is my order?").reason == "classifier"


def test_after_its_day_the_fallback_tier_answers_and_the_log_says_why(artifact_copy, caplog):
    granted(artifact_copy, expires="2020-02-02")
    with caplog.at_level(logging.WARNING):
        router = Router.load(artifact_copy)
    assert "it lapsed on 2020-02-02" in caplog.text
    assert "querytier certify" in caplog.text
    decision = router.decide("Hi")
    assert (decision.tier, decision.reason) == ("frontier", "fallback:certificate")
    assert decision.p_frontier is None


def test_a_certificate_lapses_while_the_router_runs(artifact_copy):
    granted(artifact_copy)
    router = replace(Router.load(artifact_copy), certified_until=time.time() + 0.3)
    assert router.decide("Hi").reason == "classifier"
    time.sleep(0.35)
    assert router.decide("Hi").reason == "fallback:certificate"


@pytest.mark.parametrize("part", ["graph", "threshold", "label rule", "metadata"])
def test_a_certificate_of_another_artifact_is_worth_nothing(artifact_copy, part, caplog):
    manifest = granted(artifact_copy)
    path = artifact_copy / MODEL
    if part == "graph":
        model = onnx.load(path)
        model.producer_name = "another"
        onnx.save(model, path)
    elif part == "threshold":
        manifest = replace(manifest, threshold=manifest.threshold + 0.01)
    elif part == "label rule":
        manifest = replace(manifest, label_rule={**manifest.label_rule, "ok_threshold": 0.9})
    else:
        write_metadata(path, CERTIFICATE_KEY, "{}")
    files = {**manifest.files, MODEL: file_sha256(path)}
    (artifact_copy / "manifest.json").write_text(dump_manifest(replace(manifest, files=files)))
    decision = Router.load(artifact_copy).decide("Hi")
    assert decision.reason == "fallback:certificate"
    assert "granted for another" in caplog.text


def test_a_refused_certificate_changes_nothing(artifact_copy):
    write_certificate(artifact_copy, Certificate("refused", "a test", {"expires": "2020-02-02"}))
    assert Router.load(artifact_copy).decide("Hi").reason == "classifier"


def test_domains_without_a_certificate_fall_back_where_the_caller_names_them(artifact_copy):
    slices = [{"name": "law", "status": "granted"}, {"name": "code", "status": "refused"}]
    granted(artifact_copy, slices=slices)
    router = Router.load(artifact_copy)
    assert router.decide("Hi").reason == "classifier"
    assert router.decide("Hi", domain="law").reason == "classifier"
    for domain in ("code", "never heard of"):
        decision = router.decide("Hi", domain=domain)
        assert (decision.tier, decision.reason) == ("frontier", "fallback:certificate")


def test_a_day_that_is_none_has_passed():
    assert expiry(Certificate("granted", "", {"expires": "soon"})) < 0


def test_verify_says_what_is_promised_until_when_and_ignores_that_it_has_passed(
    artifact_copy, call
):
    granted(artifact_copy, expires="2020-02-02")
    code, out, _ = call("artifact", "verify", artifact_copy)
    assert code == 0
    assert "certificate granted, until 2020-02-02" in out


def test_different_questions_of_the_same_rows_are_counted_and_the_same_one_once(tmp_path):
    attempts = Attempts(tmp_path)
    assert attempts.counted("rows", {"alpha": 0.1}) == 1
    assert attempts.counted("rows", {"alpha": 0.1}) == 1
    assert attempts.counted("rows", {"alpha": 0.05}) == 2
    assert attempts.counted("other rows", {"alpha": 0.05}) == 1
    assert Attempts(tmp_path).counted("rows", {"alpha": 0.2}) == 3
