"""Search for a setting that maximises a value inside the training split; Optuna proposes."""

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
    """Return the setting with the largest value, of those in `first` and those that TPE proposes.

    The tree-structured Parzen estimator (Bergstra et al. 2011, NIPS 24:2546) in Optuna's form
    (Akiba et al. 2019, KDD:2623).

    Every trial draws from a random state of its own, made of `seed` and of how many trials were
    done before it, and looks at no trial but those. So a search that was interrupted, or is given
    more trials, proposes what one that was not interrupted would have proposed, as long as `value`
    always says the same of a setting, and NumPy and Optuna stay at their versions. A trial that
    was interrupted is begun again, and not counted. With another `seed`, the trials that are
    done stay, and those to come differ.

    One process at a time may search a study; others in the same storage do not matter.

    Parameters
    ----------
    suggest : callable
        Makes a setting of a trial. It is called once more for the best one, whose parameters are
        given and no longer drawn.
    value : callable
        What is to be maximised. A trial fails where this or `suggest` raises TrainingError, or the
        value is not finite; the search goes on without it.
    study : str
        Names all that the values depend on: data, folds, what is suggested. A study of this name
        in the storage is resumed.
    storage : str or Path
        The file of an Optuna journal, made if missing, or the URL of a database (with "://").
    trials : int
        At least 1; in total, those of earlier runs and those that failed included.
    seed : int
        At least 0.
    first : sequence of mapping
        Parameters to be tried before all others, and even where `trials` are done; those that a
        mapping leaves out are drawn. With the defaults here, no search ends worse than them. Of
        equal values the earliest wins.

    Raises
    ------
    ValueError
        If `trials` is below 1, or `first` has a parameter that is not suggested or out of range.
    UsageError
        If the storage cannot be opened.
    TrainingError
        If all trials failed.
    """
    if trials < 1:
        raise ValueError(f"trials is {trials}; a search takes at least 1")
    with _quiet(), _opened(study, storage) as opened:
        _Search(opened, suggest, value, seed).run(trials, [_text(given) for given in first])
        best = cast("Any", copy.deepcopy(_best(opened)))
        return suggest(best)


@dataclass(frozen=True, slots=True)
class _Search(Generic[T]):
    study: "optuna.Study"
    suggest: Callable[["optuna.Trial"], T]
    value: Callable[[T], float]
    seed: int

    def run(self, trials: int, first: Sequence[str]) -> None:
        """Run trials until so many are done, and all of `first` among them."""
        from tqdm import tqdm

        done = _done(self.study)
        name = self.study.study_name
        if done:
            _log.info("the search %s goes on after %d trials", name, len(done))
        with tqdm(total=trials, initial=len(done), desc=f"search {name}", disable=None) as bar:
            while (untried := _untried(first, done)) or len(done) < trials:
                self._run_trial(len(done), untried)
                done = _done(self.study)
                bar.update()

    def _run_trial(self, number: int, untried: Sequence[str]) -> None:
        from optuna.trial import TrialState

        trial = self._asked(number, untried)
        try:
            found, failure = self._judged(trial)
        except BaseException:
            self.study.tell(trial, state=TrialState.FAIL)
            raise
        if failure is None:
            self.study.tell(trial, found)
            return
        _log.warning("a trial of %s failed: %s; %s", self.study.study_name, failure, trial.params)
        trial.set_user_attr(_FAILURE, failure)
        self.study.tell(trial, state=TrialState.FAIL)

    def _asked(self, number: int, untried: Sequence[str]) -> "optuna.Trial":
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        state = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        # The liar would look at trials that a killed process left running.
        self.study.sampler = TPESampler(seed=state, constant_liar=False)
        if untried and not self.study.get_trials(states=[TrialState.WAITING]):
            self.study.enqueue_trial(json.loads(untried[0]), {_FIRST: untried[0]})
        return self.study.ask()

    def _judged(self, trial: "optuna.Trial") -> tuple[float, str | None]:
        try:
            setting = self.suggest(trial)
            _check_given(trial)
            found = float(self.value(setting))
        except TrainingError as error:
            return math.nan, str(error)
        return found, None if math.isfinite(found) else f"the value is {found}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from telling of every trial."""
    from optuna import logging as optuna_logging

    before = optuna_logging.get_verbosity()
    optuna_logging.set_verbosity(max(before, optuna_logging.WARNING))
    try:
        yield
    finally:
        optuna_logging.set_verbosity(before)


@contextmanager
def _opened(name: str, storage: str | Path) -> Iterator["optuna.Study"]:
    opened: Any = None
    try:
        try:
            opened = _storage(str(storage))
            study = _study(name, opened)
        except Exception as error:
            # What Optuna raises of a damaged journal is of all kinds, AssertionError among them.
            raise UsageError(_unopened(str(storage), error)) from error
        yield study
    finally:
        if hasattr(opened, "engine"):
            opened.remove_session()
            opened.engine.dispose()


def _storage(storage: str) -> Any:
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    if "://" in storage:
        return RDBStorage(storage)
    path = Path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    # Optuna's default lock, a link, needs a right on Windows; and beside a relative path nobody
    # breaks the one that a killed process left: the link leads nowhere, so it has no age.
    lock = JournalFileOpenLock(storage)
    _mend(path, lock)
    return JournalStorage(JournalFileBackend(storage, lock))


def _mend(journal: Path, lock: "JournalFileOpenLock") -> None:
    """Cut off a last line that was half written; Optuna would append to it, and then refuse it.

    A process leaves one that is killed while it writes, or whose disk is full.
    """
    lock.acquire()
    try:
        content = journal.read_bytes()
        if content and not content.startswith(_JOURNAL_START):
            raise ValueError("it is no journal of a search")
        lines, last = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
        if last:
            _log.warning("%s ends in a line half written, which is cut off: %r", journal, last)
            os.truncate(journal, len(lines))
    finally:
        lock.release()


def _study(name: str, storage: Any) -> "optuna.Study":
    import optuna

    return optuna.create_study(
        study_name=name, storage=storage, direction="maximize", load_if_exists=True
    )


def _unopened(storage: str, error: Exception) -> str:
    shown = re.sub(r"//.*@", "//...@", storage)
    cure = (
        "give the URL of a database that SQLAlchemy can open"
        if "://" in storage
        else "give the path of a file that can be written, or delete it to search anew"
    )
    return f"the search cannot use {shown}: {type(error).__name__}: {error}; {cure}"


def _done(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """Return the trials with a value, and those that failed; none that was interrupted."""
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
    return [given for given in first if given not in tried]


def _check_given(trial: "optuna.Trial") -> None:
    """Raise ValueError where a trial did not take what `first` gives it."""
    from optuna.trial import create_trial

    given = json.loads(trial.user_attrs.get(_FIRST, "{}"))
    unknown = sorted(given.keys() - trial.params.keys())
    if unknown:
        raise ValueError(
            f"first gives {unknown[0]!r}, which is not suggested; suggested are "
            f"{', '.join(trial.params)}"
        )
    create_trial(params=trial.params, distributions=trial.distributions, value=0.0)


def _text(given: Mapping[str, bool | float | str | None]) -> str:
    return json.dumps(dict(given), sort_keys=True)
