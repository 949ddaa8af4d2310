"""An interrupted run resumes with its own checkpoints, and with no others."""

import logging
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from querytier.training.checkpoints import NO_CHECKPOINTS, Checkpoints

RUN = {"fingerprint": "5f2e", "seed": 17, "folds": 3, "encoders": ["minilm"]}

# Scores of three parts with two names each; each computation leaves a line in a file.
PROGRAM = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from querytier.training.checkpoints import Checkpoints

folder, computed, result, killed_after, largest_file = sys.argv[1:]
if largest_file:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest_file), resource.RLIM_INFINITY))

def compute(seed):
    with open(computed, "a") as file:
        file.write(f"{seed}\\n")
    return np.random.default_rng(seed).normal(size=500)

checkpoints = Checkpoints.open(Path(folder), {"seed": 17})
found = []
for part in range(3):
    for name in range(2):
        scores = checkpoints.part(f"fold {part}").load_or_compute(
            f"name {name}", lambda: compute(10 * part + name)
        )
        found.append(scores)
        if len(found) == int(killed_after or 0):
            os.kill(os.getpid(), signal.SIGKILL)
sys.stdout.buffer.write(np.array(found).tobytes())
if result == "done":
    checkpoints.remove()
"""


def command(folder, computed, result="", killed_after="", largest_file=""):
    arguments = [folder, computed, result, killed_after, largest_file]
    return [sys.executable, "-c", PROGRAM, *map(str, arguments)]


def run(*arguments, **others):
    return subprocess.run(
        command(*arguments, **others), capture_output=True, check=False, timeout=60
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "unfinished"


def opened(folder):
    return Checkpoints.open(folder, RUN)


def computed(value=0.5):
    return lambda: np.full(4, value)


def forbidden():
    raise AssertionError("computed again")


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("killed_after", [1, 3, 6])
def test_a_killed_run_computes_only_the_rest(folder, tmp_path, killed_after):
    seeds, whole = tmp_path / "seeds", tmp_path / "whole"
    assert run(folder, seeds, killed_after=killed_after).returncode == -signal.SIGKILL
    assert len(seeds.read_text().split()) == killed_after
    resumed = run(folder, seeds, "done")
    assert resumed.returncode == 0, resumed.stderr
    assert seeds.read_text().split() == ["0", "1", "10", "11", "20", "21"]
    assert not folder.exists()
    assert resumed.stdout == run(folder, whole).stdout
    assert seeds.read_text() == whole.read_text()


def test_a_half_written_file_is_not_read(folder):
    opened(folder).load_or_compute("a", computed())
    (path,) = files(folder)
    path.with_name(".0123.partial").write_bytes(path.read_bytes()[:50])
    path.unlink()
    np.testing.assert_array_equal(opened(folder).load_or_compute("a", computed(2)), 2)


def test_processes_can_share_a_folder(folder, tmp_path):
    seeds = [tmp_path / f"seeds {number}" for number in range(4)]
    working = [subprocess.Popen(command(folder, path), stdout=subprocess.PIPE) for path in seeds]
    results = [process.communicate(timeout=60)[0] for process in working]
    assert len(set(results)) == 1
    assert len(results[0]) == 6 * 500 * 8
    assert len(files(folder)) == 6
    again = run(folder, tmp_path / "seeds")
    assert (again.stdout, again.stderr) == (results[0], b"")
    assert not (tmp_path / "seeds").exists()


@given(
    array=arrays.arrays(
        st.one_of(
            arrays.scalar_dtypes(),
            arrays.unicode_string_dtypes(),
            arrays.byte_string_dtypes(),
            arrays.floating_dtypes(endianness=">"),
        ),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
def test_every_bit_is_saved(tmp_path_factory, array):
    folder = tmp_path_factory.mktemp("unfinished")
    opened(folder).load_or_compute("a", lambda: array.T)
    kept = opened(folder).load_or_compute("a", forbidden)
    assert (kept.dtype, kept.shape) == (array.T.dtype, array.T.shape)
    assert kept.tobytes() == array.T.tobytes()
    kept[...] = kept


@given(st.lists(st.lists(st.text(max_size=3), min_size=1, max_size=3), unique_by=tuple, max_size=9))
def test_every_part_and_name_has_an_array_of_its_own(tmp_path_factory, places):
    checkpoints = Checkpoints.open(tmp_path_factory.mktemp("unfinished"), RUN)

    def load(place, compute):
        scope = checkpoints
        for part in place[:-1]:
            scope = scope.part(part)
        return scope.load_or_compute(place[-1], compute).item()

    for number, place in enumerate(places):
        assert load(place, lambda number=number: np.array(number)) == number
    for number, place in enumerate(places):
        assert load(place, forbidden) == number


@pytest.mark.parametrize("other", [{"seed": 18}, {"folds": 3.5}, {"version": "0.2"}])
def test_checkpoints_of_another_run_are_removed(folder, caplog, other):
    caplog.set_level(logging.INFO)
    opened(folder).load_or_compute("a", computed(1))
    assert caplog.text == ""
    checkpoints = Checkpoints.open(folder, {**RUN, **other})
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "belong to another run" in caplog.text
    assert files(folder) == []
    np.testing.assert_array_equal(checkpoints.load_or_compute("a", computed(2)), 2)


def test_the_order_of_a_description_does_not_matter(folder):
    opened(folder).load_or_compute("a", computed())
    Checkpoints.open(folder, dict(reversed(RUN.items()))).load_or_compute("a", forbidden)


def test_resuming_is_logged(folder, caplog):
    caplog.set_level(logging.INFO)
    opened(folder).part("fold 1").load_or_compute("a", computed())
    opened(folder)
    assert "resuming an interrupted run: 1 checkpoints" in caplog.text


def test_a_file_under_the_name_of_another_is_not_used(folder):
    checkpoints = opened(folder)
    checkpoints.load_or_compute("a", computed(1))
    (first,) = files(folder)
    checkpoints.load_or_compute("b", computed(2))
    (second,) = set(files(folder)) - {first}
    second.write_bytes(first.read_bytes())
    np.testing.assert_array_equal(checkpoints.load_or_compute("b", computed(3)), 3)
    checkpoints.load_or_compute("b", forbidden)


@given(st.data())
def test_a_damaged_file_is_computed_again(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("unfinished")
    opened(folder).load_or_compute("a", computed(1))
    (path,) = files(folder)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    path.write_bytes(content)
    np.testing.assert_array_equal(opened(folder).load_or_compute("a", computed(2)), 2)
    np.testing.assert_array_equal(opened(folder).load_or_compute("a", forbidden), 2)


def test_a_damaged_file_is_named_in_a_warning(folder, caplog):
    opened(folder).load_or_compute("a", computed(1))
    (path,) = files(folder)
    path.write_bytes(b"")
    opened(folder).load_or_compute("a", computed(2))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == f"{path} is damaged; its array is computed again"


def test_a_run_continues_if_its_folder_cannot_be_made(tmp_path, caplog):
    (tmp_path / "file").touch()
    checkpoints = Checkpoints.open(tmp_path / "file" / "unfinished", RUN)
    for part in "xy":
        for name in "ab":
            checkpoints.part(part).load_or_compute(name, computed())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot save checkpoints in" in caplog.text
    checkpoints.remove()
    assert (tmp_path / "file").is_file()


def test_a_run_continues_if_the_disk_is_full(folder, tmp_path):
    limited = run(folder, tmp_path / "seeds", largest_file=1000)
    assert limited.stderr.count(b"cannot save checkpoints in") == 1
    assert files(folder) == []
    assert limited.stdout == run(folder, tmp_path / "whole").stdout


def test_an_unreadable_file_is_computed_again(folder, caplog):
    checkpoints = opened(folder)
    checkpoints.load_or_compute("a", computed(1))
    (path,) = files(folder)
    path.unlink()
    path.mkdir()
    np.testing.assert_array_equal(checkpoints.load_or_compute("a", computed(2)), 2)
    assert "cannot read" in caplog.text


def test_remove_leaves_the_files_of_others(folder):
    checkpoints = opened(folder)
    checkpoints.part("x").load_or_compute("a", computed())
    checkpoints.part("y").load_or_compute("a", computed())
    checkpoints.part("x").remove()
    assert len(files(folder)) == 1
    checkpoints.part("y").load_or_compute("a", forbidden)
    (folder / "notes.txt").touch()
    (folder / "run-notes").mkdir()
    Checkpoints.open(folder, {})
    checkpoints.remove()
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "run-notes"]


def test_remove_works_without_checkpoints(folder):
    opened(folder).remove()
    assert not folder.parent.joinpath("unfinished").exists()


def test_python_objects_are_refused(folder):
    with pytest.raises(ValueError, match="allow_pickle"):
        opened(folder).load_or_compute("a", lambda: np.array([object()]))


def test_no_checkpoints_compute_everything():
    for value in (1, 2):
        found = NO_CHECKPOINTS.part("x").load_or_compute("a", computed(value))
        np.testing.assert_array_equal(found, value)
    NO_CHECKPOINTS.remove()
