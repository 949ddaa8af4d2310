"""An interrupted search resumes unchanged, and is never worse than its defaults."""

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
        if len(self.settings) == 7:
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
    """The value of settings, and a record of them; interrupted after a number of calls."""

    def __init__(self, interrupted_at=None, error=KeyboardInterrupt):
        self.settings, self.interrupted_at, self.error = [], interrupted_at, error

    def __call__(self, setting):
        """Return the value, unless it is time to be interrupted."""
        if len(self.settings) == self.interrupted_at:
            raise self.error
        self.settings.append(setting)
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
    """Return the settings of a search without interruption."""
    watched = Watched()
    searched(tmp_path_factory.mktemp("whole") / "journal.log", watched)
    return watched.settings


def test_the_best_setting_of_all_trials_is_returned(journal):
    watched = Watched()
    best = searched(journal, watched)
    assert len(watched.settings) == TRIALS
    assert list(journal.parent.iterdir()) == [journal]
    assert best == max(watched.settings, key=value)
    assert value(best) > 0.3


def test_an_interrupted_search_resumes_unchanged(storage, whole):
    stopped, resumed, again = Watched(5), Watched(), Watched()
    with pytest.raises(KeyboardInterrupt):
        searched(storage, stopped)
    best = searched(storage, resumed)
    assert stopped.settings + resumed.settings == whole
    assert searched(storage, again) == best == max(whole, key=value)
    assert again.settings == []


@settings(max_examples=8)
@given(st.lists(st.integers(1, TRIALS), min_size=1, max_size=3).map(sorted))
def test_a_longer_search_extends_a_shorter_one(tmp_path_factory, whole, totals):
    watched = Watched()
    storage = tmp_path_factory.mktemp("search") / "journal.log"
    for total in totals:
        searched(storage, watched, trials=total)
        assert watched.settings == whole[:total]


def test_the_search_of_a_killed_process_resumes_unchanged(journal, whole):
    program = KILLED_IN_TRIAL_7.format(tests=str(Path(__file__).parent), journal=str(journal))
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    resumed = Watched()
    searched(journal, resumed)
    assert resumed.settings == whole[7:]


@settings(max_examples=8)
@given(st.lists(st.integers(0, TRIALS - 1), max_size=3))
def test_any_number_of_interruptions_changes_nothing(tmp_path_factory, whole, stops):
    tried = []
    journal = tmp_path_factory.mktemp("search") / "journal.log"
    for stop in stops:
        stopped = Watched(stop)
        with suppress(KeyboardInterrupt):
            searched(journal, stopped)
        tried += stopped.settings
    resumed = Watched()
    assert searched(journal, resumed) == max(whole, key=value)
    assert tried + resumed.settings == whole


def test_an_error_ends_the_search_and_its_trial_runs_again(journal, whole):
    with pytest.raises(MemoryError):
        searched(journal, Watched(3, MemoryError))
    resumed = Watched()
    searched(journal, resumed)
    assert resumed.settings == whole[3:]


def test_seeds_and_studies_are_separate(journal, whole):
    other_seed, other_study = Watched(), Watched()
    searched(journal, other_seed, seed=18)
    assert other_seed.settings[0] != whole[0]
    searched(journal, other_study, study="t")
    assert other_study.settings == whole


def test_first_settings_are_tried_first_and_may_win(journal):
    best_there_is = {"kind": "square", "x": 0.25, "n": 1}
    watched = Watched()
    found = searched(journal, watched, first=[{"kind": "round", "x": 0.5}, best_there_is])
    assert watched.settings[:2] == [("round", 0.5, 0), ("square", 0.25, 1)]
    assert found == ("square", 0.25, 1)
    assert len(watched.settings) == TRIALS


def test_the_earliest_of_equal_values_wins(journal):
    found = searched(journal, lambda _: 0.0, first=[{"kind": "round", "x": 0.5}])
    assert found == ("round", 0.5, 0)


def test_parameters_missing_in_first_are_drawn(journal):
    watched = Watched()
    searched(journal, watched, trials=1, first=[{"x": 0.5}])
    ((kind, x, _),) = watched.settings
    assert kind in {"round", "square"}
    assert x == 0.5


def test_new_defaults_are_tried_in_a_finished_search(journal):
    searched(journal, trials=3)
    watched = Watched()
    first = [{"kind": "square", "x": 0.25, "n": 1}]
    assert searched(journal, watched, trials=3, first=first) == ("square", 0.25, 1)
    assert searched(journal, watched, trials=3, first=first) == ("square", 0.25, 1)
    assert watched.settings == [("square", 0.25, 1)]


def test_first_settings_survive_an_interruption(journal):
    first = [{"kind": "round", "x": x} for x in (0.5, 0.75)]
    stopped, resumed = Watched(1), Watched()
    with pytest.raises(KeyboardInterrupt):
        searched(journal, stopped, first=first)
    searched(journal, resumed, first=first)
    assert [x for _, x, _ in (stopped.settings + resumed.settings)[:2]] == [0.5, 0.75]
    assert len(stopped.settings + resumed.settings) == TRIALS


@pytest.mark.parametrize(
    ("given", "message"), [({"y": 1}, "'y', which is not suggested"), ({"n": 10}, "10")]
)
@pytest.mark.filterwarnings("ignore:Fixed parameter n:UserWarning")
def test_impossible_first_settings_are_refused(journal, given, message):
    with pytest.raises(ValueError, match=message):
        searched(journal, first=[{"kind": "square", **given}])


def one_sided(setting):
    if setting[0] == "square":
        raise TrainingError("no square can be fitted")
    return math.nan if setting[1] < 0 else setting[1]


def test_failed_trials_are_logged_and_counted(journal, caplog):
    tried = []

    def value(setting):
        tried.append(setting)
        return one_sided(setting)

    kind, x, _ = searched(journal, value)
    assert (kind, len(tried)) == ("round", TRIALS)
    assert x >= 0
    assert "failed: no square can be fitted; {'kind': 'square'" in caplog.text
    assert "failed: the value is nan; {'kind': 'round'" in caplog.text
    searched(journal, value, trials=TRIALS + 2)
    assert len(tried) == TRIALS + 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_search_without_a_valid_trial_says_why(journal, bad):
    def failing(_):
        return bad

    for _ in range(2):
        with pytest.raises(TrainingError, match=f"all 3 trials of the search s .*is {bad}"):
            searched(journal, failing, trials=3)


def test_a_trial_may_fail_while_it_suggests(journal):
    def picky(trial):
        setting = suggest(trial)
        if setting[0] == "square":
            raise TrainingError("too square")
        return setting

    assert searched(journal, suggest=picky)[0] == "round"


def test_zero_trials_are_refused(journal):
    with pytest.raises(ValueError, match="trials is 0"):
        searched(journal, trials=0)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
        ("nothing://user:secret@host/name", "nothing://...@host/name"),
    ],
)
def test_an_unusable_database_is_reported_without_secrets(storage, message):
    with pytest.raises(UsageError, match=message) as raised:
        searched(storage)
    assert "secret" not in str(raised.value)


def test_an_unwritable_journal_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="path of a writable file"):
        searched(tmp_path / "file" / "journal.log")


def test_a_half_written_last_line_is_removed(journal, whole, caplog):
    with pytest.raises(KeyboardInterrupt):
        searched(journal, Watched(5))
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    resumed = Watched()
    searched(journal, resumed)
    assert resumed.settings == whole[5:]
    assert "removing a half-written last line" in caplog.text


@pytest.mark.parametrize("content", [b"notes", b"notes\n", b'{"op_code": 0}\n'])
def test_another_kind_of_file_is_refused(journal, content):
    journal.parent.mkdir()
    journal.write_bytes(content)
    with pytest.raises(UsageError, match="delete the file to start"):
        searched(journal)
    assert journal.read_bytes().startswith(content)
    assert list(journal.parent.iterdir()) == [journal]


def test_optuna_logs_nothing_and_keeps_its_settings(journal, capfd, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for verbosity in (logging.DEBUG, logging.ERROR):
        optuna.logging.set_verbosity(verbosity)
        searched(journal, study=str(verbosity), trials=2)
        assert optuna.logging.get_verbosity() == verbosity
    optuna.logging.set_verbosity(optuna.logging.INFO)
    assert capfd.readouterr() == ("", "")
    assert sys.stderr.getvalue() == ""
