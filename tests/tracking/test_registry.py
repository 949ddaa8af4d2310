"""The registry: artifacts by name, champions and rollbacks, and the lineage of a decision."""

import asyncio
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from querytier.classifier.artifact import MANIFEST, artifact_files, file_sha256, verified_manifest
from querytier.classifier.manifest import load_manifest
from querytier.errors import UsageError
from querytier.loop.gate import run_gate
from querytier.pipeline.evaluate import evaluate_stage, version_tags
from querytier.pipeline.param_sections import GateParams
from querytier.pipeline.params import EvaluateParams, Params
from querytier.serve import Router
from querytier.serve.http.service import DecisionService
from querytier.serve.http.settings import ServiceSettings
from querytier.serve.log.decision_log import DecisionLog
from querytier.tracking.model_uri import fetch_artifact, registered_state
from querytier.tracking.registry import REGISTERED_NAME
from querytier.tracking.runs import RunReference
from querytier.tracking.store import StoreError, open_registry
from querytier.tracking.tracker import Tracker

mlflow = pytest.importorskip("mlflow")

CHAMPION = "models:/querytier@champion"
PARAMS = Params(
    evaluate=EvaluateParams(bootstrap=100, latency_decisions=5),
    gate=GateParams(bootstrap=100, fewest_rows=5, latency_queries=5),
)
OLD_MODEL = Path(__file__).parents[1] / "fixtures" / "artifacts" / "format-2"


def copy_of(run_dir, root):
    """Return a project with the finished run and its store; version 1 is champion."""
    for part in ("data", "train", "model"):
        shutil.copytree(run_dir / part, root / "run" / part)
    shutil.copy(run_dir / "mlflow.db", root)
    kept = root / "run" / "train" / "run.json"
    replace(RunReference.read(kept), tracking_uri=f"sqlite:///{root}/mlflow.db").write(kept)
    return root


@pytest.fixture(scope="module")
def registered(run_dir, tmp_path_factory):
    return copy_of(run_dir, tmp_path_factory.mktemp("registry"))


@pytest.fixture
def project(registered, monkeypatch, tmp_path):
    """Change to the project, with a cache for this test only."""
    monkeypatch.chdir(registered)
    monkeypatch.setenv("QUERYTIER_CACHE", str(tmp_path / "cache"))
    return registered


@pytest.fixture
def champions(registered, tmp_path):
    """Return a copy of the project in which versions 1, 2 and 3 became champion in turn."""
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(registered / "mlflow.db", root)
    with open_registry(root) as registry:
        first = registry.find("1")
        for number in ("2", "3"):
            registry.client.create_model_version(REGISTERED_NAME, registry.location("1"))
            registry.add_challenger(number, {**first.tags, "model_version": number * 12})
            registry.record_gate(number, passed=True, reason="")
    return root


def champion_of(project):
    with open_registry(project) as registry:
        return registry.champion().number


def test_a_registered_version_has_every_file_of_the_artifact(project):
    folder, source = fetch_artifact(CHAMPION), project / "run" / "model"
    names = [MANIFEST, *artifact_files(json.loads((source / MANIFEST).read_text())["input"])]
    assert all(file_sha256(folder / name) == file_sha256(source / name) for name in names)
    assert fetch_artifact("models:/querytier/1") == folder
    ours, theirs = Router.load(CHAMPION).decide("Hi"), Router.load(source).decide("Hi")
    assert ours.decision_score == theirs.decision_score


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("damage", ["unlink", "write"])
def test_a_damaged_cache_entry_is_fetched_again(damage):
    file = fetch_artifact(CHAMPION) / "golden.jsonl"
    whole = file.read_bytes()
    file.unlink() if damage == "unlink" else file.write_bytes(b"{}")
    assert fetch_artifact(CHAMPION).joinpath("golden.jsonl").read_bytes() == whole


@pytest.mark.usefixtures("project")
def test_a_complete_cache_entry_is_not_fetched_again():
    file = fetch_artifact(CHAMPION) / MANIFEST
    before = file.stat().st_ino
    assert (fetch_artifact(CHAMPION) / MANIFEST).stat().st_ino == before


@pytest.mark.usefixtures("project")
def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"no registered version 'gold'; there are 1 \(@ch"):
        fetch_artifact("models:/querytier@gold")
    with pytest.raises(UsageError, match="is not the name of a registered version; use models"):
        fetch_artifact("models:/other/3")


def test_a_project_without_a_store_is_an_error_and_none_is_created(tmp_path):
    with pytest.raises(StoreError, match=r"mlflow.db does not exist; set MLFLOW_TRACKING_URI"):
        fetch_artifact(CHAMPION, tmp_path)
    assert not list(tmp_path.iterdir())


def test_tags_record_gate_data_certificate_and_drift_of_a_version(registered):
    manifest = json.loads((registered / "run" / "model" / MANIFEST).read_text())
    with open_registry(registered) as registry:
        tags = registry.champion().tags
    assert tags["gate"] == "passed"
    assert tags["data_fingerprint"] == manifest["data"]["fingerprint"]
    assert tags["certificate"] == manifest["certificate"]["status"]
    assert tags["promoted_at"]
    (registered / "run" / "drift.json").write_text('{"drifted": true}')
    manifest = load_manifest((registered / "run" / "model" / MANIFEST).read_text())
    assert version_tags(registered / "run", manifest)["drift"] == "drifted"


def test_rollback_restores_one_champion_at_a_time(call, champions):
    where = ("--project", champions)
    state = registered_state(CHAMPION, champions)
    code, out, _ = call("rollback", "--dry-run", *where)
    assert (code, "would serve version 2" in out, champion_of(champions)) == (0, True, "3")
    for number in ("2", "1"):
        code, out, _ = call("rollback", *where)
        assert (code, champion_of(champions)) == (0, number)
    assert registered_state(CHAMPION, champions) != state
    code, _, err = call("rollback", *where)
    assert (code, "name a version: --to VERSION" in err) == (2, True)
    with open_registry(champions) as registry:
        assert registry.was_rolled_back("3" * 12)
    assert call("rollback", "--to", "3", *where)[0] == 0
    with open_registry(champions) as registry:
        assert not registry.was_rolled_back("3" * 12)


def test_a_version_that_failed_the_gate_is_not_promoted(champions):
    with open_registry(champions) as registry:
        registry.record_gate("1", passed=False, reason="worse")
        assert registry.find("1").tags["gate_reason"] == "worse"
    assert champion_of(champions) == "3"


def test_a_rollback_moves_the_link_of_a_loop(call, champions):
    made = champions / "rounds" / "0002" / "model"
    made.mkdir(parents=True)
    (made / MANIFEST).write_text(json.dumps({"model_version": "2" * 12}))
    code, out, _ = call("rollback", "--project", champions, "--json")
    assert (code, json.loads(out)["to"]) == (0, "2")
    assert (champions / "champion").resolve() == made.resolve()


def test_a_rolled_back_model_is_not_promoted_again(call, run_dir, tmp_path):
    project = copy_of(run_dir, tmp_path)
    old = load_manifest((OLD_MODEL / MANIFEST).read_text()).model_version
    with open_registry(project) as registry:
        registry.client.create_model_version(REGISTERED_NAME, registry.location("1"))
        registry.add_challenger(
            "2", {"model_version": old, "gate": "passed", "certificate": "refused"}
        )
        registry.record_gate("2", passed=True, reason="")
        registry.record_gate("1", passed=True, reason="")
    code, out, _ = call("rollback", "--project", project)
    assert (code, champion_of(project)) == (0, "2")
    assert f"serves version 2, model {old} (gate passed, certificate refused)" in out
    evaluate_stage(project / "run", PARAMS, Tracker(project))
    assert not run_gate(project / "run", OLD_MODEL, PARAMS.gate).gate.passed
    with open_registry(project) as registry:
        newest = registry.versions()[0]
    assert (newest.number, newest.aliases, champion_of(project)) == ("3", ("challenger",), "2")
    assert "was rolled back" in newest.tags["gate_reason"]


def test_missing_files_are_an_error_and_trace_reads_the_tags(call, champions, router, tmp_path):
    with open_registry(champions) as registry:
        registry.client.create_model_version(REGISTERED_NAME, str(champions / "nowhere"))
        registry.add_challenger("4", registry.find("1").tags)
    with pytest.raises(StoreError, match="nowhere could not be fetched from MLflow at sqlite"):
        fetch_artifact("models:/querytier@challenger", champions)
    with DecisionLog(tmp_path / "log") as log:
        name = log.append(router.decide("Hi"), "Hi")
    _, out, _ = call("trace", name, "--log", tmp_path / "log", "--project", champions, "--json")
    behind = json.loads(out)["registered"]
    assert (behind["version"], behind["other_versions"]) == ("4", ["1"])
    assert behind["certificate"]["status"] == "refused"
    assert behind["certificate"]["read_from"].startswith("the tags, as registered; manifest.json: ")


@pytest.mark.usefixtures("project")
def test_concurrent_fetches_end_with_one_complete_artifact():
    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(fetch_artifact, [CHAMPION] * 4))
    (folder,) = found
    verified_manifest(folder)
    assert list(folder.parent.iterdir()) == [folder]


def test_an_alias_moved_before_the_first_check_is_followed_once(
    call, champions, monkeypatch, tmp_path
):
    monkeypatch.chdir(champions)
    monkeypatch.setenv("QUERYTIER_CACHE", str(tmp_path / "cache"))
    service = DecisionService(ServiceSettings(CHAMPION, watch_s=0.01))
    assert call("rollback")[0] == 0

    def counts():
        value = service.metrics.registry.get_sample_value
        reloads = value("querytier_reloads_total", {"result": "success"})
        return reloads, value("querytier_failed_look_ups_total")

    async def follow_until(holds):
        following = asyncio.create_task(service.follow_artifact())
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 a metric is no event
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # in which it must not reload again
        following.cancel()

    asyncio.run(follow_until(lambda: counts()[0]))
    assert counts() == (1, 0)
    (champions / "mlflow.db").unlink()
    asyncio.run(follow_until(lambda: counts()[1] > 1))
    assert counts()[0] == 1
    service.close()


def test_a_decision_is_traced_to_version_run_data_and_certificate(call, project, tmp_path):
    with DecisionLog(tmp_path / "log") as log:
        name = log.append(Router.load(CHAMPION).decide("Hi"), "Hi")
        log.append_outcome(name, outcome=1.0)
    code, out, err = call("trace", name, "--log", tmp_path / "log", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["decision"]["query"] == "Hi"
    assert [one["outcome"] for one in found["outcomes"]] == [1.0]
    behind = found["registered"]
    assert (behind["version"], behind["aliases"]) == ("1", ["challenger", "champion"])
    manifest = load_manifest((project / "run" / "model" / MANIFEST).read_text())
    assert behind["run_id"] == RunReference.read(project / "run" / "train" / "run.json").run_id
    assert behind["data_fingerprint"] == manifest.data["fingerprint"]
    assert behind["certificate"]["reason"] == manifest.certificate.reason
    assert behind["certificate"]["read_from"] == "manifest.json of version 1"
    tree = call("trace", name, "--log", tmp_path / "log")[1].splitlines()
    assert [line for line in tree if not line.startswith(" ")] == [
        "decision",
        "outcome 1",
        "registered",
    ]
    assert "  aliases            challenger, champion" in tree
    assert "    read_from          manifest.json of version 1" in tree
    code, _, err = call("trace", "nobody", "--log", tmp_path / "log")
    assert (code, "no decision 'nobody'" in err) == (2, True)


def test_a_decision_without_a_registry_is_traced_partly(call, router, tmp_path):
    with DecisionLog(tmp_path / "log") as log:
        name = log.append(router.decide("Hi"), "Hi")
    code, out, _ = call("trace", name, "--log", tmp_path / "log", "--project", tmp_path)
    assert (code, "query              Hi" in out, "missing: there is no registry" in out) == (
        1,
        True,
        True,
    )
