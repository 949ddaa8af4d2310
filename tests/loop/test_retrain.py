"""The loop: rounds on small invented logs, cut short, repeated, locked, and foreseen."""

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

from querytier.data.examples import Examples
from querytier.loop.rounds import Loop, LoopBusyError, Round
from querytier.tracking.tracker import Tracker

ROOT = Path(__file__).parents[2]
LABELS = "query=query,id=id,needs_frontier=label,time=time"
HARD = ("prove", "derive", "integrate", "diagonalise", "bound")
EASY = ("spell", "greet", "thank", "name", "count")
THINGS = ("matrix", "river", "teapot", "violin", "orchid", "ledger", "comet", "harbour")
PARAMS = """
evaluate: {bootstrap: 100, latency_decisions: 5}
gate: {fewest_rows: 20, fewest_slice_rows: 15, bootstrap: 100, latency_margin: 9,
  latency_queries: 10}
drift: {permutations: 2999}
retrain: {fewest_fresh_rows: 50}
"""


def write_log(path, start, count, *, seed, wrong=0.1):
    """Write queries whose verb tells the label, `wrong` of them flipped."""
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
    write_log(folder / "first.jsonl", 0, 300, seed=1, wrong=0.3)
    write_log(folder / "second.jsonl", 300, 300, seed=2)
    write_log(folder / "few.jsonl", 600, 20, seed=3)
    return folder


def command(logs, loop, *names, more=()):
    named = [word for name in names for word in ("--logs", str(logs / name))]
    settings = ["--map", LABELS, "--params", str(logs / "params.yaml"), "--out", str(loop)]
    return ["retrain", *named, *settings, *more]


@pytest.fixture(scope="module")
def first_round(logs, tmp_path_factory):
    """Return a loop after its first round."""
    loop = tmp_path_factory.mktemp("loop") / "loop"
    whole = [sys.executable, "-m", "querytier", *command(logs, loop, "first.jsonl")]
    answer = subprocess.run(whole, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return loop


@pytest.fixture
def loop(first_round, tmp_path):
    """Return a copy of it: artifacts of runs stay where they were logged."""
    return shutil.copytree(first_round, tmp_path / "loop", symlinks=True)


def verdict_of(loop):
    return json.loads((loop / "verdict.json").read_text())


def champion_of(loop):
    return Tracker(loop).registry().champion()


def versions(loop):
    return len(Tracker(loop).registry().client.search_model_versions("name = 'querytier'"))


def files_in(folder):
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def test_the_first_round_that_passes_makes_the_champion(first_round):
    verdict = verdict_of(first_round)
    assert (verdict["verdict"], verdict["round"], verdict["champion"]) == ("promoted", "0001", None)
    assert champion_of(first_round).model_version == verdict["serves"]
    manifest = json.loads((first_round / "champion" / "manifest.json").read_text())
    assert manifest["model_version"] == verdict["serves"]
    assert "the first" in (first_round / "verdict.html").read_text()
    assert Loop(first_round).complete()[0].verdict == verdict


def test_the_same_logs_again_are_nothing_new_and_nothing_is_registered(call, logs, loop):
    before = versions(loop)
    code, out, err = call(*command(logs, loop, "first.jsonl"))
    assert code == 0, err
    assert "verdict: nothing_new" in out
    assert (versions(loop), len(Loop(loop).rounds())) == (before, 1)
    code, out, _ = call(*command(logs, loop, "first.jsonl", "few.jsonl"))
    assert "20 new labelled rows; a round needs 50" in out
    assert (versions(loop), len(Loop(loop).rounds())) == (before, 1)


def test_a_dry_run_writes_nothing(call, logs, loop, tmp_path):
    before = files_in(loop)
    code, out, err = call(*command(logs, loop, "second.jsonl", more=["--dry-run"]))
    assert code == 0, err
    assert "300 new ones recorded" in out
    assert "would train round 0002" in out
    assert files_in(loop) == before
    code, out, _ = call(*command(logs, tmp_path / "none", "few.jsonl", more=["--dry-run"]))
    assert (code, (tmp_path / "none").exists()) == (0, False)


def test_two_rounds_at_once_are_refused_and_it_is_said_who_is_at_work(call, logs, loop):
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
    assert (code, "is no date" in err) == (2, True)
    code, _, err = call(*command(logs, loop, "missing.jsonl"))
    assert (code, "missing.jsonl" in err) == (2, True)


def test_a_step_is_done_once_and_one_that_failed_again(tmp_path):
    round_, done = Round(tmp_path), []
    with pytest.raises(ZeroDivisionError):
        round_.once("step", lambda: 1 / 0)
    for _ in range(2):
        round_.once("step", lambda: done.append(1))
    assert done == [1]


def test_a_round_cut_short_is_found_again_by_its_inputs_and_begun_anew_with_others(tmp_path):
    loop = Loop(tmp_path)
    first = loop.opened({"logs": "a"})
    assert loop.opened({"logs": "a"}) == first
    first.once("prepare", lambda: None)
    assert not (loop.opened({"logs": "b"}).folder / "done").exists()


@pytest.mark.slow
def test_a_second_round_is_judged_on_fresh_and_on_frozen_rows(call, logs, loop):
    code, _, err = call(*command(logs, loop, "second.jsonl"))
    assert code == 0, err
    verdict = verdict_of(loop)
    assert verdict["verdict"] in {"promoted", "kept"}
    assert verdict["gate"]["fresh"]["rows"] > 20
    assert verdict["gate"]["frozen"]["rows"] > 20
    folder = loop / "rounds" / "0002"
    assert (folder / "drift.html").is_file()
    examples = Examples.read_parquet(folder / "data" / "examples.parquet")
    assert len(examples) == 600
    serves = champion_of(loop).model_version
    assert serves == verdict["serves"]
    expected = verdict["challenger" if verdict["verdict"] == "promoted" else "champion"]
    assert serves == expected["model_version"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "after", ["prepare", "merge", "drift", "train", "export", "evaluate", "gate", "promote"]
)
def test_a_round_killed_after_any_step_comes_to_the_same_verdict(call, logs, loop, after):
    """What SIGKILL leaves: the marks of the steps until then, and no verdict."""
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
    resumed = verdict_of(loop)
    assert resumed["serves"] == champion_of(loop).model_version
    assert (loop / "champion").resolve().parent.name in {"0001", "0002"}
    assert call(*words)[0] == 0
    assert verdict_of(loop)["verdict"] == "nothing_new"


@pytest.mark.checkout
def test_the_example_project_calls_the_verb_with_options_that_it_has(call):
    stage = yaml.safe_load((ROOT / "examples" / "loop" / "dvc.yaml").read_text())["stages"]
    words = stage["retrain"]["cmd"].split()
    assert words[:2] == ["querytier", "retrain"]
    code, shown, _ = call("retrain", "--help")
    assert code == 0
    assert all(word in shown for word in words if word.startswith("--"))
    crontab = (ROOT / "examples" / "loop" / "crontab").read_text()
    assert "querytier retrain --logs decisions" in crontab
