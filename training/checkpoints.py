"""Checkpoints: an interrupted run resumes with the arrays that it has computed already.

Each array is a file of `querytier.training.checked_files`::

    FOLDER/run-RUN/PART/NAME.scores

    one line   JSON: the description of the run, the parts, the name
    the rest   the array, as NumPy writes it without pickle

RUN, PART and NAME are hashes; only the line inside the file identifies its content.
"""

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from querytier.training.checked_files import read_checked, write_checked

__all__ = ["JSON", "NO_CHECKPOINTS", "Checkpoints"]

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Scalar = TypeVar("Scalar", bound=np.generic)

_MAGIC = b"qt-scores-v1\n"
_ENDING = ".scores"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run, or of a part of it; `open` makes them.

    An array is found by the run, the part and the name that it was saved under, and by nothing
    else, so these have to determine it. Processes may share a folder; if two compute the same array
    at once, the later file replaces the earlier one.

    Attributes
    ----------
    folder : Path or None
        None saves nothing: every array is computed.
    scope : tuple of str
        The description of the run, and the parts down to this one.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "unfinished"
    >>> run = Checkpoints.open(folder, {"seed": 17})
    >>> run.load_or_compute("minilm", lambda: np.array([0.25, 0.5])).tolist()
    [0.25, 0.5]
    >>> resumed = Checkpoints.open(folder, {"seed": 17})
    >>> resumed.load_or_compute("minilm", lambda: np.array([])).tolist()
    [0.25, 0.5]
    >>> resumed.remove()
    >>> folder.exists()
    False
    """

    folder: Path | None = None
    scope: tuple[str, ...] = ()
    # Shared by all parts of a run, so that a full disk is reported once and not for every array.
    _errors: list[OSError] = field(default_factory=list, repr=False)

    @classmethod
    def open(cls, folder: Path, run: Mapping[str, JSON]) -> "Checkpoints":
        """Return the checkpoints of a run; remove those of other runs from the folder.

        Parameters
        ----------
        folder : Path
            Created when the first array is saved. Files of other programs in it stay.
        run : mapping of str to JSON
            Everything that the arrays depend on: data, seed, folds, encoders, version. No secrets.
        """
        description = json.dumps(run, sort_keys=True)
        own = folder / f"run-{_hash(description)}"
        for other in folder.glob("run-" + 32 * "[0-9a-f]"):
            if other != own:
                _log.info("removing %s: these checkpoints belong to another run", other)
                shutil.rmtree(other, ignore_errors=True)
        count = len(list(own.rglob(f"*{_ENDING}")))
        if count:
            _log.info("resuming an interrupted run: %d checkpoints in %s", count, folder)
        return cls(own, (description,))

    def load_or_compute(self, name: str, compute: Callable[[], NDArray[Scalar]]) -> NDArray[Scalar]:
        """Return the array saved under a name; if there is none, compute and save it.

        If the array cannot be saved, one warning says so and the run continues.

        Parameters
        ----------
        name : str
            Unique within the part.
        compute : callable
            Returns an array of numbers, booleans, times or text of fixed length.

        Returns
        -------
        ndarray
            Shape, dtype and every bit as computed.

        Raises
        ------
        ValueError
            If the array holds Python objects.
        """
        if self.folder is None:
            return compute()
        path = self.folder / f"{_hash(name)}{_ENDING}"
        identity = json.dumps([*self.scope, name]).encode()
        saved = _read(path, identity)
        if saved is not None:
            return cast("NDArray[Scalar]", saved)
        computed = compute()
        content = io.BytesIO()
        np.save(content, computed, allow_pickle=False)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_checked(path, _MAGIC, identity + b"\n" + content.getvalue())
        except OSError as error:
            self._warn(error)
        return computed

    def part(self, name: str) -> "Checkpoints":
        """Return the checkpoints of a part of the run, such as an outer fold; names are its own."""
        folder = self.folder and self.folder / _hash(name)
        return replace(self, folder=folder, scope=(*self.scope, name))

    def remove(self) -> None:
        """Remove all checkpoints of the run or part, and the folder if it is empty then."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):
                self.folder.parent.rmdir()

    def _warn(self, error: OSError) -> None:
        if not self._errors:
            _log.warning(
                "cannot save checkpoints in %s: %s; the run continues, but would start from the "
                "beginning after an interruption",
                self.folder,
                error,
            )
        self._errors.append(error)


NO_CHECKPOINTS = Checkpoints()


def _read(path: Path, identity: bytes) -> NDArray[np.generic] | None:
    try:
        content = read_checked(path, _MAGIC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        _log.warning("cannot read %s: %s; its array is computed again", path, error)
        return None
    if content is None:
        _log.warning("%s is damaged; its array is computed again", path)
        return None
    found, _, array = content.partition(b"\n")
    # A file may have been copied under the name of another: its own line decides.
    if found != identity:
        return None
    return cast("NDArray[np.generic]", np.load(io.BytesIO(array), allow_pickle=False))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
