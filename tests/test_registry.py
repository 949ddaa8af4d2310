"""The registry: whole artifacts by name, who was champion, and what was behind a decision."""

import json
import shutil

import pytest

from querytier.classifier.artifact import MANIFEST, artifact_files, file_sha256
from querytier.errors import UsageError
from querytier.model_uri import fetch_artifact, registered_at
from querytier.params import EvaluateParams, Params
from querytier.registry import REGISTERED_NAME
from querytier.serve import Router
from querytier.serve.decision_log import DecisionLog
from querytier.stages import evaluate_stage
from querytier.store import StoreError, open_store
from querytier.tracking import Tracker

mlflow = pytest.importorskip("mlflow")

CHAMPION = "models:/querytier@champion"
FEW_REPLICATES = Params(evaluate=EvaluateParams(bootstrap=100, latency_decisions=5))


@pytest.fixture(scope="module")
def registered(run_dir, tmp_path_factory):
    """Return a project with one run, registered as champion."""
    root = tmp_path_factory.mktemp("registry")
    for part in ("data", "train", "model"):
        shutil.copytree(run_dir / part, root / "run" / part)
    (root / "run" / "drift.json").write_text('{"drifted": true}')
    tracker = Tracker(root)
    with tracker.start("run", {}) as reference:
        reference.write(root / "run" / "train" / "run.json")
    evaluate_stage(root / "run", FEW_REPLICATES, tracker)
    return root


@pytest.fixture
def project(registered, monkeypatch, tmp_path):
    """Work in the project, with a cache of the test's own."""
    monkeypatch.chdir(registered)
    monkeypatch.setenv("QUERYTIER_CACHE", str(tmp_path / "cache"))
    return registered


@pytest.fixture
def champions(registered, tmp_path):
    """Return a copy of the project where versions 1, 2 and 3 were champion in turn."""
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(registered / "mlflow.db", root)
    with open_store(root) as registry:
        first = registry.named("1")
        for number in ("2", "3"):
            registry.client.create_model_version(REGISTERED_NAME, registry.location("1"))
            registry.introduce(number, {**first.tags, "model_version": number * 12})
            registry.judge(number, passed=True, reason="", promoted=True)
    return root


def champion_of(project):
    with open_store(project) as registry:
        return registry.champion().number


def test_a_registered_version_has_every_file_of_the_artifact_as_it_was_exported(project):
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
def test_what_is_whole_in_the_cache_is_not_fetched_again():
    file = fetch_artifact(CHAMPION) / MANIFEST
    before = file.stat().st_ino
    assert (fetch_artifact(CHAMPION) / MANIFEST).stat().st_ino == before


@pytest.mark.usefixtures("project")
def test_names_that_nothing_has_are_refused_with_those_there_are():
    with pytest.raises(UsageError, match=r"no registered version 'gold'; there are 1 \(@ch"):
        fetch_artifact("models:/querytier@gold")
    with pytest.raises(UsageError, match="names no registered version; say models:/querytier@"):
        fetch_artifact("models:/other/3")


def test_a_project_without_a_store_is_told_so_and_none_is_made(tmp_path):
    with pytest.raises(StoreError, match=r"mlflow.db does not exist; set MLFLOW_TRACKING_URI"):
        fetch_artifact(CHAMPION, tmp_path)
    assert not list(tmp_path.iterdir())


def test_tags_say_what_stands_behind_a_version(registered):
    manifest = json.loads((registered / "run" / "model" / MANIFEST).read_text())
    with open_store(registered) as registry:
        tags = registry.champion().tags
    assert tags["gate"] == "passed"
    assert tags["data_fingerprint"] == manifest["data"]["fingerprint"]
    assert tags["certificate"] == manifest["certificate"]["status"]
    assert tags["drift"] == "drifted"
    assert tags["promoted_at"]


def test_rolling_back_goes_from_champion_to_champion_until_there_is_none(call, champions):
    where = ("--project", champions)
    state = registered_at(CHAMPION, champions)
    code, out, _ = call("rollback", "--dry-run", *where)
    assert (code, "would serve version 2" in out, champion_of(champions)) == (0, True, "3")
    for number in ("2", "1"):
        code, out, _ = call("rollback", *where)
        assert (code, champion_of(champions)) == (0, number)
    assert registered_at(CHAMPION, champions) != state
    code, _, err = call("rollback", *where)
    assert (code, "name a version: --to VERSION" in err) == (2, True)
    with open_store(champions) as registry:
        assert registry.was_rolled_back("3" * 12)
    assert call("rollback", "--to", "3", *where)[0] == 0
    with open_store(champions) as registry:
        assert not registry.was_rolled_back("3" * 12)


def test_a_model_that_was_rolled_back_is_not_promoted_by_a_rerun(run_dir, tmp_path):
    tracker = Tracker(tmp_path)
    for part in ("data", "train", "model"):
        shutil.copytree(run_dir / part, tmp_path / "run" / part)
    with tracker.start("run", {}) as reference:
        reference.write(tmp_path / "run" / "train" / "run.json")
    for _ in range(2):
        evaluate_stage(tmp_path / "run", FEW_REPLICATES, tracker)
        client = tracker.registry().client
        client.set_model_version_tag(REGISTERED_NAME, "1", "rolled_back", "yesterday")
        client.delete_registered_model_alias(REGISTERED_NAME, "champion")
    (newest, _) = tracker.registry().versions()
    assert (newest.tags["gate"], "promoted_at" in newest.tags) == ("failed", False)
    assert "was rolled back" in newest.tags["gate_reason"]


@pytest.mark.usefixtures("project")
def test_a_decision_is_traced_to_version_run_data_and_certificate(call, tmp_path):
    with DecisionLog(tmp_path / "log") as log:
        name = log.append(Router.load(CHAMPION).decide("Hi"), "Hi")
        log.append_outcome(name, outcome=1.0)
    code, out, err = call("trace", name, "--log", tmp_path / "log", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["decision"]["query"] == "Hi"
    assert [one["outcome"] for one in found["outcomes"]] == [1.0]
    assert found["registered"]["version"] == "1"
    assert "champion" in found["registered"]["aliases"]
    assert found["registered"]["run_id"]
    assert found["registered"]["certificate"]["status"] == "refused"
    assert "registered\n  version            1" in call("trace", name, "--log", tmp_path / "log")[1]
    code, _, err = call("trace", "nobody", "--log", tmp_path / "log")
    assert (code, "no decision 'nobody'" in err) == (2, True)


def test_what_is_not_in_a_registry_is_traced_as_far_as_it_goes(call, router, tmp_path):
    with DecisionLog(tmp_path / "log") as log:
        name = log.append(router.decide("Hi"), "Hi")
    code, out, _ = call("trace", name, "--log", tmp_path / "log", "--project", tmp_path)
    assert (code, "query              Hi" in out, "missing: there is no registry" in out) == (
        1,
        True,
        True,
    )
