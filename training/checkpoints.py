"""What an unfinished run has computed, so that after an interruption the rest is computed only.

Results lie in a folder of their run, each in a file that appears complete or not at all::

    FOLDER/run-RUN/PART/NAME.scores

    13 bytes   what the file is
    32 bytes   sha256 of all that follows
    one line   JSON: what tells the run from others, parts, name
    the rest   the array, as NumPy writes it without pickle

RUN, PART and NAME are hashes; what a file holds is told by the line inside it alone.
"""

import hashlib
import io
import json
import logging
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["JSON", "NOTHING_KEPT", "Kept", "Unfinished"]

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Scalar = TypeVar("Scalar", bound=np.generic)

_MAGIC = b"qt-scores-v1\n"
_ENDING = ".scores"
_log = logging.getLogger(__name__)


class Kept:
    """Results that are kept; of this class itself none: all is computed."""

    def scores(
        self,
        name: str,  # noqa: ARG002 (kept under no name)
        compute: Callable[[], NDArray[Scalar]],
    ) -> NDArray[Scalar]:
        """Return the array kept under a name; without one compute it."""
        return compute()

    def under(self, part: str) -> "Kept":  # noqa: ARG002 (all parts are alike)
        """Return the results of a part of the run, such as an outer fold; names are its own."""
        return self

    def done(self) -> None:
        """Remove what is kept."""


NOTHING_KEPT = Kept()


class Unfinished(Kept):
    """Results of one run, kept until it is done.

    A result is found again by the run, the part and the name it was kept under, and by nothing
    else: whatever it depends on has to be among these. Results of other runs in the folder are
    removed when it is opened, and files of others left alone. Processes may share a folder; of a
    result that two compute at once the later one stays.

    Parameters
    ----------
    folder : Path
        Made when the first result is kept.
    run : mapping of str to JSON
        All that the results depend on: data, seed, folds, encoders, version. No secrets.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "unfinished"
    >>> Unfinished(folder, {"seed": 17}).scores("minilm", lambda: np.array([0.25, 0.5])).tolist()
    [0.25, 0.5]
    >>> again = Unfinished(folder, {"seed": 17})
    >>> again.scores("minilm", lambda: np.array([])).tolist()
    [0.25, 0.5]
    >>> again.done()
    >>> folder.exists()
    False
    """

    def __init__(self, folder: Path, run: Mapping[str, JSON]) -> None:
        description = json.dumps(run, sort_keys=True)
        own = folder / f"run-{_hashed(description)}"
        _remove_other_runs(folder, own)
        kept = len(list(own.rglob(f"*{_ENDING}")))
        if kept:
            _log.info("%d results of an interrupted run are kept in %s; going on", kept, folder)
        self._files = _Files(own, (description,))

    def scores(self, name: str, compute: Callable[[], NDArray[Scalar]]) -> NDArray[Scalar]:
        """Return the array kept under a name; without one compute it, and keep it.

        Where the disk does not take it, a warning says so once, and the run goes on.

        Parameters
        ----------
        name : str
            Within the run and part.
        compute : callable
            Returns an array of numbers, truth values, times or text of fixed length.

        Returns
        -------
        ndarray
            Shape, dtype and every bit as computed.

        Raises
        ------
        ValueError
            If the array holds Python objects.
        """
        kept = self._files.read(name)
        if kept is not None:
            return cast("NDArray[Scalar]", kept)
        computed = compute()
        self._files.keep(name, computed)
        return computed

    def under(self, part: str) -> "Unfinished":
        """Return the results of a part of the run, such as an outer fold; names are its own."""
        inner = object.__new__(Unfinished)
        inner._files = self._files.under(part)
        return inner

    def done(self) -> None:
        """Remove what is kept: of a part this part, of a run all of it, and the folder."""
        self._files.remove()


@dataclass(slots=True)
class _Disk:
    """Whether the disk has refused a result before."""

    refused: bool = False

    def refuse(self, folder: Path, error: OSError) -> None:
        if not self.refused:
            _log.warning(
                "results are not kept in %s: %s; the run goes on, but after an interruption it "
                "would begin anew",
                folder,
                error,
            )
        self.refused = True


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of a run, or of a part of it."""

    folder: Path
    scope: tuple[str, ...]
    disk: _Disk = field(default_factory=_Disk)

    def under(self, part: str) -> "_Files":
        return _Files(self.folder / _hashed(part), (*self.scope, part), self.disk)

    def read(self, name: str) -> NDArray[np.generic] | None:
        path = self._path(name)
        try:
            content = _checked(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            _log.warning("%s cannot be read: %s; its result is computed again", path, error)
            return None
        if content is None:
            _log.warning("%s is damaged; its result is computed again", path)
            return None
        identity, _, array = content.partition(b"\n")
        if identity != self._identity(name):
            return None
        return cast("NDArray[np.generic]", np.load(io.BytesIO(array), allow_pickle=False))

    def keep(self, name: str, computed: NDArray[Scalar]) -> None:
        array = io.BytesIO()
        np.save(array, computed, allow_pickle=False)
        content = self._identity(name) + b"\n" + array.getvalue()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(self._path(name), _MAGIC + hashlib.sha256(content).digest() + content)
        except OSError as error:
            self.disk.refuse(self.folder, error)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()

    def _path(self, name: str) -> Path:
        return self.folder / f"{_hashed(name)}{_ENDING}"

    def _identity(self, name: str) -> bytes:
        return json.dumps([*self.scope, name]).encode()


def _remove_other_runs(folder: Path, own: Path) -> None:
    for other in folder.glob("run-" + 32 * "[0-9a-f]"):
        if other != own:
            _log.info("the results in %s are of another run, and are removed", other)
            shutil.rmtree(other, ignore_errors=True)


def _checked(content: bytes) -> bytes | None:
    """Return what a file holds; None where it is not what was written."""
    start = len(_MAGIC) + hashlib.sha256().digest_size
    digest, rest = content[len(_MAGIC) : start], content[start:]
    whole = content.startswith(_MAGIC) and hashlib.sha256(rest).digest() == digest
    return rest if whole else None


def _write(target: Path, content: bytes) -> None:
    # Unlike atomic_file's, the name is its own: another process may be keeping the same result.
    scratch = target.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        scratch.write_bytes(content)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
