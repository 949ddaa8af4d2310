"""Experiment tracking: what a run leaves in MLflow."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from querytier.errors import QuerytierError
from querytier.tracking.registry import REGISTERED_NAME, Registry
from querytier.tracking.run_reference import RunReference
from querytier.tracking.runs import terminable, why_ended
from querytier.tracking.store import (
    SQLITE,
    URI_VARIABLE,
    downloader,
    imported_mlflow,
    quiet,
    tracking_uri,
)

__all__ = ["REGISTERED_NAME", "RunReference", "Tracker"]

_EXPERIMENT = "querytier"
_FAILURE = "failure"
_LONGEST_FAILURE = 500


def _check_same_store(reference: RunReference, uri: str) -> None:
    if reference.tracking_uri != uri:
        raise QuerytierError(
            f"the run was started at {reference.tracking_uri}, tracking now points to {uri}; set "
            "MLFLOW_TRACKING_URI as it was, or train again"
        )


@dataclass(frozen=True)
class Tracker:
    """Logs one pipeline run to MLflow.

    Parameters
    ----------
    root : Path
        Gets `mlflow.db` and `mlartifacts/`, unless `MLFLOW_TRACKING_URI` is set.
    uri : str, optional
        A store that is there already, and takes the place of both.
    """

    root: Path
    uri: str | None = None

    @classmethod
    def of(cls, reference: RunReference) -> Self:
        """Return a tracker of the store in which a run was logged.

        Raises
        ------
        QuerytierError
            If `MLFLOW_TRACKING_URI` names another, or the store is a file that is gone.
        """
        uri = reference.tracking_uri
        _check_same_store(reference, os.environ.get(URI_VARIABLE) or uri)
        path = uri.removeprefix(SQLITE)
        if uri.startswith(SQLITE) and not Path(path).is_file():
            raise QuerytierError(
                f"the run was logged in {path}, which is gone; put it back, or train again"
            )
        return cls(Path(), uri)

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
        _check_same_store(reference, mlflow.get_tracking_uri())
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

    def register(
        self, artifact: Path, model: str, example: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        """Log an artifact whole as an ONNX model, register it, call it challenger.

        MLflow writes the graph in its own words; the files of the artifact take their place as they
        are, or no hash of the manifest would hold.

        Parameters
        ----------
        artifact : Path
            Its folder.
        model : str
            The name of the graph in it.
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

        mlflow = self._mlflow()
        session = ort.InferenceSession(artifact / model, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        outputs = dict(zip(names, session.run(names, dict(example)), strict=True))
        with quiet():
            info = mlflow.onnx.log_model(
                onnx.load(artifact / model),
                name="classifier",
                signature=mlflow.models.infer_signature(dict(example), outputs),
                input_example=dict(example),
                pip_requirements=[f"onnxruntime=={ort.__version__}"],
                onnx_execution_providers=["CPUExecutionProvider"],
                save_as_external_data=False,
            )
            mlflow.MlflowClient().log_model_artifacts(info.model_id, str(artifact))
            # Only now: whoever finds the version finds all of it.
            version = str(mlflow.register_model(info.model_uri, REGISTERED_NAME).version)
        self.registry().introduce(version, tags)
        return version

    def registry(self) -> Registry:
        """Return what is registered in this tracker's store."""
        mlflow = self._mlflow()
        return Registry(mlflow.MlflowClient(), downloader(mlflow.get_tracking_uri()))

    def count_runs(self, tag: str, value: str) -> int:
        """Return how many runs carry a tag with this value; those deleted count, too."""
        mlflow = self._mlflow()
        experiment = mlflow.get_experiment_by_name(_EXPERIMENT)
        found = mlflow.search_runs(
            [experiment.experiment_id],
            f"tags.{tag} = '{value}'",
            run_view_type=mlflow.entities.ViewType.ALL,
            output_format="list",
        )
        return len(found)

    def tag_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Tag a run that has ended."""
        client = self._mlflow().MlflowClient()
        for key, value in tags.items():
            client.set_tag(run_id, key, value)

    def _mlflow(self) -> Any:
        """Import mlflow and point it to this tracker's store and experiment."""
        mlflow = imported_mlflow()
        if mlflow.active_run() is None:
            told = URI_VARIABLE in os.environ
            mlflow.set_tracking_uri(self.uri or tracking_uri(self.root))
            if not told:
                # MLflow exports what it was told; the next tracker would take that for the user's.
                os.environ.pop(URI_VARIABLE, None)
            self._set_experiment(mlflow, own=not told and self.uri is None)
        return mlflow

    def _set_experiment(self, mlflow: Any, *, own: bool) -> None:
        if mlflow.get_experiment_by_name(_EXPERIMENT) is None:
            location = (self.root.resolve() / "mlartifacts").as_uri() if own else None
            mlflow.create_experiment(_EXPERIMENT, artifact_location=location)
        mlflow.set_experiment(_EXPERIMENT)


@contextmanager
def _open_run(mlflow: Any, **how: Any) -> Iterator[Any]:
    with terminable():
        run = mlflow.start_run(**how)
        try:
            yield run
        except BaseException as error:
            # The store may be what failed: the first error is the one to hear of.
            with suppress(Exception):
                mlflow.set_tag(_FAILURE, why_ended(error)[:_LONGEST_FAILURE])
            with suppress(Exception):
                mlflow.end_run("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        mlflow.end_run()


def _flat(params: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _defined(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if value is not None}
