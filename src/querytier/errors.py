"""The errors that querytier raises on purpose.

::

    QuerytierError
    ├── UsageError          the call is wrong: a path, a column, a parameter      exit code 2
    ├── LogError            logs cannot be read, or contain too little            exit code 1
    ├── TrainingError       no classifier can be fitted to these examples         exit code 1
    ├── ExportError         the artifact failed a check before it was written     exit code 1
    ├── ArtifactError       an artifact is damaged, or of an unknown format       exit code 1
    └── MissingExtraError   a package of an optional extra is not installed       exit code 1

A message says what is wrong, the value, and the cure. Wrong arguments to a Python function raise
`ValueError` and `TypeError` as usual.
"""

__all__ = [
    "ArtifactError",
    "ExportError",
    "LogError",
    "MissingExtraError",
    "QuerytierError",
    "TrainingError",
    "UsageError",
]


class QuerytierError(Exception):
    """Base class; `exit_code` is the exit code of the command line."""

    exit_code = 1


class UsageError(QuerytierError, ValueError):
    """The call is wrong: a path that does not exist, an unknown column, a misspelt parameter.

    Also a `ValueError`, which is what callers of the Python functions expect of a wrong argument.
    """

    exit_code = 2


class LogError(QuerytierError):
    """Logs cannot be read, or contain too little to work with."""


class TrainingError(QuerytierError):
    """No classifier can be fitted to these examples."""


class ExportError(QuerytierError):
    """The artifact failed a check before it was written."""


class ArtifactError(QuerytierError):
    """An artifact is damaged, was not written by querytier, or has an unknown format version."""


class MissingExtraError(QuerytierError, ImportError):
    """A package of an optional extra is not installed.

    Also an `ImportError`, so that code that tries an import and falls back still works.

    Parameters
    ----------
    package : str
        The import name that was not found.
    extra : str
        The extra that installs it.

    Examples
    --------
    >>> print(MissingExtraError("mlflow", "train"))
    mlflow is not installed; it comes with an extra: pip install 'querytier[train]'
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; it comes with an extra: pip install 'querytier[{extra}]'"
        )
