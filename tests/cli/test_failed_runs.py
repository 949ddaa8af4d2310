"""A run that fails or is interrupted is marked in MLflow, and keeps all earlier results."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from querytier.classifier.runtime import Classifier
from querytier.errors import ArtifactError, ExportError, TrainingError, UsageError
from querytier.pipeline.evaluate import evaluate_stage
from querytier.pipeline.export import export_stage
from querytier.pipeline.params import CertifyParams, ExportParams, Params, TrainParams, read_params
from querytier.pipeline.train import train_stage
from querytier.tracking.tracker import RunReference, Tracker

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def tracker(empty_store, tmp_path_factory):
    root = tmp_path_factory.mktemp("tracked")
    shutil.copy(empty_store, root)
    return Tracker(root)


@pytest.fixture
def finished(run_dir, tmp_path):
    """Return a copy of a finished run, with a store of its own."""
    out = shutil.copytree(run_dir, tmp_path / "out")
    reference = RunReference.read(out / "train" / "run.json")
    own = RunReference(f"sqlite:///{out}/mlflow.db", reference.experiment_id, reference.run_id)
    own.write(out / "train" / "run.json")
    return out


def ending(reference):
    run = mlflow.MlflowClient(reference.tracking_uri).get_run(reference.run_id)
    return run.info.status, run.data.tags.get("failure")


def ending_of(out):
    return ending(RunReference.read(out / "train" / "run.json"))


def tags_of(out):
    reference = RunReference.read(out / "train" / "run.json")
    client = mlflow.MlflowClient(reference.tracking_uri)
    return client.get_run(reference.run_id).data.tags


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (TrainingError("one class only"), "FAILED", "one class only"),
        (TrainingError("x" * 5000), "FAILED", "x" * 500),
        (OSError(28, "No space left on device"), "FAILED", "[Errno 28] No space left on device"),
        (KeyboardInterrupt(), "KILLED", "interrupted from the keyboard"),
    ],
)
def test_a_run_that_ends_early_is_marked_with_the_reason(tracker, error, status, reason):
    with pytest.raises(type(error)), tracker.start("doomed", {}) as reference:
        raise error
    assert ending(reference) == (status, reason)
    assert mlflow.active_run() is None


def test_a_foreign_message_which_may_quote_a_query_is_not_logged(tracker):
    with pytest.raises(ValueError, match="secret"), tracker.start("doomed", {}) as reference:
        float("a secret query")
    status, reason = ending(reference)
    assert status == "FAILED"
    assert re.fullmatch(r"ValueError in test_failed_runs\.py, line \d+", reason)


def test_sigterm_unwinds_and_marks_the_run_as_killed(tracker):
    with pytest.raises(SystemExit) as ended, tracker.start("doomed", {}) as reference:
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    assert ending(reference) == ("KILLED", "terminated by SIGTERM")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_process_with_its_own_sigterm_handler_keeps_it(tracker):
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
    try:
        with tracker.start("survivor", {}) as reference:
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert heard == ["SIGTERM"]
    assert ending(reference) == ("FINISHED", None)


def test_a_run_may_be_logged_from_any_thread(tracker):
    found = []

    def logged():
        with tracker.start("aside", {}) as reference:
            found.append(reference)

    thread = threading.Thread(target=logged)
    thread.start()
    thread.join()
    assert ending(found[0]) == ("FINISHED", None)


def test_only_the_candidate_that_fails_is_marked_like_its_parent(tracker):
    references = []

    def log():
        with tracker.start("doomed", {}) as reference:
            references.append(reference)
            tracker.log_candidate("good", {}, {"cv_auroc": 0.7}, {})
            tracker.log_candidate("bad", {}, {"cv_auroc": "no number"}, {})

    with pytest.raises(mlflow.MlflowException):
        log()
    (reference,) = references
    client = mlflow.MlflowClient(reference.tracking_uri)
    children = client.search_runs(
        [reference.experiment_id], f"tags.mlflow.parentRunId = '{reference.run_id}'"
    )
    endings = {child.info.run_name: child for child in children}
    assert endings["good"].info.status == "FINISHED"
    assert "failure" not in endings["good"].data.tags
    assert endings["bad"].info.status == "FAILED"
    assert ending(reference) == ("FAILED", endings["bad"].data.tags["failure"])
    assert mlflow.active_run() is None


def test_if_the_store_fails_too_the_first_error_is_raised(tmp_path):
    root = tmp_path / "tracked"
    root.mkdir()

    def fail():
        shutil.rmtree(root)
        raise TrainingError("first")

    with pytest.raises(TrainingError, match="first"), Tracker(root).start("doomed", {}):
        fail()
    assert mlflow.active_run() is None


def test_a_stage_that_succeeds_later_removes_the_failure(tracker):
    with tracker.start("train", {}) as reference:
        pass
    with pytest.raises(ExportError), tracker.resume(reference):
        raise ExportError("strays")
    assert ending(reference) == ("FAILED", "strays")
    with tracker.resume(reference):
        pass
    assert ending(reference) == ("FINISHED", None)


@pytest.mark.slow
def test_trained_again_on_the_same_data_the_graph_is_the_same(finished, small_params):
    before = contents(finished / "model")[finished / "model" / "model.onnx"]
    params = read_params(small_params)
    train_stage(finished, params, Tracker(finished))
    export_stage(finished, params, Tracker(finished))
    assert contents(finished / "model")[finished / "model" / "model.onnx"] == before


def test_an_export_with_alpha_ends_with_a_certificate_or_a_refusal(finished):
    before = Classifier.load(finished / "model").manifest
    assert tags_of(finished)["certificate_reason"].startswith("not requested")
    fast = ExportParams(precision="fp32", parity_texts=200)
    params = Params(certify=CertifyParams(alpha=0.1), export=fast)
    exported = export_stage(finished, params, Tracker(finished))
    manifest = Classifier.load(finished / "model").manifest
    assert manifest.certificate.status == "refused"
    assert manifest.certificate.reason.startswith("0 calibration rows in separate groups")
    assert (manifest.threshold, manifest.model_version) == (before.threshold, before.model_version)
    assert exported.manifest.certificate.reason == manifest.certificate.reason
    tags = tags_of(finished)
    assert tags["certificate"] == "refused"
    assert tags["certificate_reason"] == manifest.certificate.reason


def test_a_failed_export_keeps_the_artifact_and_marks_the_run(finished):
    before = contents(finished / "model")
    params = Params(export=ExportParams(parity_tolerance=1e-30))
    with pytest.raises(ExportError):
        export_stage(finished, params, Tracker(finished))
    assert contents(finished / "model") == before
    assert not list(finished.glob(".*"))
    status, reason = ending_of(finished)
    assert status == "FAILED"
    assert reason.startswith("the graph differs")


def test_a_failed_evaluation_keeps_the_report_and_marks_the_run(finished):
    before = (finished / "metrics.json").read_bytes(), (finished / "report.html").read_bytes()
    (finished / "model" / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError):
        evaluate_stage(finished, Params(), Tracker(finished))
    assert (finished / "metrics.json").read_bytes() == before[0]
    assert (finished / "report.html").read_bytes() == before[1]
    status, reason = ending_of(finished)
    assert status == "FAILED"
    assert "changed or damaged" in reason


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"encoder": "/nowhere/encoder"}, "/nowhere/encoder is not a folder"),
        ({"budget": "standard", "teacher": "/nowhere/teacher"}, "/nowhere/teacher is not a folder"),
        ({"candidate": "the best", "regularisation": [0.01]}, "'the best', which is not one of"),
    ],
)
def test_failed_training_keeps_the_old_one_and_marks_the_run(finished, section, message):
    before = contents(finished / "train"), contents(finished / "model")
    params = Params(train=TrainParams(**section))
    tracker = Tracker(finished)
    with pytest.raises((TrainingError, UsageError), match=message):
        train_stage(finished, params, tracker)
    assert (contents(finished / "train"), contents(finished / "model")) == before
    client = mlflow.MlflowClient(f"sqlite:///{finished}/mlflow.db")
    newest = client.search_runs(
        [client.get_experiment_by_name("querytier").experiment_id],
        "tags.failure != ''",
        max_results=1,
    )[0]
    assert newest.info.status == "FAILED"
    assert message in newest.data.tags["failure"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_training_keeps_the_old_one_and_kills_the_run(finished, number):
    before = contents(finished / "train")
    (finished / "params.yaml").touch()
    arguments = ["train", "--params", finished / "params.yaml", "--out", finished]
    training = subprocess.Popen(
        [sys.executable, "-m", "querytier", *map(str, arguments)],
        stderr=subprocess.DEVNULL,
        # A shell under nohup ignores SIGINT, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 no threads here
    )
    unfinished = first_match(training, finished, ".train-*/new/run.json")
    reference = RunReference(**unfinished)
    os.kill(training.pid, number)
    assert training.wait(60) != 0
    assert contents(finished / "train") == before
    assert not list(finished.glob(".*"))
    reason = {2: "interrupted from the keyboard", 15: "terminated by SIGTERM"}[number]
    assert ending(reference) == ("KILLED", reason)


def first_match(process, folder, pattern):
    """Return the JSON of the first file that matches while a process runs."""
    while process.poll() is None:
        for path in folder.glob(pattern):
            text = path.read_text()
            if text.endswith("}\n"):
                return json.loads(text)
        time.sleep(0.02)
    raise AssertionError(f"the process ended without {pattern}")
