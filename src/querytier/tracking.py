"""Experiment tracking: the one module that imports mlflow."""

import json
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from querytier.errors import MissingExtraError, QuerytierError

__all__ = ["REGISTERED_NAME", "RunReference", "Tracker", "ui_command"]

REGISTERED_NAME = "querytier"
_EXPERIMENT = "querytier"
_FAILURE = "failure"
_LONGEST_FAILURE = 500
_URI_VARIABLE = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True, slots=True)
class RunReference:
    """Where a run is logged, kept between stages.

    Attributes
    ----------
    tracking_uri, experiment_id, run_id : str
    """

    tracking_uri: str
    experiment_id: str
    run_id: str

    def write(self, path: Path) -> None:
        """Write the reference as JSON."""
        content = {name: getattr(self, name) for name in self.__slots__}
        path.write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "RunReference":
        """Read what `write` wrote."""
        return cls(**json.loads(path.read_text()))


def ui_command(root: Path) -> str:
    """Return the command that opens MLflow's UI on what was logged under `root`."""
    program = Path(sys.executable).with_name("mlflow")
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    return f"{program} ui --backend-store-uri {_tracking_uri(root)}"


def _tracking_uri(root: Path) -> str:
    return os.environ.get(_URI_VARIABLE) or f"sqlite:///{root.resolve()}/mlflow.db"


@dataclass(frozen=True)
class Tracker:
    """Logs one pipeline run to MLflow.

    Parameters
    ----------
    root : Path
        Gets `mlflow.db` and `mlartifacts/`, unless `MLFLOW_TRACKING_URI` is set.
    """

    root: Path

    @contextmanager
    def start(self, name: str, params: Mapping[str, object]) -> Iterator[RunReference]:
        """Start a parent run.

        Where the block raises, the run ends as FAILED, where it is interrupted (from the keyboard,
        by SIGTERM) as KILLED; the tag `failure` says why.

        Parameters
        ----------
        name : str
        params : mapping
            Nested mappings are flattened with dots.
        """
        mlflow = self._mlflow()
        with _open_run(mlflow, run_name=name) as run:
            mlflow.log_params(dict(_flat(params)))
            yield RunReference(mlflow.get_tracking_uri(), run.info.experiment_id, run.info.run_id)

    @contextmanager
    def resume(self, reference: RunReference) -> Iterator[None]:
        """Reopen the run of an earlier stage; it ends as in `start`."""
        mlflow = self._mlflow()
        if reference.tracking_uri != mlflow.get_tracking_uri():
            raise QuerytierError(
                f"the run was started at {reference.tracking_uri}, tracking now points to "
                f"{mlflow.get_tracking_uri()}; set MLFLOW_TRACKING_URI as it was, or train again"
            )
        with _open_run(mlflow, run_id=reference.run_id) as run:
            if _FAILURE in run.data.tags:
                mlflow.delete_tag(_FAILURE)  # of an attempt before this one
            yield

    def log_dataset(self, examples: Any, name: str, fingerprint: str) -> None:
        """Log a `datasets.Dataset` as the input of the run that is open."""
        mlflow = self._mlflow()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about integer columns and schema inference
            source = mlflow.data.from_huggingface(examples, name=name)
            mlflow.log_input(source, context="training", tags={"fingerprint": fingerprint})

    def log_candidate(
        self,
        name: str,
        params: Mapping[str, object],
        metrics: Mapping[str, float | None],
        curves: Mapping[str, Mapping[int, float]],
    ) -> None:
        """Log a candidate as a child of the run that is open; a curve is a metric by step."""
        mlflow = self._mlflow()
        with _open_run(mlflow, run_name=name, nested=True) as run:
            mlflow.log_params(dict(_flat(params)))
            mlflow.log_metrics(_defined(metrics))
            points = [
                mlflow.entities.Metric(curve, value, 0, step)
                for curve, steps in curves.items()
                for step, value in steps.items()
            ]
            mlflow.MlflowClient().log_batch(run.info.run_id, metrics=points)

    def log_metrics(self, metrics: Mapping[str, float | None]) -> None:
        """Log metrics of the run that is open; those without a value are left out."""
        self._mlflow().log_metrics(_defined(metrics))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tag the run that is open."""
        self._mlflow().set_tags(dict(tags))

    def log_files(self, paths: Sequence[Path], folder: str | None = None) -> None:
        """Log files as artifacts of the run that is open."""
        mlflow = self._mlflow()
        for path in paths:
            mlflow.log_artifact(str(path), folder)

    def register(self, model: Path, example: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Log an ONNX graph with signature and example, register it, call it challenger.

        Parameters
        ----------
        model : Path
            The `.onnx` file.
        example : mapping of str to ndarray
            Inputs of the graph.
        tags : mapping
            Of the registered version.

        Returns
        -------
        str
            The registered version.
        """
        import onnx
        import onnxruntime as ort
        from mlflow.models import infer_signature

        mlflow = self._mlflow()
        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        outputs = dict(zip(names, session.run(names, dict(example)), strict=True))
        with _quiet():
            info = mlflow.onnx.log_model(
                onnx.load(model),
                name="classifier",
                signature=infer_signature(dict(example), outputs),
                input_example=dict(example),
                pip_requirements=[f"onnxruntime=={ort.__version__}"],
                onnx_execution_providers=["CPUExecutionProvider"],
                save_as_external_data=False,
                registered_model_name=REGISTERED_NAME,
            )
        version = str(info.registered_model_version)
        client = mlflow.MlflowClient()
        for key, value in tags.items():
            client.set_model_version_tag(REGISTERED_NAME, version, key, value)
        client.set_registered_model_alias(REGISTERED_NAME, "challenger", version)
        return version

    def judge(self, version: str, passed: bool, reason: str) -> None:
        """Write the gate's verdict on a registered version; one that passed becomes champion."""
        client = self._mlflow().MlflowClient()
        verdict = "passed" if passed else "failed"
        client.set_model_version_tag(REGISTERED_NAME, version, "gate", verdict)
        client.set_model_version_tag(REGISTERED_NAME, version, "gate_reason", reason)
        if passed:
            client.set_registered_model_alias(REGISTERED_NAME, "champion", version)

    def _mlflow(self) -> Any:
        """Import mlflow and point it to this tracker's store and experiment."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtraError("mlflow", "train") from error
        if mlflow.active_run() is None:
            for talkative in ("alembic", "mlflow.store.db.utils"):
                logging.getLogger(talkative).setLevel(logging.WARNING)
            own = _URI_VARIABLE not in os.environ
            mlflow.set_tracking_uri(_tracking_uri(self.root))
            if own:
                # MLflow exports what it was told; the next tracker would take that for the user's.
                os.environ.pop(_URI_VARIABLE, None)
            self._set_experiment(mlflow, own=own)
        return mlflow

    def _set_experiment(self, mlflow: Any, *, own: bool) -> None:
        if mlflow.get_experiment_by_name(_EXPERIMENT) is None:
            location = (self.root.resolve() / "mlartifacts").as_uri() if own else None
            mlflow.create_experiment(_EXPERIMENT, artifact_location=location)
        mlflow.set_experiment(_EXPERIMENT)


@contextmanager
def _open_run(mlflow: Any, **how: Any) -> Iterator[Any]:
    with _terminable():
        run = mlflow.start_run(**how)
        try:
            yield run
        except BaseException as error:
            # The store may be what failed: the first error is the one to hear of.
            with suppress(Exception):
                mlflow.set_tag(_FAILURE, _reason(error)[:_LONGEST_FAILURE])
            with suppress(Exception):
                mlflow.end_run("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        mlflow.end_run()


def _reason(error: BaseException) -> str:
    """Say why a run ended; a foreign message may quote a query, so its place stands for it."""
    if isinstance(error, QuerytierError | OSError):
        return str(error)
    if type(error) in _INTERRUPTIONS:
        return _INTERRUPTIONS[type(error)]
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__} in {Path(frame.f_code.co_filename).name}, line {line}"


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the block, as an interruption from the keyboard does.

    Left as it is outside the main thread, and where the process has an answer of its own.
    """
    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Terminated(SystemExit):
    """SIGTERM; uncaught, the process ends with the exit code that shells give for it."""


_INTERRUPTIONS: dict[type[BaseException], str] = {
    KeyboardInterrupt: "interrupted from the keyboard",
    _Terminated: "terminated by SIGTERM",
}


def _terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    raise _Terminated(128 + number)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _flat(params: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _defined(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value is not None}
