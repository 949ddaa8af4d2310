"""Search for the setting with the highest value inside the training split; Optuna proposes."""

import copy
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np

from querytier.errors import TrainingError, UsageError

if TYPE_CHECKING:
    import optuna
    from optuna.storages.journal import JournalFileOpenLock

__all__ = ["search"]

T = TypeVar("T")

_JOURNAL_START = b'{"op_code"'
_FIRST, _FAILURE = "first", "failure"
_log = logging.getLogger(__name__)


def search(
    suggest: Callable[["optuna.Trial"], T],
    value: Callable[[T], float],
    *,
    study: str,
    storage: str | Path,
    trials: int,
    seed: int,
    first: Sequence[Mapping[str, bool | float | str | None]] = (),
) -> T:
    """Return the setting with the highest value, among those in `first` and those proposed by TPE.

    TPE is the tree-structured Parzen estimator (Bergstra et al. 2011, NIPS 24:2546) of Optuna
    (Akiba et al. 2019, KDD:2623).

    An interrupted search resumes, and a longer search extends a shorter one: both propose what one
    uninterrupted search would have proposed, if `value` is deterministic and the versions of NumPy
    and Optuna do not change. An interrupted trial is run again and does not count. With another
    `seed`, finished trials stay, and later ones differ.

    Only one process may search a study at a time. Other studies in the storage are independent.

    Parameters
    ----------
    suggest : callable
        Returns a setting for a trial. It is called once more for the best trial, whose parameters
        are then fixed.
    value : callable
        Returns the value to maximise. A trial fails if this or `suggest` raises TrainingError, or
        if the value is not finite; the search continues without it.
    study : str
        Identifies everything that the values depend on: data, folds, the suggested parameters. A
        study of this name in the storage is resumed.
    storage : str or Path
        The file of an Optuna journal, created if missing, or the URL of a database (with "://").
    trials : int
        Total number of trials, at least 1, including failed ones and those of earlier runs.
    seed : int
        At least 0.
    first : sequence of mapping
        Parameters to try before all others, even if `trials` are done. Missing parameters are
        drawn. With the defaults here, the result is never worse than the defaults. If values are
        equal, the earliest wins.

    Raises
    ------
    ValueError
        If `trials` is below 1, or a parameter in `first` is not suggested or is out of range.
    UsageError
        If the storage cannot be opened.
    TrainingError
        If all trials failed.
    """
    if trials < 1:
        raise ValueError(f"trials is {trials}; a search needs at least 1")
    texts = [json.dumps(dict(parameters), sort_keys=True) for parameters in first]
    with _quiet(), _opened(study, storage) as opened:
        _Search(opened, suggest, value, seed).run(trials, texts)
        best = cast("Any", copy.deepcopy(_best(opened)))
        return suggest(best)


@dataclass(frozen=True, slots=True)
class _Search(Generic[T]):
    study: "optuna.Study"
    suggest: Callable[["optuna.Trial"], T]
    value: Callable[[T], float]
    seed: int

    def run(self, trials: int, first: Sequence[str]) -> None:
        """Run trials until this number is done, including all of `first`."""
        from tqdm import tqdm

        done = _done(self.study)
        name = self.study.study_name
        if done:
            _log.info("resuming the search %s after %d trials", name, len(done))
        with tqdm(total=trials, initial=len(done), desc=f"search {name}", disable=None) as bar:
            while (untried := _untried(first, done)) or len(done) < trials:
                self._run_trial(len(done), untried)
                done = _done(self.study)
                bar.update()

    def _run_trial(self, number: int, untried: Sequence[str]) -> None:
        from optuna.trial import TrialState

        trial = self._ask(number, untried)
        try:
            value, failure = self._evaluate(trial)
        except BaseException:
            self.study.tell(trial, state=TrialState.FAIL)
            raise
        if failure is None:
            self.study.tell(trial, value)
            return
        _log.warning("a trial of %s failed: %s; %s", self.study.study_name, failure, trial.params)
        trial.set_user_attr(_FAILURE, failure)
        self.study.tell(trial, state=TrialState.FAIL)

    def _ask(self, number: int, untried: Sequence[str]) -> "optuna.Trial":
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        # Every trial has its own random state, from the seed and the number of trials done, so that
        # an interruption does not shift the random numbers of later trials. The constant liar would
        # use trials that a killed process has left running.
        state = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        self.study.sampler = TPESampler(seed=state, constant_liar=False)
        if untried and not self.study.get_trials(states=[TrialState.WAITING]):
            self.study.enqueue_trial(json.loads(untried[0]), {_FIRST: untried[0]})
        return self.study.ask()

    def _evaluate(self, trial: "optuna.Trial") -> tuple[float, str | None]:
        """Return the value of a trial, and why it failed if it did."""
        try:
            setting = self.suggest(trial)
            _check_first(trial)
            value = float(self.value(setting))
        except TrainingError as error:
            return math.nan, str(error)
        return value, None if math.isfinite(value) else f"the value is {value}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from logging every trial."""
    from optuna import logging as optuna_logging

    before = optuna_logging.get_verbosity()
    optuna_logging.set_verbosity(max(before, optuna_logging.WARNING))
    try:
        yield
    finally:
        optuna_logging.set_verbosity(before)


@contextmanager
def _opened(name: str, location: str | Path) -> Iterator["optuna.Study"]:
    import optuna

    storage: Any = None
    try:
        try:
            storage = _storage(str(location))
            study = optuna.create_study(
                study_name=name, storage=storage, direction="maximize", load_if_exists=True
            )
        except Exception as error:
            # A damaged journal makes Optuna raise errors of all kinds, AssertionError among them.
            raise UsageError(_cannot_open(str(location), error)) from error
        yield study
    finally:
        if hasattr(storage, "engine"):
            storage.remove_session()
            storage.engine.dispose()


def _storage(location: str) -> Any:
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    if "://" in location:
        return RDBStorage(location)
    path = Path(location)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    # Optuna's default lock is a symbolic link, which needs a privilege on Windows. For a relative
    # path, the link that a killed process leaves is never broken: it points nowhere, so it has no
    # age.
    lock = JournalFileOpenLock(location)
    _cut_last_line(path, lock)
    return JournalStorage(JournalFileBackend(location, lock))


def _cut_last_line(journal: Path, lock: "JournalFileOpenLock") -> None:
    """Remove a last line that was only half written."""
    # A process that is killed while it writes leaves such a line, and so does a full disk. Optuna
    # would append to it, and refuse the journal from then on.
    lock.acquire()
    try:
        content = journal.read_bytes()
        if content and not content.startswith(_JOURNAL_START):
            raise ValueError("it is not the journal of a search")
        end = content.rfind(b"\n") + 1
        if content[end:]:
            _log.warning("%s: removing a half-written last line: %r", journal, content[end:])
            os.truncate(journal, end)
    finally:
        lock.release()


def _cannot_open(location: str, error: Exception) -> str:
    shown = re.sub(r"//.*@", "//...@", location)
    cure = (
        "give the URL of a database that SQLAlchemy can open"
        if "://" in location
        else "give the path of a writable file, or delete the file to start the search again"
    )
    return f"the search cannot use {shown}: {type(error).__name__}: {error}; {cure}"


def _done(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Return the trials with a value and those that failed, but not those that were interrupted."""
    from optuna.trial import TrialState

    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state == TrialState.COMPLETE
        or (trial.state == TrialState.FAIL and _FAILURE in trial.user_attrs)
    ]


def _best(study: "optuna.Study") -> "optuna.trial.FrozenTrial":
    done = _done(study)
    valued = [trial for trial in done if trial.value is not None]
    if not valued:
        raise TrainingError(
            f"all {len(done)} trials of the search {study.study_name} failed, the first with: "
            f"{done[0].user_attrs[_FAILURE]}"
        )
    best = max(valued, key=lambda trial: cast("float", trial.value))
    _log.info("the search %s found %g with %s", study.study_name, best.value, best.params)
    return best


def _untried(first: Sequence[str], done: Sequence["optuna.trial.FrozenTrial"]) -> list[str]:
    tried = {trial.user_attrs.get(_FIRST) for trial in done}
    return [parameters for parameters in first if parameters not in tried]


def _check_first(trial: "optuna.Trial") -> None:
    """Raise ValueError if a trial cannot use the parameters that `first` gives it."""
    from optuna.trial import create_trial

    parameters = json.loads(trial.user_attrs.get(_FIRST, "{}"))
    unknown = sorted(parameters.keys() - trial.params.keys())
    if unknown:
        raise ValueError(
            f"first gives {unknown[0]!r}, which is not suggested; suggested are "
            f"{', '.join(trial.params)}"
        )
    # Optuna only warns of a fixed parameter that is out of range; this raises.
    create_trial(params=trial.params, distributions=trial.distributions, value=0.0)
