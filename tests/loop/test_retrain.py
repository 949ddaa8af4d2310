"""The loop: rounds on small invented logs, interrupted, repeated, locked and previewed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from querytier.cli.main import main
from querytier.data.examples import Examples
from querytier.loop.rounds import Loop, LoopBusyError, Round
from querytier.tracking.tracker import Tracker

ROOT = Path(__file__).parents[2]
LABELS = "query=query,id=id,needs_frontier=label,time=time"
HARD = ("prove", "derive", "integrate", "diagonalise", "bound")
EASY = ("spell", "greet", "thank", "name", "count")
THINGS = ("matrix", "river", "teapot", "violin", "orchid", "ledger", "comet", "harbour")
PARAMS = """
train: {regularisation: [0.1], folds: 3}
export: {parity_texts: 200, precision: fp32}
evaluate: {bootstrap: 100, latency_decisions: 5}
gate: {fewest_rows: 20, fewest_slice_rows: 15, bootstrap: 100, latency_margin: 9,
  latency_queries: 10}
drift: {permutations: 2999}
retrain: {fewest_fresh_rows: 50}
"""


def write_log(path, start, count, *, seed, wrong=0.1):
    """Write queries whose verb decides the label; flip the share `wrong` of the labels."""
    random = np.random.default_rng(seed)
    with path.open("w") as file:
        for number in range(start, start + count):
            hard = bool(random.integers(2))
            verb = str(random.choice(HARD if hard else EASY))
            thing = " ".join(random.choice(THINGS, 3))
            label = int(hard != (random.random() < wrong))
            day = f"2031-02-{1 + number * 27 // 5000:02d}"
            query = f"{verb} the {thing} of case {number}"
            line = {"id": f"q{number}", "query": query, "label": label, "time": day}
            file.write(json.dumps(line) + "\n")
    return path


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    (folder / "params.yaml").write_text(PARAMS)
    write_log(folder / "first.jsonl", 0, 300, seed=1, wrong=0.2)
    write_log(folder / "second.jsonl", 300, 300, seed=2)
    write_log(folder / "few.jsonl", 600, 20, seed=3)
    return folder


def command(logs, loop, *names, more=()):
    named = [word for name in names for word in ("--logs", str(logs / name))]
    settings = ["--map", LABELS, "--params", str(logs / "params.yaml"), "--out", str(loop)]
    return ["retrain", *named, *settings, *more]


@pytest.fixture(scope="module")
def first_round(logs, empty_store, tmp_path_factory):
    """Return a loop after its first round."""
    loop = tmp_path_factory.mktemp("loop")
    shutil.copy(empty_store, loop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["querytier", *command(logs, loop, "first.jsonl")])
        with pytest.raises(SystemExit) as ended:
            main()  # in this process, which has imported torch already
    assert not ended.value.code
    return loop


@pytest.fixture
def loop(first_round, tmp_path):
    """Return a copy of it without the files that were logged to MLflow."""
    logged = shutil.ignore_patterns("mlartifacts")
    return shutil.copytree(first_round, tmp_path / "loop", symlinks=True, ignore=logged)


def decision_of(loop):
    return json.loads((loop / "verdict.json").read_text())


def champion_of(loop):
    return Tracker(loop).registry().champion()


def versions(loop):
    return len(Tracker(loop).registry().client.search_model_versions("name = 'querytier'"))


def files_in(folder):
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def test_the_first_round_that_passes_makes_the_champion(first_round):
    decision = decision_of(first_round)
    assert (decision["verdict"], decision["round"], decision["champion"]) == (
        "promoted",
        "0001",
        None,
    )
    assert champion_of(first_round).model_version == decision["serves"]
    manifest = json.loads((first_round / "champion" / "manifest.json").read_text())
    assert manifest["model_version"] == decision["serves"]
    assert "the first" in (first_round / "verdict.html").read_text()
    assert Loop(first_round).last_complete().decision == decision


def test_the_same_logs_again_are_nothing_new_and_register_nothing(call, logs, loop):
    before = versions(loop)
    code, out, err = call(*command(logs, loop, "first.jsonl"))
    assert code == 0, err
    assert "round decision: nothing_new" in out
    assert (versions(loop), len(Loop(loop).rounds())) == (before, 1)
    code, out, _ = call(*command(logs, loop, "first.jsonl", "few.jsonl"))
    assert "20 new labelled rows; a round needs 50" in out
    assert (versions(loop), len(Loop(loop).rounds())) == (before, 1)


def test_a_dry_run_writes_nothing(call, logs, loop, tmp_path):
    before = files_in(loop)
    code, out, err = call(*command(logs, loop, "second.jsonl", more=["--dry-run"]))
    assert code == 0, err
    assert "300 new ones recorded" in out
    assert "would train round 0002 and register a challenger, compared with" in out
    assert files_in(loop) == before
    code, out, _ = call(*command(logs, tmp_path / "none", "few.jsonl", more=["--dry-run"]))
    assert (code, (tmp_path / "none").exists()) == (0, False)


def test_two_rounds_at_once_are_refused_and_the_error_names_the_first(call, logs, loop):
    with Loop(loop).locked():
        with pytest.raises(LoopBusyError, match=f"process {os.getpid()} on "), Loop(loop).locked():
            pass
        code, _, err = call(*command(logs, loop, "second.jsonl"))
    assert code == 1
    assert "is locked: process" in err
    with Loop(loop).locked():
        pass


def test_wrong_calls_end_with_2(call, logs, loop):
    code, _, err = call(*command(logs, loop, "second.jsonl", more=["--since", "soon"]))
    assert (code, "is not a date" in err) == (2, True)
    code, _, err = call(*command(logs, loop, "missing.jsonl"))
    assert (code, "missing.jsonl" in err) == (2, True)


def test_a_champion_that_no_round_made_is_refused_before_any_work(call, logs, loop):
    shutil.rmtree(loop / "rounds")
    code, _, err = call(*command(logs, loop, "first.jsonl"))
    assert code == 2
    assert "was not made by a round of" in err
    assert not Loop(loop).rounds()


def test_a_step_runs_once_and_a_failed_one_runs_again(tmp_path):
    round_, runs = Round(tmp_path), []
    with pytest.raises(ZeroDivisionError):
        round_.once("step", lambda: 1 / 0)
    for _ in range(2):
        round_.once("step", lambda: runs.append(1))
    assert runs == [1]


def test_only_an_artifact_of_the_loop_is_linked(tmp_path):
    loop = Loop(tmp_path)
    made = loop.open_round({"logs": "a"})
    (made.folder / "model").mkdir()
    (made.folder / "model" / "manifest.json").write_text('{"model_version": "ours"}')
    loop.serve("another")
    assert not (tmp_path / "champion").is_symlink()
    loop.serve("ours")
    assert (tmp_path / "champion").resolve() == made.folder / "model"
    assert (made.decision, made.read("drift.json")) == (None, {})


def test_an_unfinished_round_is_resumed_if_its_inputs_are_the_same(tmp_path):
    loop = Loop(tmp_path)
    first = loop.open_round({"logs": "a"})
    assert loop.open_round({"logs": "a"}) == first
    first.once("prepare", lambda: None)
    assert not (loop.open_round({"logs": "b"}).folder / "done").exists()


@pytest.mark.slow
def test_a_second_round_is_compared_on_fresh_and_on_frozen_rows(call, logs, loop):
    code, _, err = call(*command(logs, loop, "second.jsonl"))
    assert code == 0, err
    decision = decision_of(loop)
    assert decision["verdict"] in {"promoted", "kept"}
    assert decision["gate"]["fresh"]["rows"] > 20
    assert decision["gate"]["frozen"]["rows"] > 20
    folder = loop / "rounds" / "0002"
    assert (folder / "drift.html").is_file()
    examples = Examples.read_parquet(folder / "data" / "examples.parquet")
    assert len(examples) == 600
    serves = champion_of(loop).model_version
    assert serves == decision["serves"]
    expected = decision["challenger" if decision["verdict"] == "promoted" else "champion"]
    assert serves == expected["model_version"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "after", ["prepare", "merge", "drift", "train", "export", "evaluate", "gate", "promote"]
)
def test_a_round_killed_after_any_step_can_be_finished(call, logs, loop, after):
    """SIGKILL leaves the marks of the complete steps, and no decision."""
    words = command(logs, loop, "second.jsonl")
    whole = [sys.executable, "-m", "querytier", *words]
    with subprocess.Popen(whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        mark = loop / "rounds" / "0002" / "done" / after
        while not mark.exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    code, _, err = call(*words)
    assert code == 0, err
    assert versions(loop) == 2
    resumed = decision_of(loop)
    assert resumed["serves"] == champion_of(loop).model_version
    assert (loop / "champion").resolve().parent.name in {"0001", "0002"}
    assert call(*words)[0] == 0
    assert decision_of(loop)["verdict"] == "nothing_new"


@pytest.mark.checkout
def test_the_example_project_uses_existing_options_of_the_verb(call):
    stage = yaml.safe_load((ROOT / "examples" / "loop" / "dvc.yaml").read_text())["stages"]
    words = stage["retrain"]["cmd"].split()
    assert words[:2] == ["querytier", "retrain"]
    code, shown, _ = call("retrain", "--help")
    assert code == 0
    assert all(word in shown for word in words if word.startswith("--"))
    crontab = (ROOT / "examples" / "loop" / "crontab").read_text()
    assert "querytier retrain --logs decisions" in crontab
