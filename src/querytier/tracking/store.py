"""The store of MLflow: where it is, and what its failures are called."""

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
    "imported_mlflow",
    "open_store",
    "quiet",
    "tracking_uri",
    "ui_command",
]

URI_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
# MLflow's own: 8 attempts of 120 s, further apart each time. Whoever waits here serves.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class StoreError(QuerytierError):
    """The store of MLflow cannot be reached, or does not have what was asked for."""


@contextmanager
def open_store(project: Path = Path()) -> Iterator["Registry"]:
    """Give the registry of a project, to be read or moved; nothing is created.

    Parameters
    ----------
    project : Path
        The folder of its `mlflow.db`, unless `MLFLOW_TRACKING_URI` is set.

    Raises
    ------
    StoreError
        If it is not there, and for what MLflow raises within the block.
    MissingExtraError
        If mlflow is not installed, or only mlflow-skinny, which reads no database.
    """
    uri = tracking_uri(project)
    path = Path(uri.removeprefix(SQLITE))
    if uri.startswith(SQLITE) and not path.is_file():
        raise StoreError(
            f"there is no registry: {path} does not exist; set {URI_VARIABLE} to the MLflow "
            "server, or work in the folder of the params file of a finished run"
        )
    mlflow = imported_mlflow()
    if uri.startswith(SQLITE) and find_spec("sqlalchemy") is None:
        raise MissingExtraError("sqlalchemy", "train")
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        yield Registry(mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri), downloader(uri))
    except mlflow.exceptions.MlflowException as error:
        raise StoreError(
            f"MLflow at {uri} did not answer: {error}; see that it runs, and that {URI_VARIABLE} "
            "names it"
        ) from error


def downloader(uri: str) -> Callable[[str, Path], Path]:
    """Return what copies files of a store below a folder, and returns where they are.

    It raises StoreError where they cannot be had.
    """

    def download(location: str, target: Path) -> Path:
        import mlflow.artifacts

        try:
            with quiet():
                found = mlflow.artifacts.download_artifacts(
                    artifact_uri=location, dst_path=str(target), tracking_uri=uri, registry_uri=uri
                )
        # Whatever is not about HTTP's status comes as it is: of requests, of the file system.
        except (OSError, mlflow.exceptions.MlflowException) as error:
            raise StoreError(
                f"the files at {location} could not be fetched from MLflow at {uri}: {error}; see "
                "that it runs with --serve-artifacts or that the place can be read from here"
            ) from error
        return Path(found)

    return download


def imported_mlflow() -> Any:
    """Return mlflow, silenced; raise MissingExtraError where it is not installed."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    for talkative in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    try:
        import mlflow
    except ImportError as error:
        raise MissingExtraError("mlflow", "registry") from error
    return mlflow


def ui_command(root: Path) -> str:
    """Return the command that opens MLflow's UI on what was logged under `root`, or its address."""
    if tracking_uri(root).startswith("http"):
        return tracking_uri(root)
    program = Path(sys.executable).with_name("mlflow")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    return f"{program} ui --backend-store-uri {tracking_uri(root)}"


def tracking_uri(root: Path) -> str:
    """Return where it is logged: `MLFLOW_TRACKING_URI`, else `mlflow.db` in a folder."""
    return os.environ.get(URI_VARIABLE) or f"{SQLITE}{root.resolve()}/mlflow.db"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow from warning, and from printing what it registered."""
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        yield
