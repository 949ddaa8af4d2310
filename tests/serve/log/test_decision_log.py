"""The decision log: appended lines are in the files, whatever happens around it."""

import gc
import hashlib
import hmac
import json
import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from querytier.serve.decision import Decision
from querytier.serve.log.decision_log import DecisionLog, LogSettings
from querytier.serve.log.log_file import LogFile

DECISION = Decision(
    tier="cheap",
    p_frontier=0.2,
    gain=-0.1,
    decision_score=0.2,
    threshold=0.5,
    reason="classifier",
    propensity=0.9,
    model_version="v1",
    latency_ms=1.5,
)
CHILD = """
import os, resource, signal, sys, time
from pathlib import Path
from querytier.serve.decision import Decision
from querytier.serve.log.decision_log import DecisionLog, LogSettings
decision = Decision("cheap", 0.2, -0.1, 0.2, 0.5, "classifier", 0.9, "v1", 1.5)
folder = Path(sys.argv[1])
"""


def lines(folder, name="decisions*.jsonl"):
    """Return the records of all files, the oldest first; every line has to be complete."""
    paths = sorted(folder.glob(name), key=lambda path: (path.name == "decisions.jsonl", path.name))
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def ids(folder):
    return [record["id"] for record in lines(folder)]


def child(program, folder, **more):
    """Start a process with a decision and a folder for its log."""
    command = [sys.executable, "-c", CHILD + program, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more)


def wait_until(holds, seconds=10.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.005)


def test_a_line_contains_the_decision_and_its_propensity(tmp_path):
    with DecisionLog(tmp_path, clock=lambda: 1_935_900_000.25) as log:
        decision_id = log.append(DECISION, "Größe? 日本", conversation="talk-1", domain="shop")
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
        log.append(replace(DECISION, threshold=float("inf"), p_frontier=None), messages, id="mine")
    assert (log.written, log.dropped, log.failed) == (2, 0, 0)
    first, second = lines(tmp_path)
    assert first == {
        "id": decision_id,
        "time": "2031-05-07T06:00:00.250Z",
        "tier": "cheap",
        "propensity": 0.9,
        "policy": "v1",
        "group": "talk-1",
        "domain": "shop",
        "reason": "classifier",
        "p_frontier": 0.2,
        "gain": -0.1,
        "decision_score": 0.2,
        "threshold": 0.5,
        "latency_ms": 1.5,
        "audit": False,
        "audit_propensity": 0.0,
        "query": "Größe? 日本",
    }
    assert (second["id"], second["query"], second["threshold"]) == ("mine", "Hi", None)
    assert "group" not in second
    assert "日本" in (tmp_path / "decisions.jsonl").read_text("utf-8")


def test_queries_can_be_logged_as_a_hash_or_redacted(tmp_path):
    query = "Write to ann@example.org"
    kept = {
        "hash": ("query_sha256", hashlib.sha256(query.encode()).hexdigest()),
        "redacted": ("query", "Write to [EMAIL]"),
    }
    for text, (name, value) in kept.items():
        with DecisionLog(tmp_path / text, settings=LogSettings(text=text)) as log:
            log.append(DECISION, query)
        assert lines(tmp_path / text)[0][name] == value
        assert b"ann@" not in (tmp_path / text / "decisions.jsonl").read_bytes()
    with DecisionLog(tmp_path / "s", settings=LogSettings(text="hash", salt="pepper")) as log:
        log.append(DECISION, query)
    salted = hmac.new(b"pepper", query.encode(), hashlib.sha256).hexdigest()
    assert lines(tmp_path / "s")[0]["query_sha256"] == salted
    assert "pepper" not in repr(LogSettings(salt="pepper"))


@pytest.mark.parametrize(
    "settings",
    [
        {"max_bytes": 0},
        {"max_age_s": -1},
        {"keep": 0},
        {"buffer": 0},
        {"interval_s": float("nan")},
        {"when_full": "wait"},
        {"fsync": True},
        {"text": "none"},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=r"it has to be a number above 0|choose one of"):
        LogSettings(**settings)


def test_a_folder_that_cannot_be_created_is_an_error_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="decisions cannot be logged"):
        DecisionLog(tmp_path / "file" / "logs")


@pytest.mark.parametrize("when_full", ["drop", "block"])
def test_eight_threads_write_eight_thousand_complete_lines(tmp_path, when_full):
    settings = LogSettings(when_full=when_full, buffer=10_000 if when_full == "drop" else 7)
    with DecisionLog(tmp_path, settings=settings) as log:

        def append(thread):
            return [log.append(DECISION, f"{thread}: {n}") for n in range(1000)]

        with ThreadPoolExecutor(8) as pool:
            appended = [decision_id for some in pool.map(append, range(8)) for decision_id in some]
        assert log.flush()
        assert len(ids(tmp_path)) == 8000
    assert sorted(ids(tmp_path)) == sorted(appended)
    assert len(set(appended)) == log.written == 8000
    assert log.dropped == 0


def test_no_line_is_lost_if_processes_share_a_folder_and_rotate(tmp_path):
    program = (
        "settings = LogSettings(max_bytes=5000, when_full='block')\n"
        "with DecisionLog(folder, settings=settings) as log:\n"
        "    for n in range(300):\n"
        "        log.append(decision, 'Where is it?', id=f'{os.getpid()}-{n}')\n"
        "        if n % 50 == 0: time.sleep(0.01)\n"
    )
    processes = [child(program, tmp_path) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    expected = {f"{process.pid}-{n}" for process in processes for n in range(300)}
    assert len(ids(tmp_path)) == 900
    assert set(ids(tmp_path)) == expected
    for process in processes:
        process.stdout.close()


def test_files_rotate_by_size_and_none_is_overwritten(tmp_path):
    with DecisionLog(tmp_path, settings=LogSettings(max_bytes=1000), clock=lambda: 1.9e9) as log:
        for n in range(40):
            log.append(DECISION, "x" * (n * 10), id=f"{n}")
            log.flush()
        log.append(DECISION, "y" * 5000, id="long")
        log.append(DECISION, "z", id="last")
    assert len(ids(tmp_path)) == 42
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("decisions*")}
    assert sum(size > 1000 for size in sizes.values()) == 1
    assert {f"decisions-20300317T174640Z-{n}.jsonl" for n in range(1, len(sizes))} < set(sizes)


def test_files_rotate_by_age_and_the_oldest_are_deleted(tmp_path):
    now = [1.9e9]
    settings = LogSettings(max_age_s=60, keep=2)
    for day in range(5):
        # The age of a file outlives the process that began it.
        with DecisionLog(tmp_path, settings=settings, clock=lambda: now[0]) as log:
            for half in range(2):
                log.append(DECISION, "Hi", id=f"{day}-{half}")
                log.flush()
                now[0] += 30
    assert len(list(tmp_path.glob("decisions-*"))) == 2
    assert ids(tmp_path) == [f"{day}-{half}" for day in (2, 3, 4) for half in range(2)]


def test_a_full_buffer_drops_new_lines_and_counts_them(tmp_path, caplog):
    folder, settings = tmp_path / "logs", LogSettings(buffer=10)
    with DecisionLog(folder, settings=settings) as log:
        folder.rmdir()
        folder.touch()
        with caplog.at_level(logging.INFO):
            for n in range(25):
                log.append(DECISION, "Hi", id=f"{n}")
            assert log.dropped == 15
            wait_until(lambda: log.failed >= 2)
            assert not log.flush(timeout_s=0.01)
            folder.unlink()
            assert log.flush()
        log.append(DECISION, "Hi", id="after")
    assert ids(folder) == [*map(str, range(10)), "after"]
    assert (log.written, log.dropped) == (11, 15)
    said = [record.levelname for record in caplog.records]
    assert said == ["WARNING", "INFO"], "one warning an incident, and one line at its end"


def test_blocking_callers_do_not_wait_for_a_broken_disk(tmp_path, caplog):
    folder = tmp_path / "logs"
    log = DecisionLog(folder, settings=LogSettings(buffer=3, when_full="block"))
    folder.rmdir()
    folder.touch()
    for _ in range(20):
        log.append(DECISION, "Hi")
    assert log.dropped == 17
    log.close()
    log.append(DECISION, "too late")
    assert (log.written, log.dropped) == (0, 21)
    assert "3 lines of the log are lost" in caplog.text


def test_a_removed_folder_is_created_again(tmp_path):
    with DecisionLog(tmp_path / "logs") as log:
        log.append(DECISION, "Hi", id="before")
        log.flush()
        (tmp_path / "logs").rename(tmp_path / "moved")
        log.append(DECISION, "Hi", id="after")
    assert ids(tmp_path / "moved") == ["before"]
    assert ids(tmp_path / "logs") == ["after"]
    assert log.failed == 0


def test_lines_wait_until_a_full_disk_has_space_again(tmp_path):
    program = (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))\n"
        "log = DecisionLog(folder)\n"
        "for n in range(30): log.append(decision, 'Where is it?', id=f'{n}')\n"
        "while log.failed < 3: time.sleep(0.01)\n"
        "assert 0 < log.written < 30 and not log.dropped\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "log.append(decision, 'Where is it?', id='30')\n"
        "assert log.flush() and log.written == 31\n"
    )
    process = child(program, tmp_path)
    assert process.wait(60) == 0
    process.stdout.close()
    content = (tmp_path / "decisions.jsonl").read_bytes().splitlines()
    whole = [line for line in content if line.endswith(b"}")]
    assert [json.loads(line)["id"] for line in whole] == [f"{n}" for n in range(31)]
    assert len(content) - len(whole) == 1, "the line that space ran out in, ended before the next"


def test_a_process_that_exits_on_sigterm_loses_nothing(tmp_path):
    program = (
        "log = DecisionLog(folder)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
        "for n in range(10**9):\n"
        "    os.write(1, b'.')\n"
        "    log.append(decision, 'Where is it?', id=f'{n}')\n"
        "    if n % 100 == 0: time.sleep(0.002)\n"
    )
    process = child(program, tmp_path)
    begun = len(process.stdout.read(2000))
    process.send_signal(signal.SIGTERM)
    begun += len(process.stdout.read())
    assert process.wait(30) == 0
    process.stdout.close()
    written = ids(tmp_path)
    assert written == [f"{n}" for n in range(len(written))]
    # The signal may have come between a dot and its decision.
    assert len(written) in (begun - 1, begun)


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_a_killed_process_loses_no_flushed_line(tmp_path, fsync):
    program = (
        f"log = DecisionLog(folder, settings=LogSettings(fsync='{fsync}', when_full='block'))\n"
        "for n in range(10**9):\n"
        "    log.append(decision, 'Where is it?', id=f'{n}')\n"
        "    if n % 50 == 0 and log.flush(): os.write(1, b'%d\\n' % n)\n"
    )
    process = child(program, tmp_path)
    said = [process.stdout.readline() for _ in range(5)]
    process.kill()
    flushed = int([*said, *process.stdout][-1])
    process.wait(30)
    process.stdout.close()
    content = (tmp_path / "decisions.jsonl").read_bytes()
    whole = [json.loads(line)["id"] for line in content.split(b"\n")[:-1]]
    assert whole == [f"{n}" for n in range(len(whole))], "no gap, and no half a line"
    assert len(whole) > flushed >= 200


def test_lines_are_written_when_the_log_is_garbage_collected(tmp_path):
    log = DecisionLog(tmp_path)
    log.append(DECISION, "Hi", id="1")
    del log
    gc.collect()
    assert ids(tmp_path) == ["1"]
    process = child("DecisionLog(folder).append(decision, 'Hi', id='2')", tmp_path)
    assert process.wait(30) == 0
    process.stdout.close()
    assert ids(tmp_path) == ["1", "2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_log_from_before_a_fork_writes_in_each_process(tmp_path):
    program = (
        "log = DecisionLog(folder)\n"
        "for n in range(3):\n"
        "    if os.fork() == 0: log.append(decision, 'Hi', id=f'{n}'), log.close(), os._exit(0)\n"
        "while True:\n"
        "    try: os.wait()\n"
        "    except ChildProcessError: break\n"
        "log.append(decision, 'Hi', id='parent')\n"
    )
    process = child(program, tmp_path)
    assert process.wait(30) == 0
    process.stdout.close()
    assert sorted(ids(tmp_path)) == ["0", "1", "2", "parent"]


LINE = st.binary(max_size=20).map(lambda content: content.replace(b"\n", b"") + b"\n")


@given(st.lists(LINE, min_size=1), st.lists(LINE, min_size=1), st.data())
def test_a_line_cut_short_costs_no_other_line(tmp_path_factory, old, new, data):
    path = tmp_path_factory.mktemp("cut") / "decisions.jsonl"
    content = b"".join(old)
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    file = LogFile(path)
    assert file.append(new) == len(new)
    file.close()
    begun = content[:cut].split(b"\n")
    kept = begun if begun[-1] else begun[:-1]
    assert path.read_bytes() == b"".join(line + b"\n" for line in kept) + b"".join(new)


@given(st.lists(LINE), st.integers(1, 60))
def test_files_contain_all_lines_in_order_within_their_size(tmp_path_factory, given, most):
    folder = tmp_path_factory.mktemp("size")
    file, left = LogFile(folder / "d.jsonl", max_bytes=most, clock=lambda: 1.9e9), given
    while left:
        left = left[file.append(left) :]
    file.close()
    closed = sorted(folder.glob("d-*"), key=lambda path: int(path.stem.rsplit("-", 1)[1]))
    written = [path.read_bytes() for path in [*closed, *folder.glob("d.jsonl")]]
    assert b"".join(written) == b"".join(given)
    assert all(len(content) <= most or content.count(b"\n") == 1 for content in written)
    # A file is closed only for a line that it had no room for.
    assert all(len(a) + b.index(b"\n") + 1 > most for a, b in pairwise(written))


def test_logging_imports_no_heavy_package():
    program = (
        "import sys, querytier.serve.log.decision_log\n"
        "heavy = {'torch', 'sklearn', 'pandas', 'scipy', 'pyarrow', 'datafog', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
