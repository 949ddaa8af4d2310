"""`querytier certify` and `sample-size`: the promise is written into the artifact."""

import json
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from querytier.classifier.export.certify_artifact import write_certificate
from querytier.classifier.golden import replay_golden
from querytier.classifier.manifest import Certificate
from querytier.classifier.runtime import Classifier
from querytier.serve import Router


@pytest.fixture
def certifiable(run_dir, tmp_path):
    """Return a run whose training rows are also used to calibrate and certify."""
    folder = tmp_path / "run"
    for part in ("data", "model"):
        shutil.copytree(run_dir / part, folder / part)
    path = folder / "data" / "examples.parquet"
    table = pq.read_table(path)
    groups = {name: place for place, name in enumerate(sorted(set(table["group"].to_pylist())))}
    places = [groups[name] % 2 for name in table["group"].to_pylist()]
    splits = [("calibration", "certification")[place] for place in places]
    at = table.schema.get_field_index("split")
    pq.write_table(table.set_column(at, "split", pa.array(splits, pa.string())), path)
    return folder


def manifest_of(folder):
    return Classifier.load(folder / "model").manifest


def test_a_granted_certificate_and_its_threshold_are_in_the_artifact(certifiable, call):
    code, out, _ = call("certify", certifiable, "--alpha", "0.6", "--delta", "0.1", "--json")
    assert code == 0
    found = json.loads(out)
    manifest = manifest_of(certifiable)
    assert found["status"] == manifest.certificate.status == "granted"
    assert manifest.threshold == found["threshold"]
    assert manifest.certificate.details["bound"] == found["bound"] <= 0.6
    details = manifest.certificate.details
    assert set(details) >= {"alpha", "delta", "n", "k", "hashes", "date", "expires"}
    assert found["attempts"] == details["attempts"] == 1
    code, out, _ = call("certify", certifiable, "--alpha", "0.65", "--delta", "0.1")
    assert "attempt 2 on these certification rows" in out
    again = manifest_of(certifiable).certificate
    assert again.reason.endswith("the probability that any of the 2 is wrong is up to 0.2")
    assert again.details["any_wrong"] == pytest.approx(0.2)
    replayed = replay_golden(
        Classifier.load(certifiable / "model"), certifiable / "model" / "golden.jsonl"
    )
    assert replayed.vectors >= 200
    assert "certificate | granted" in (certifiable / "model" / "README.md").read_text()


def test_annotations_are_refused_before_any_query_is_decided(certifiable, call):
    path = certifiable / "data" / "examples.parquet"
    table = pq.read_table(path)
    at, nulls = table.schema.get_field_index("cheap_score"), pa.nulls(len(table), pa.float64())
    pq.write_table(table.set_column(at, "cheap_score", nulls), path)
    code, out, err = call("certify", certifiable, "--alpha", "0.6")
    assert (code, "the labels are annotations" in out) == (1, True)
    assert "decide:" not in err
    params = certifiable / "params.yaml"
    params.write_text("certify: {labels_are_outcomes: true}")
    code, _, err = call("certify", certifiable, "--alpha", "0.6", "--params", params)
    assert (code, "decide:" in err) == (0, True)


def test_a_refusal_restores_the_old_threshold(certifiable, call):
    by_rate = manifest_of(certifiable).threshold
    assert call("certify", certifiable, "--alpha", "0.6")[0] == 0
    assert manifest_of(certifiable).threshold != by_rate
    assert call("certify", certifiable, "--alpha", "0.01", "--delta", "0.05")[0] == 1
    manifest = manifest_of(certifiable)
    assert (manifest.certificate.status, manifest.threshold) == ("refused", by_rate)
    rate = manifest.metrics["target_frontier_rate"]
    card = (certifiable / "model" / "README.md").read_text()
    assert f"sends {rate:.0%} of the calibration rows to the frontier tier" in card


def test_a_refusal_is_an_exit_code_and_leaves_the_threshold(certifiable, call):
    before = manifest_of(certifiable)
    code, out, _ = call("certify", certifiable, "--alpha", "0.01", "--delta", "0.05")
    assert code == 1
    assert "refused: " in out
    manifest = manifest_of(certifiable)
    assert (manifest.certificate.status, manifest.threshold) == ("refused", before.threshold)
    assert manifest.certificate.reason in out
    assert manifest.model_version == before.model_version


def test_an_expired_certificate_is_renewed_by_the_same_question(certifiable, call):
    """Its router sends everything to the fallback tier; its classifier still has scores."""
    asked = ("certify", certifiable, "--alpha", "0.6", "--delta", "0.2")
    assert call(*asked)[0] == 0
    first = manifest_of(certifiable)
    details = {**first.certificate.details, "expires": "2020-02-02"}
    lapsed = replace(first.certificate, details=details)
    write_certificate(certifiable / "model", lapsed, first.threshold)
    assert Router.load(certifiable / "model").decide("Hi").reason == "fallback:certificate"
    assert call(*asked)[0] == 0
    second = manifest_of(certifiable)
    assert (second.threshold, second.certificate) == (first.threshold, first.certificate)
    assert Router.load(certifiable / "model").decide("Hi").reason == "classifier"


def test_rows_that_the_artifact_may_have_learned_from_certify_nothing(certifiable, call):
    path = certifiable / "data" / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fingerprint": "0" * 64}))
    for verb in (("certify",), ("sample-size", "--target-cheap-share", "0.5")):
        code, _, err = call(*verb, certifiable, "--alpha", "0.6")
        assert code == 2
        assert "was not trained on the data in" in err
    assert not (certifiable / "certifications.jsonl").exists()


def test_the_card_names_the_rule_that_chose_the_threshold(certifiable, call):
    card = certifiable / "model" / "README.md"
    assert "of the calibration rows to the frontier tier" in card.read_text()
    call("certify", certifiable, "--alpha", "0.6")
    assert "of the certification rows to the cheap tier" in card.read_text()


def test_a_run_without_rows_to_certify_on_is_refused_with_the_reason(run_dir, tmp_path, call):
    folder = shutil.copytree(run_dir, tmp_path / "run")
    code, out, _ = call("certify", folder, "--alpha", "0.1")
    assert code == 1
    assert "0 calibration rows in separate groups" in out


def test_a_plan_says_what_is_missing_and_what_it_costs(certifiable, call):
    options = ["--target-cheap-share=0.5", "--alpha=0.3", "--price-per-label=0.25", "--json"]
    code, out, _ = call("sample-size", certifiable, *options)
    assert code == 0
    found = json.loads(out)
    assert found["status"] in {"reachable", "unreachable"}
    if found["more"] is not None:
        assert found["price"] == pytest.approx(0.25 * found["more"])
    code, out, _ = call(
        "sample-size", certifiable, "--target-cheap-share", "0.9", "--alpha", "0.01"
    )
    assert (code, "unreachable: " in out) == (0, True)


def test_a_run_that_is_not_prepared_cannot_be_certified(tmp_path, call):
    code, _, err = call("certify", tmp_path, "--alpha", "0.1")
    assert code == 2
    assert "has no prepared data" in err


def test_a_promise_needs_a_risk(run_dir, call):
    code, _, err = call("certify", run_dir)
    assert code == 2
    assert "give --alpha, such as 0.1" in err


def test_a_changed_certificate_does_not_change_graph_and_scores(artifact_copy):
    query = "Plan a garden of 6 by 4 metres."
    before = Router.load(artifact_copy).decide(query)
    write_certificate(artifact_copy, Certificate("granted", "a test", {"alpha": 0.1}), 2.0)
    after = Router.load(artifact_copy).decide(query)
    assert (after.decision_score, after.model_version) == (
        before.decision_score,
        before.model_version,
    )
    assert (after.tier, after.threshold) == ("cheap", 2.0)
