"""A search goes on where it stopped, as if it had not, and is never worse than its defaults."""

import io
import logging
import math
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from querytier.errors import TrainingError, UsageError
from querytier.training.optuna_search import search

TRIALS = 13
KILLED_IN_TRIAL_7 = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_optuna_search import Watched, searched

class Killed(Watched):
    def __call__(self, setting):
        if len(self.asked) == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(setting)

searched({journal!r}, Killed())
"""


def suggest(trial):
    kind = trial.suggest_categorical("kind", ["round", "square"])
    x = trial.suggest_float("x", -1, 1)
    return kind, x, trial.suggest_int("n", 1, 9) if kind == "square" else 0


def value(setting):
    kind, x, n = setting
    return (0.5 if kind == "square" else 0) - (x - 0.25) ** 2 - n / 90


class Watched:
    """The value, and what it was asked for; interrupted at the given number of calls."""

    def __init__(self, interrupted_at=None, error=KeyboardInterrupt):
        self.asked, self.interrupted_at, self.error = [], interrupted_at, error

    def __call__(self, setting):
        """Return the value, unless it is time to be interrupted."""
        if len(self.asked) == self.interrupted_at:
            raise self.error
        self.asked.append(setting)
        return value(setting)


def searched(storage, value=value, suggest=suggest, **others):
    options = {"study": "s", "trials": TRIALS, "seed": 17, **others}
    return search(suggest, value, storage=storage, **options)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "search" / "journal.log"


@pytest.fixture(params=["journal", "sqlite"])
def storage(request, journal):
    if request.param == "journal":
        return journal
    journal.parent.mkdir()
    return f"sqlite:///{journal}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return what a search asks for that nothing interrupts."""
    watched = Watched()
    searched(tmp_path_factory.mktemp("whole") / "journal.log", watched)
    return watched.asked


def test_the_best_setting_of_all_trials_is_returned(journal):
    watched = Watched()
    best = searched(journal, watched)
    assert len(watched.asked) == TRIALS
    assert list(journal.parent.iterdir()) == [journal]
    assert best == max(watched.asked, key=value)
    assert value(best) > 0.3


def test_an_interrupted_search_goes_on_as_if_it_had_not_stopped(storage, whole):
    stopped, resumed, again = Watched(5), Watched(), Watched()
    with pytest.raises(KeyboardInterrupt):
        searched(storage, stopped)
    best = searched(storage, resumed)
    assert stopped.asked + resumed.asked == whole
    assert searched(storage, again) == best == max(whole, key=value)
    assert again.asked == []


@settings(max_examples=8)
@given(st.lists(st.integers(1, TRIALS), min_size=1, max_size=3).map(sorted))
def test_more_trials_are_those_of_a_longer_search(tmp_path_factory, whole, totals):
    watched = Watched()
    storage = tmp_path_factory.mktemp("search") / "journal.log"
    for total in totals:
        searched(storage, watched, trials=total)
        assert watched.asked == whole[:total]


def test_a_search_of_a_killed_process_goes_on_as_if_it_had_not_stopped(journal, whole):
    program = KILLED_IN_TRIAL_7.format(tests=str(Path(__file__).parent), journal=str(journal))
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    resumed = Watched()
    searched(journal, resumed)
    assert resumed.asked == whole[7:]


@settings(max_examples=8)
@given(st.lists(st.integers(0, TRIALS - 1), max_size=3))
def test_no_number_of_interruptions_changes_a_search(tmp_path_factory, whole, stops):
    asked = []
    journal = tmp_path_factory.mktemp("search") / "journal.log"
    for stop in stops:
        stopped = Watched(stop)
        with suppress(KeyboardInterrupt):
            searched(journal, stopped)
        asked += stopped.asked
    resumed = Watched()
    assert searched(journal, resumed) == max(whole, key=value)
    assert asked + resumed.asked == whole


def test_another_error_ends_the_search_and_its_trial_is_begun_again(journal, whole):
    with pytest.raises(MemoryError):
        searched(journal, Watched(3, MemoryError))
    resumed = Watched()
    searched(journal, resumed)
    assert resumed.asked == whole[3:]


def test_seeds_and_studies_are_kept_apart(journal, whole):
    other_seed, other_study = Watched(), Watched()
    searched(journal, other_seed, seed=18)
    assert other_seed.asked[0] != whole[0]
    searched(journal, other_study, study="t")
    assert other_study.asked == whole


def test_what_comes_first_is_tried_first_and_bounds_what_is_found(journal):
    best_there_is = {"kind": "square", "x": 0.25, "n": 1}
    watched = Watched()
    found = searched(journal, watched, first=[{"kind": "round", "x": 0.5}, best_there_is])
    assert watched.asked[:2] == [("round", 0.5, 0), ("square", 0.25, 1)]
    assert found == ("square", 0.25, 1)
    assert len(watched.asked) == TRIALS


def test_of_equal_values_the_earliest_wins(journal):
    found = searched(journal, lambda _: 0.0, first=[{"kind": "round", "x": 0.5}])
    assert found == ("round", 0.5, 0)


def test_what_first_leaves_out_is_drawn(journal):
    watched = Watched()
    searched(journal, watched, trials=1, first=[{"x": 0.5}])
    ((kind, x, _),) = watched.asked
    assert kind in {"round", "square"}
    assert x == 0.5


def test_new_defaults_are_tried_in_a_search_that_is_done(journal):
    searched(journal, trials=3)
    watched = Watched()
    first = [{"kind": "square", "x": 0.25, "n": 1}]
    assert searched(journal, watched, trials=3, first=first) == ("square", 0.25, 1)
    assert searched(journal, watched, trials=3, first=first) == ("square", 0.25, 1)
    assert watched.asked == [("square", 0.25, 1)]


def test_what_comes_first_survives_an_interruption(journal):
    first = [{"kind": "round", "x": x} for x in (0.5, 0.75)]
    stopped, resumed = Watched(1), Watched()
    with pytest.raises(KeyboardInterrupt):
        searched(journal, stopped, first=first)
    searched(journal, resumed, first=first)
    assert [x for _, x, _ in (stopped.asked + resumed.asked)[:2]] == [0.5, 0.75]
    assert len(stopped.asked + resumed.asked) == TRIALS


@pytest.mark.parametrize(
    ("given", "said"), [({"y": 1}, "'y', which is not suggested"), ({"n": 10}, "10")]
)
@pytest.mark.filterwarnings("ignore:Fixed parameter n:UserWarning")
def test_defaults_that_cannot_be_taken_are_refused(journal, given, said):
    with pytest.raises(ValueError, match=said):
        searched(journal, first=[{"kind": "square", **given}])


def one_sided(setting):
    if setting[0] == "square":
        raise TrainingError("no square can be fitted")
    return math.nan if setting[1] < 0 else setting[1]


def test_trials_that_fail_are_told_counted_and_passed_over(journal, caplog):
    asked = []

    def value(setting):
        asked.append(setting)
        return one_sided(setting)

    kind, x, _ = searched(journal, value)
    assert (kind, len(asked)) == ("round", TRIALS)
    assert x >= 0
    assert "failed: no square can be fitted; {'kind': 'square'" in caplog.text
    assert "failed: the value is nan; {'kind': 'round'" in caplog.text
    searched(journal, value, trials=TRIALS + 2)
    assert len(asked) == TRIALS + 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_search_that_fails_altogether_says_why(journal, bad):
    def failing(_):
        return bad

    for _ in range(2):
        with pytest.raises(TrainingError, match=f"all 3 trials of the search s .*is {bad}"):
            searched(journal, failing, trials=3)


def test_suggesting_may_fail_a_trial(journal):
    def picky(trial):
        setting = suggest(trial)
        if setting[0] == "square":
            raise TrainingError("too square")
        return setting

    assert searched(journal, suggest=picky)[0] == "round"


def test_no_trials_are_no_search(journal):
    with pytest.raises(ValueError, match="trials is 0"):
        searched(journal, trials=0)


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
        ("nothing://user:secret@host/name", "nothing://...@host/name"),
    ],
)
def test_a_database_that_cannot_be_opened_is_told_without_secrets(storage, said):
    with pytest.raises(UsageError, match=said) as raised:
        searched(storage)
    assert "secret" not in str(raised.value)


def test_a_journal_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="path of a writable file"):
        searched(tmp_path / "file" / "journal.log")


def test_a_line_half_written_is_cut_off(journal, whole, caplog):
    with pytest.raises(KeyboardInterrupt):
        searched(journal, Watched(5))
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    resumed = Watched()
    searched(journal, resumed)
    assert resumed.asked == whole[5:]
    assert "removing a half-written last line" in caplog.text


@pytest.mark.parametrize("content", [b"notes", b"notes\n", b'{"op_code": 0}\n'])
def test_a_file_that_is_no_journal_is_refused(journal, content):
    journal.parent.mkdir()
    journal.write_bytes(content)
    with pytest.raises(UsageError, match="delete the file to start"):
        searched(journal)
    assert journal.read_bytes().startswith(content)
    assert list(journal.parent.iterdir()) == [journal]


def test_optuna_is_quiet_and_stays_as_it_was(journal, capfd, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for verbosity in (logging.DEBUG, logging.ERROR):
        optuna.logging.set_verbosity(verbosity)
        searched(journal, study=str(verbosity), trials=2)
        assert optuna.logging.get_verbosity() == verbosity
    optuna.logging.set_verbosity(optuna.logging.INFO)
    assert capfd.readouterr() == ("", "")
    assert sys.stderr.getvalue() == ""
