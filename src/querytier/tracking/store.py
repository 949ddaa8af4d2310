"""The MLflow store: its address, the import of mlflow, and its failures as our own errors.

Only this module imports mlflow. The import takes seconds, and it reads its settings from the
environment when it is imported, so they have to be set before the import, in one place.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

from querytier.errors import MissingExtraError, QuerytierError
from querytier.tracking.registry import Registry

__all__ = [
    "SQLITE",
    "URI_VARIABLE",
    "StoreError",
    "downloader",
    "import_mlflow",
    "open_registry",
    "quiet",
    "tracking_uri",
    "ui_command",
]

URI_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
# MLflow's defaults are 8 attempts of 120 s each, with growing pauses. A starting service waits
# here: with these limits, a server that hangs delays it by 21 s, a server that refuses by 3 ms.
_HTTP_LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class StoreError(QuerytierError):
    """The MLflow store cannot be reached, or lacks what was requested."""


@contextmanager
def open_registry(project: Path = Path()) -> Iterator[Registry]:
    """Open the registry of a project; errors of MLflow within the block become `StoreError`.

    Parameters
    ----------
    project : Path
        The folder of its `mlflow.db`, unless `MLFLOW_TRACKING_URI` is set.

    Raises
    ------
    StoreError
        If the store does not exist, or MLflow raises an error within the block.
    MissingExtraError
        If mlflow is not installed, or only mlflow-skinny is and the store is a database.
    """
    uri = tracking_uri(project)
    path = Path(uri.removeprefix(SQLITE))
    # MLflow would create a missing database, which takes seconds: a mistyped folder would get an
    # empty registry of its own.
    if uri.startswith(SQLITE) and not path.is_file():
        raise StoreError(
            f"there is no registry: {path} does not exist; set {URI_VARIABLE} to the MLflow "
            "server, or change to the folder of a finished run's params file"
        )
    mlflow = import_mlflow()
    # mlflow-skinny is enough if the store is a server, and starts in 1.5 s, but reads no database.
    if uri.startswith(SQLITE) and find_spec("sqlalchemy") is None:
        raise MissingExtraError("sqlalchemy", "train")
    _set_defaults(_HTTP_LIMITS)
    try:
        yield Registry(mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri), downloader(uri))
    except mlflow.exceptions.MlflowException as error:
        raise StoreError(
            f"MLflow at {uri} did not answer: {error}; check that it is running and that "
            f"{URI_VARIABLE} is its address"
        ) from error


def downloader(uri: str) -> Callable[[str, Path], Path]:
    """Return a function that copies files of a store below a folder and returns their path.

    It raises `StoreError` if the files cannot be fetched.
    """

    def download(location: str, target: Path) -> Path:
        import mlflow.artifacts

        try:
            with quiet():
                found = mlflow.artifacts.download_artifacts(
                    artifact_uri=location, dst_path=str(target), tracking_uri=uri, registry_uri=uri
                )
        # MLflow wraps HTTP status codes only; errors of requests and of the file system, all of
        # them OSError, arrive unchanged.
        except (OSError, mlflow.exceptions.MlflowException) as error:
            raise StoreError(
                f"the files at {location} could not be fetched from MLflow at {uri}: {error}; "
                "check that the server runs with --serve-artifacts, or that this machine can read "
                "that location"
            ) from error
        return Path(found)

    return download


def import_mlflow() -> Any:
    """Return mlflow, configured to be silent; raise MissingExtraError if it is not installed."""
    _set_defaults(_SETTINGS)
    # Both log every migration of a new database at level INFO.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        import mlflow
    except ImportError as error:
        raise MissingExtraError("mlflow", "registry") from error
    return mlflow


def ui_command(root: Path) -> str:
    """Return the command that opens MLflow's UI on the runs logged under `root`, or its address."""
    if tracking_uri(root).startswith("http"):
        return tracking_uri(root)
    program = Path(sys.executable).with_name("mlflow")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    return f"{program} ui --backend-store-uri {tracking_uri(root)}"


def tracking_uri(root: Path) -> str:
    """Return the address of the store: `MLFLOW_TRACKING_URI`, else `mlflow.db` in a folder."""
    return os.environ.get(URI_VARIABLE) or f"{SQLITE}{root.resolve()}/mlflow.db"


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress MLflow's warnings, and its output on stderr during registration."""
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        yield


def _set_defaults(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        os.environ.setdefault(name, value)
