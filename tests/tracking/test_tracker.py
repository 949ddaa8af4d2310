"""The records of a run in MLflow, read back with its client."""

import json

import pytest

from querytier.tracking.tracker import REGISTERED_NAME

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def client(run_dir):
    return mlflow.MlflowClient(f"sqlite:///{run_dir}/mlflow.db")


@pytest.fixture(scope="module")
def run(client, run_dir):
    return client.get_run(json.loads((run_dir / "train" / "run.json").read_text())["run_id"])


def test_the_parent_run_has_params_metrics_dataset_and_files(client, run, run_dir):
    assert run.info.status == "FINISHED"
    assert run.data.params["train.target_frontier_rate"] == "0.3"
    assert "scored.jsonl" in run.data.params["prepare.logs"]
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert run.data.metrics["test_auroc"] == metrics["rows"][0]["auroc"]["value"]
    assert "baseline_shuffled_decisions.auroc" in run.data.metrics
    assert run.inputs.dataset_inputs[0].dataset.name == "scored.jsonl"
    paths = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"report.html", "metrics.json", "plots", "artifact"} <= paths


def test_every_candidate_is_a_child_run_and_the_chosen_one_is_marked(client, run, run_dir):
    children = client.search_runs(
        [run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'"
    )
    fitted = json.loads((run_dir / "train" / "fitted.json").read_text())
    names = {child.info.run_name: child for child in children}
    assert set(names) == {candidate["name"] for candidate in fitted["candidates"]}
    chosen = [name for name, child in names.items() if child.data.params["chosen"] == "True"]
    manifest = json.loads((run_dir / "model" / "manifest.json").read_text())
    assert chosen == [manifest["metrics"]["chosen"]]
    assert all("cv_auroc" in child.data.metrics for child in children)
    curve = client.get_metric_history(names[chosen[0]].info.run_id, "cv_gap_recovered")
    assert [(point.step, point.value) for point in curve][:: len(curve) - 1] == [(0, 0), (100, 1)]
    assert all(
        child.data.metrics["encoder_ms"] > 0
        for child in children
        if child.data.params["baseline"] == "False"
    )


def test_the_graph_is_registered_with_signature_example_and_aliases(
    client, run_dir, router, monkeypatch
):
    version = client.get_model_version_by_alias(REGISTERED_NAME, "challenger")
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics["gate"]["passed"]
    champion = client.get_model_version_by_alias(REGISTERED_NAME, "champion")
    assert champion.version == version.version
    assert version.tags["gate"] == "passed"
    assert version.tags["model_version"] == router.classifier.manifest.model_version
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)  # MLflow sets it, and for good
    mlflow.set_tracking_uri(client.tracking_uri)
    info = mlflow.models.get_model_info(f"models:/{REGISTERED_NAME}@champion")
    assert info.signature.inputs.input_names() == ["token_ids"]
    assert "p_frontier" in info.signature.outputs.input_names()
