"""Every error that querytier raises on purpose.

::

    QuerytierError
    ├── UsageError          the call is wrong: a path, a column, a parameter      exit code 2
    ├── LogError            the logs cannot be read, or hold too little           exit code 1
    ├── TrainingError       no classifier can be fitted on these examples         exit code 1
    ├── ExportError         the artifact did not pass its gates                   exit code 1
    ├── ArtifactError       an artifact is damaged, foreign or of another version exit code 1
    └── MissingExtraError   a package of an optional extra is not installed       exit code 1

A message says what was wrong, the value, and the cure. Wrong arguments to a Python function stay
`ValueError` and `TypeError`.
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
    """Base of the tree; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(QuerytierError, ValueError):
    """The call is wrong: a path that does not exist, an unknown column, a misspelt parameter."""

    exit_code = 2


class LogError(QuerytierError):
    """The logs cannot be read, or hold too little to work with."""


class TrainingError(QuerytierError):
    """No classifier can be fitted on these examples."""


class ExportError(QuerytierError):
    """The artifact did not pass a gate on its way out."""


class ArtifactError(QuerytierError):
    """An artifact is damaged, foreign, or of a format this version does not read."""


class MissingExtraError(QuerytierError, ImportError):
    """A package of an optional extra is not installed.

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
