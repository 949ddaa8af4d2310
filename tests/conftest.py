"""Fixtures: one real run over a small log, shared by all tests that look at its results.

Two test processes run side by side on two cores. One thread each keeps their libraries from taking
the cores from one another (a run takes 22 s of processor time instead of 80), and both share one
cache of embeddings and one run.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from querytier.cli.main import main

# Before torch, numpy or onnxruntime is imported; child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

FIXTURES = Path(__file__).parent / "fixtures"
SCORED_MAP = (
    "query=prompt,id=meta.id,group=meta.group,domain=meta.topic,cheap_score=score.cheap,"
    "frontier_score=score.frontier,cheap_cost=usd.cheap,frontier_cost=usd.frontier"
)


@pytest.fixture(scope="session", autouse=True)
def _no_foreign_tracking():
    """Log where the tests say, whatever the machine has set."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """Return a folder that all processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def made_once(shared_folder):
    """Return a function that makes a folder in the first process that asks for it."""

    def made(name, make):
        folder = shared_folder / name
        with FileLock(f"{folder}.lock"):
            made_before = folder / "made"  # MLflow keeps absolute paths, so the folder cannot move
            if not made_before.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                made_before.touch()
        return folder

    return made


@pytest.fixture(scope="session", autouse=True)
def _own_cache(shared_folder):
    """Keep embeddings in a cache that ends with the tests."""
    os.environ["QUERYTIER_CACHE"] = str(shared_folder / "cache")


@pytest.fixture(scope="module")
def browser():
    """Return Chromium, the machine's own; its event loop ends with the module."""
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def scored_log():
    return FIXTURES / "scored.jsonl"


@pytest.fixture(scope="session")
def scored_map():
    return SCORED_MAP


@pytest.fixture(scope="session")
def small_params():
    """Return parameters that keep a run short."""
    return FIXTURES / "small_params.yaml"


@pytest.fixture(scope="session")
def run_dir(made_once, scored_log, scored_map, small_params):
    """Return what `querytier run` leaves, called as a user calls it."""

    def run(folder):
        options = ["--map", scored_map, "--out", folder / "out", "--params", small_params]
        answer = querytier("run", scored_log, *options)
        assert answer.returncode == 0, answer.stderr
        (folder / "out" / "stdout.txt").write_text(answer.stdout)

    return made_once("run", run) / "out"


@pytest.fixture(scope="session")
def empty_store(made_once):
    """Return an MLflow database without runs to copy; creating its tables takes seconds."""

    def make(folder):
        mlflow = pytest.importorskip("mlflow")
        mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()

    return made_once("empty-store", make) / "mlflow.db"


@pytest.fixture(scope="session")
def artifact(run_dir):
    return run_dir / "model"


@pytest.fixture(scope="session")
def router(artifact):
    from querytier.serve import Router

    return Router.load(artifact)


@pytest.fixture
def artifact_copy(artifact, tmp_path):
    """Return an artifact that a test may damage."""
    return Path(shutil.copytree(artifact, tmp_path / "model"))


@pytest.fixture(scope="session")
def encoder():
    from querytier.classifier.model.encoder import load_encoder

    return load_encoder()


@pytest.fixture(scope="session")
def outcomes():
    """Return the folder of real outcomes; what needs it is skipped where it is missing."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("QUERYTIER_OUTCOMES", default))
    if not (folder / "routellm_mmlu.jsonl.gz").is_file():
        pytest.skip(f"no outcomes at {folder}; set QUERYTIER_OUTCOMES to their folder")
    return folder


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the command line in this process; return exit code, output and errors."""

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["querytier", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        printed = capsys.readouterr()
        return exit_.value.code or 0, printed.out, printed.err

    return called


def querytier(*arguments):
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "querytier", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
