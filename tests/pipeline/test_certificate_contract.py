"""The certificate's contract: in manifest and graph, for this artifact only, until it expires."""

import hashlib
import json
import logging
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.classifier.artifact import MODEL, file_sha256
from querytier.classifier.certificate import CERTIFICATE_KEY, expiry, mismatch
from querytier.classifier.export.certify_artifact import write_certificate
from querytier.classifier.graph_file import (
    graph_sha256,
    length_prefixed,
    read_metadata,
    write_metadata,
)
from querytier.classifier.manifest import Certificate, dump_manifest
from querytier.classifier.runtime import Classifier
from querytier.errors import ArtifactError
from querytier.pipeline.certification import Attempt, record_attempt
from querytier.pipeline.scoring import load_for_evaluation
from querytier.serve import Router

FORMATS = Path(__file__).parents[1] / "fixtures" / "artifacts"
TODAY = datetime.now(UTC).date()


def granted(folder, **details):
    """Certify an artifact at its own threshold, valid for a year unless told otherwise."""
    threshold = Classifier.load(folder).manifest.threshold
    expires = (TODAY + timedelta(days=365)).isoformat()
    known = {"alpha": 0.1, "threshold": threshold, "expires": expires, **details}
    return write_certificate(folder, Certificate("granted", "a test", known), threshold)


@pytest.fixture
def artifact_copy(tmp_path):
    """Return a small artifact that a test may damage."""
    return Path(shutil.copytree(FORMATS / "format-2", tmp_path / "model"))


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return shutil.copy2(FORMATS / "format-2" / MODEL, tmp_path_factory.mktemp("graph") / MODEL)


@given(st.text(max_size=300), st.text(min_size=1, max_size=20))
def test_metadata_is_read_back_replaced_and_not_hashed(graph, value, key):
    before, others = graph_sha256(graph), read_metadata(graph)
    key = f"test.{key}"
    write_metadata(graph, key, "an earlier value")
    write_metadata(graph, key, value)
    assert read_metadata(graph) == {**others, key: value}
    assert graph_sha256(graph) == before


def test_onnx_reads_the_metadata_and_computes_the_same_scores(artifact, tmp_path):
    path = shutil.copy2(artifact / MODEL, tmp_path / MODEL)
    write_metadata(path, "a", "1")
    write_metadata(path, "b", "2")
    before, after = onnx.load(artifact / MODEL), onnx.load(path)
    found = {entry.key: entry.value for entry in after.metadata_props}
    assert (found["a"], found["b"]) == ("1", "2")
    assert before.graph == after.graph
    onnx.checker.check_model(after)


def test_all_other_bytes_are_hashed(tmp_path):
    path = tmp_path / "g.onnx"
    model = length_prefixed(7, bytes(range(20, 40))) + length_prefixed(14, b"\x0a\x01a")
    hashes = set()
    for place in range(1, 22):
        changed = bytearray(model)
        changed[place] = changed[place] if place == 1 else changed[place] ^ 1
        path.write_bytes(bytes(changed))
        hashes.add(graph_sha256(path))
    assert len(hashes) == 21


FIELDS = st.one_of(
    st.builds(length_prefixed, st.sampled_from([1, 7, 8, 9]), st.binary(max_size=40)),
    # Values that attributes list, in long runs that the walk over a graph skips.
    st.sampled_from([b"\x3d\x00\x01\x02\x03", b"\x40\x05", b"\x4a\x02ab"]),
)
ENTRIES = st.builds(
    lambda key: length_prefixed(14, length_prefixed(1, key.encode())), st.text(max_size=9)
)


@given(st.lists(st.tuples(st.booleans(), FIELDS, ENTRIES), min_size=1, max_size=9))
def test_the_hash_covers_all_bytes_but_the_metadata(fields):
    parts = [(entry, b"") if is_entry else (field, field) for is_entry, field, entry in fields]
    with TemporaryDirectory() as folder:
        path = Path(folder, "g.onnx")
        path.write_bytes(length_prefixed(7, b"graph") + b"".join(whole for whole, _ in parts))
        expected = length_prefixed(7, b"graph") + b"".join(hashed for _, hashed in parts)
        assert graph_sha256(path) == hashlib.sha256(expected).hexdigest()
        write_metadata(path, "key", "value")
        assert graph_sha256(path) == hashlib.sha256(expected).hexdigest()


def test_a_file_that_is_not_a_graph_has_no_hash(tmp_path):
    path = tmp_path / "g.onnx"
    path.write_bytes(b"\xff\xff\xff")
    with pytest.raises(ArtifactError, match="not an ONNX graph"):
        graph_sha256(path)


def test_manifest_and_graph_contain_the_same_certificate(artifact_copy):
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
    assert "it expired on 2020-02-02" in caplog.text
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
def test_a_certificate_of_another_artifact_does_not_count(artifact_copy, part, caplog):
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


def test_a_named_domain_without_a_certificate_falls_back(artifact_copy):
    slices = [{"name": "law", "status": "granted"}, {"name": "code", "status": "refused"}]
    granted(artifact_copy, slices=slices)
    router = Router.load(artifact_copy)
    assert router.decide("Hi").reason == "classifier"
    assert router.decide("Hi", domain="law").reason == "classifier"
    for domain in ("code", "never heard of"):
        decision = router.decide("Hi", domain=domain)
        assert (decision.tier, decision.reason) == ("frontier", "fallback:certificate")


def test_an_invalid_day_counts_as_passed():
    assert expiry(Certificate("granted", "", {"expires": "soon"})) < 0


def test_verify_reports_an_expired_certificate_and_succeeds(artifact_copy, call):
    granted(artifact_copy, expires="2020-02-02")
    code, out, _ = call("artifact", "verify", artifact_copy)
    assert code == 0
    assert "certificate granted, but expired on 2020-02-02" in out
    granted(artifact_copy, expires="2999-02-02")
    assert (
        "certificate granted, valid until 2999-02-02"
        in call("artifact", "verify", artifact_copy)[1]
    )
    write_certificate(artifact_copy, Certificate("refused", "a test"))
    assert "certificate refused: a test" in call("artifact", "verify", artifact_copy)[1]


@pytest.mark.parametrize("version", [1, 2])
def test_artifacts_of_older_formats_decide_and_can_be_certified(version, tmp_path, caplog):
    folder = shutil.copytree(FORMATS / f"format-{version}", tmp_path / "model")
    before = Router.load(folder).decide("Where is my order?")
    assert (before.reason, caplog.text) == ("classifier", "")
    manifest = granted(folder)
    assert manifest.model_version == before.model_version
    after = Router.load(folder).decide("Where is my order?")
    assert (after.reason, after.decision_score) == ("classifier", before.decision_score)


def test_a_certificate_without_hashes_and_expiry_is_accepted(artifact_copy, caplog):
    manifest = Classifier.load(artifact_copy).manifest
    old = replace(manifest, certificate=Certificate("granted", "a test", {"threshold": 0.1}))
    (artifact_copy / "manifest.json").write_text(dump_manifest(old))
    assert Router.load(artifact_copy).decide("Hi").reason == "classifier"
    assert not caplog.text


def test_an_expired_artifact_is_evaluated_by_its_classifier(artifact_copy):
    granted(artifact_copy, expires="2020-02-02")
    assert Router.load(artifact_copy).decide("Hi").reason == "fallback:certificate"
    assert load_for_evaluation(artifact_copy).decide("Hi").reason == "classifier"


def question(**changes):
    asked = {"data": "rows", "model_version": "a", "risk": "needs_frontier", "alpha": 0.1}
    return {**asked, "delta": 0.1, "slices": (), "seed": 17, **changes}


def test_different_questions_on_the_same_rows_are_attempts(tmp_path):
    assert record_attempt(tmp_path, question(), {"date": "2026-01-01"}).number == 1
    assert record_attempt(tmp_path, question(), {"date": "2026-01-02"}).number == 1
    assert record_attempt(tmp_path, question(alpha=0.05), {}).number == 2
    assert record_attempt(tmp_path, question(data="other rows"), {}).number == 1
    assert record_attempt(tmp_path, question(model_version="b"), {}).number == 3
    assert len((tmp_path / "certifications.jsonl").read_text().splitlines()) == 5


@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=6, unique=True))
def test_deltas_of_several_attempts_add_up(deltas):
    with TemporaryDirectory() as folder:
        for delta in deltas:
            found = record_attempt(Path(folder), question(delta=delta), {})
        assert found == Attempt(len(deltas), min(1.0, sum(deltas)))
