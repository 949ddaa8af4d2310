"""`querytier gate` on two runs of one store: the rows and models that it compares."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from blank import blank_examples
from querytier.classifier.export.certify_artifact import write_certificate
from querytier.classifier.manifest import Certificate
from querytier.classifier.model.calibrator import Calibrator
from querytier.data.examples import Examples
from querytier.data.leakage import rows_id
from querytier.errors import UsageError
from querytier.eval.gate.comparisons import Contender
from querytier.eval.rankings import Ranking
from querytier.loop.contenders import (
    Champion,
    PairedScores,
    interleaved_latencies,
    load_challenger,
    load_champion,
    unseen_test_rows,
)
from querytier.pipeline.evaluate import evaluate_stage
from querytier.pipeline.export import export_stage
from querytier.pipeline.params import read_params
from querytier.serve import Router
from querytier.tracking.tracker import REGISTERED_NAME, RunReference, Tracker
from querytier.training.fit import FittedClassifier

mlflow = pytest.importorskip("mlflow")

CHECKS = [
    "quality at matched cost",
    "calibration",
    "worst slice",
    "latency",
    "superior on calibration",
]
PARAMS = """
gate: {fewest_rows: 20, fewest_slice_rows: 15, bootstrap: 200, latency_margin: 9,
  latency_queries: 20, superior_on: calibration}
"""


@pytest.fixture(scope="module")
def evaluated(run_dir, small_params, empty_store, tmp_path_factory):
    """Return two runs of one store: the champion with weak probabilities, and a strong challenger.

    They rank alike: the ranking is by gain, which is not calibrated.
    """
    root, params = tmp_path_factory.mktemp("gate"), read_params(small_params)
    shutil.copy(empty_store, root)
    tracker = Tracker(root)
    for name in ("weak", "strong"):
        for part in ("data", "train", "model"):
            shutil.copytree(run_dir / part, root / name / part)
        with tracker.start(name, {}) as reference:
            reference.write(root / name / "train" / "run.json")
    fitted = FittedClassifier.read(root / "weak" / "train")
    heads = replace(fitted.heads, calibrator=Calibrator(0.1, 0.1, 0.0))
    replace(fitted, heads=heads).write(root / "weak" / "train")
    export_stage(root / "weak", params, tracker)
    for name in ("weak", "strong"):
        evaluate_stage(root / name, params, tracker)
    return root


@pytest.fixture
def store(evaluated, tmp_path):
    """Return a copy of the folder that a test may change, with a store of its own."""
    logged = shutil.ignore_patterns("mlartifacts", "*.html")
    root = shutil.copytree(evaluated, tmp_path / "store", ignore=logged)
    for name in ("weak", "strong"):
        path = root / name / "train" / "run.json"
        before = RunReference.read(path)
        replace(before, tracking_uri=f"sqlite:///{root}/mlflow.db").write(path)
    (root / "params.yaml").write_text(PARAMS)
    return root


@pytest.fixture
def gate(call, store):
    """Return a function that runs the gate on two folders of the store."""

    def run(champion, challenger, *more):
        named = [] if champion is None else ["--champion", store / champion]
        params = ["--params", store / "params.yaml"]
        return call("gate", *named, "--challenger", store / challenger, *params, *more)

    return run


def client_of(store):
    return mlflow.MlflowClient(f"sqlite:///{store}/mlflow.db")


def champion_of(store):
    return client_of(store).get_model_version_by_alias(REGISTERED_NAME, "champion")


def model_version_of(folder):
    return json.loads((folder / "model" / "manifest.json").read_text())["model_version"]


def run_of(store, name):
    return client_of(store).get_run(RunReference.read(store / name / "train" / "run.json").run_id)


def test_an_evaluation_keeps_the_champion_and_names_the_gate_command(store):
    assert champion_of(store).tags["model_version"] == model_version_of(store / "weak")
    strong = client_of(store).get_model_version_by_alias(REGISTERED_NAME, "challenger")
    assert strong.tags["model_version"] == model_version_of(store / "strong")
    assert strong.tags["gate"] == "passed"
    metrics = json.loads((store / "strong" / "metrics.json").read_text())
    assert metrics["gate"]["passed"]
    assert "`querytier gate --champion DIR --challenger " in metrics["gate"]["reason"]
    assert metrics["gate"]["reason"] == strong.tags["gate_reason"]


def test_an_evaluation_counts_as_a_use_of_its_test_rows(store):
    uses = [
        json.loads((store / name / "metrics.json").read_text())["test_uses"]
        for name in ("weak", "strong")
    ]
    assert uses == [1, 2]
    tags = [run_of(store, name).data.tags["test_rows"] for name in ("weak", "strong")]
    test = Examples.read_parquet(store / "weak" / "data" / "examples.parquet").of_split("test")
    assert tags == [rows_id(test)] * 2


def test_a_challenger_that_passes_becomes_champion(gate, store):
    code, out, err = gate("weak", "strong")
    assert code == 0, err
    for check in CHECKS:
        assert check in out
    assert "47 of the challenger's 47 test rows" in out
    assert "use number 3 of these test rows" in out
    assert f"gate result: {store / 'strong' / 'gate.json'}" in out
    champion = champion_of(store)
    assert champion.tags["model_version"] == model_version_of(store / "strong")
    assert champion.tags["gate"] == "passed"
    assert champion.tags["gate_reason"].startswith("quality at matched cost")
    assert run_of(store, "strong").data.tags["gate_reason"] == champion.tags["gate_reason"]
    verdict = json.loads((store / "strong" / "gate.json").read_text())
    assert verdict["passed"]
    assert verdict["rows"] == {"test": 47, "left_out": 0, "used": 47, "groups": 47}
    assert [check["margin"] for check in verdict["checks"]] == [0.01, 0.01, 0.05, 9.0, 0.0]
    (use,) = client_of(store).search_runs(["1"], "tags.`mlflow.runName` = 'gate'")
    assert use.info.status == "FINISHED"
    assert use.data.tags["champion"] == verdict["champion"]["model_version"]
    assert use.data.tags["challenger"] == verdict["challenger"]["model_version"]
    assert use.data.tags["test_rows"] == verdict["test_rows"]
    assert use.data.metrics["calibration"] == verdict["checks"][1]["estimate"]
    assert use.data.params["superior_on"] == "calibration"
    code, _, err = gate("weak/model", "weak")
    assert (code, "champion is another one" in err) == (2, True)


def test_a_failed_challenger_leaves_the_champion_and_counts_as_a_use(gate, store):
    before = champion_of(store).version
    for uses in (3, 4):
        code, out, _ = gate("weak/model", "weak", "--json")
        verdict = json.loads(out)
        assert (code, verdict["passed"], verdict["test_uses"]) == (1, False, uses)
    assert verdict["champion"]["learned_from"] == "the challenger's data, in the same splits"
    assert [check["passed"] for check in verdict["checks"]][::4] == [True, False]
    champion = champion_of(store)
    assert (champion.version, champion.tags["gate"]) == (before, "failed")
    assert run_of(store, "weak").data.tags["gate"] == "failed"


def test_a_run_with_a_store_of_its_own_can_be_compared(call, store, run_dir):
    own = shutil.copytree(run_dir, store / "own")
    reference = RunReference.read(own / "train" / "run.json")
    replace(reference, tracking_uri=f"sqlite:///{own}/mlflow.db").write(own / "train" / "run.json")
    params = store / "params.yaml"
    params.write_text(PARAMS.replace("on: calibration", "on: auroc"))
    named = ["--champion", store / "weak", "--challenger", own]
    code, out, _ = call("gate", *named, "--params", params)
    assert (code, "champion need one store (MLFLOW_TRACKING_URI" in out) == (1, True)
    verdict = json.loads((own / "gate.json").read_text())
    assert verdict["registered_champion"] == model_version_of(own)


def test_a_use_whose_run_is_deleted_still_counts(gate, store):
    assert gate("weak", "weak")[0] == 1
    client = client_of(store)
    (use,) = client.search_runs(["1"], "tags.`mlflow.runName` = 'gate'")
    client.delete_run(use.info.run_id)
    assert json.loads(gate("weak", "weak", "--json")[1])["test_uses"] == 4


def test_a_registered_champion_has_to_be_named(gate, store):
    code, _, err = gate(None, "strong")
    assert (code, "name its folder: --champion DIR" in err) == (2, True)
    assert champion_of(store).tags["model_version"] == model_version_of(store / "weak")


def test_without_a_champion_the_challenger_is_checked_by_itself(gate, store):
    client_of(store).delete_registered_model_alias(REGISTERED_NAME, "champion")
    code, out, _ = gate(None, "strong")
    assert code == 0
    assert "better than the keyword heuristic" in out
    assert champion_of(store).tags["model_version"] == model_version_of(store / "strong")


def test_rows_that_the_champion_learned_from_are_left_out(store):
    challenger = load_challenger(store / "strong")
    test = challenger.test
    learned = test.where(np.arange(len(test)) % 2 == 0)
    champion = Champion(store / "weak", challenger.router, learned, "its run's data")
    rows = unseen_test_rows(challenger, champion, 20)
    assert set(rows.examples.id) == set(test.id) - set(learned.id)
    assert rows.counts()["left_out"] == len(learned)
    assert rows.name == rows_id(test)
    with pytest.raises(UsageError, match=r"23 of the 47 test rows .* trained on 24; at least 24"):
        unseen_test_rows(challenger, champion, 24)


def test_a_champion_trained_on_unknown_data_is_reported_as_such(store):
    challenger = load_challenger(store / "strong")
    router = challenger.router
    data = {**router.classifier.manifest.data, "fingerprint": "0" * 64}
    manifest = replace(router.classifier.manifest, data=data)
    other = replace(router, classifier=replace(router.classifier, manifest=manifest))
    champion = load_champion(store / "weak" / "model", replace(challenger, router=other))
    assert champion.training_rows is None
    assert champion.training_data.startswith("unknown: it may include these rows (fingerprint")


def test_a_lapsed_certificate_of_the_champion_does_not_matter(store):
    lapsed = Certificate("granted", "long ago", {"expires": "2020-01-01"})
    write_certificate(store / "weak" / "model", lapsed, None)
    assert Router.load(store / "weak" / "model").decide("Hi").reason == "fallback:certificate"
    champion = load_champion(store / "weak", load_challenger(store / "strong"))
    assert champion.router.decide("Hi").reason == "classifier"


def test_too_few_rows_are_refused_before_they_are_used(call, store):
    named = ["--champion", store / "weak", "--challenger", store / "strong"]
    code, _, err = call("gate", *named)
    assert code == 2
    assert "47 of the 47 test rows" in err
    assert "at least 200 are needed (gate.fewest_rows)" in err
    assert not (store / "strong" / "gate.json").exists()
    assert not client_of(store).search_runs(["1"], "tags.`mlflow.runName` = 'gate'")


def test_a_challenger_that_is_not_registered_is_refused(gate, store):
    client = client_of(store)
    strong = client.get_model_version_by_alias(REGISTERED_NAME, "challenger")
    client.delete_model_version(REGISTERED_NAME, strong.version)
    code, _, err = gate("weak", "strong")
    assert code == 2
    assert "is not registered at sqlite:///" in err
    assert "run `querytier evaluate" in err


def test_data_prepared_again_after_training_are_refused(gate, store):
    path = store / "strong" / "data" / "summary.json"
    path.write_text(path.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    for pair in (("weak", "strong"), ("strong", "weak")):
        code, _, err = gate(*pair)
        assert code == 2
        assert re.search("model was not trained on the data in", err)


def test_a_challenger_has_to_be_a_run(gate):
    code, _, err = gate("weak", "strong/model")
    assert (code, "give the folder that was --out of a run" in err) == (2, True)


def test_a_store_that_moved_or_is_gone_is_refused(gate, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////elsewhere/mlflow.db")
    code, _, err = gate("weak", "strong")
    assert (code, "set MLFLOW_TRACKING_URI to that address" in err) == (1, True)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (store / "mlflow.db").unlink()
    code, _, err = gate("weak", "strong")
    assert (code, "which is gone; put it back" in err) == (1, True)
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_rows_of_both_contenders_are_selected_together():
    examples = blank_examples(id=["a", "b", "c"], needs_frontier=[0, 1, 1])
    scores = np.array([0.1, 0.2, 0.3])
    champion = Contender(Ranking("champion", scores, scores, ""), 0.5, np.ones(2))
    challenger = Contender(Ranking("challenger", -scores, 1 - scores, ""), 0.4, np.ones(2))
    part = PairedScores(examples, champion, challenger).where(np.array([True, False, True]))
    assert part.examples.id.tolist() == ["a", "c"]
    assert part.champion.ranking.scores.tolist() == [0.1, 0.3]
    assert part.challenger.ranking.probabilities.tolist() == [0.9, 0.7]
    assert (part.challenger.threshold, len(part.challenger.latencies)) == (0.4, 2)


def test_the_routers_take_turns_in_being_timed_first(router):
    calls = []

    class Recording:
        def __init__(self, name):
            self.name = name

        def decide(self, query):
            calls.append(self.name)
            return router.decide(query)

    times = interleaved_latencies(Recording("a"), Recording("b"), ["one", "two", "three"])
    assert "".join(calls) == "ababab" + "abbaab"
    assert all((part > 0).all() and part.shape == (3,) for part in times)
