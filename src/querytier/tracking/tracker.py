"""Experiment tracking: what a run logs and registers in MLflow."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from querytier.classifier.runtime import open_session
from querytier.errors import QuerytierError
from querytier.tracking.registry import REGISTERED_NAME, Registry
from querytier.tracking.runs import RunReference, failure_reason, sigterm_unwinds
from querytier.tracking.store import (
    SQLITE,
    URI_VARIABLE,
    downloader,
    import_mlflow,
    quiet,
    tracking_uri,
)

__all__ = ["REGISTERED_NAME", "RunReference", "Tracker"]

_EXPERIMENT = "querytier"
_FAILURE = "failure"
_LONGEST_FAILURE = 500  # one line in the UI; MLflow cuts tags at 8,000 characters


def _check_same_store(reference: RunReference, uri: str) -> None:
    if reference.tracking_uri != uri:
        raise QuerytierError(
            f"the run was started at {reference.tracking_uri}, but tracking now points to "
            f"{uri}; set MLFLOW_TRACKING_URI to that address, or train again"
        )


@dataclass(frozen=True)
class Tracker:
    """Logs one pipeline run to MLflow.

    Parameters
    ----------
    root : Path
        Folder of `mlflow.db` and `mlartifacts/`, unless `MLFLOW_TRACKING_URI` is set.
    uri : str, optional
        Address of an existing store to use instead of both.
    """

    root: Path
    uri: str | None = None

    @classmethod
    def of(cls, reference: RunReference) -> Self:
        """Return a tracker of the store in which a run was logged.

        Raises
        ------
        QuerytierError
            If `MLFLOW_TRACKING_URI` names another store, or the store was a file that is gone.
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

        If the block raises, the run ends as FAILED; if it is interrupted (from the keyboard or by
        SIGTERM), as KILLED. The tag `failure` holds the reason.

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
                mlflow.delete_tag(_FAILURE)  # left by an earlier attempt
            yield

    def log_dataset(self, examples: Any, name: str, fingerprint: str) -> None:
        """Log a `datasets.Dataset` as the input of the open run."""
        mlflow = self._mlflow()
        with quiet():
            source = mlflow.data.from_huggingface(examples, name=name)
            mlflow.log_input(source, context="training", tags={"fingerprint": fingerprint})

    def log_candidate(
        self,
        name: str,
        params: Mapping[str, object],
        metrics: Mapping[str, float | None],
        curves: Mapping[str, Mapping[int, float]],
    ) -> None:
        """Log a candidate as a child of the open run; a curve is a metric with steps."""
        mlflow = self._mlflow()
        with _open_run(mlflow, run_name=name, nested=True) as run:
            mlflow.log_params(dict(_flat(params)))
            mlflow.log_metrics(_defined(metrics))
            points = [
                mlflow.entities.Metric(curve, value, 0, step)
                for curve, steps in curves.items()
                for step, value in steps.items()
            ]
            # One request instead of 101 for each candidate, one per point.
            mlflow.MlflowClient().log_batch(run.info.run_id, metrics=points)

    def log_metrics(self, metrics: Mapping[str, float | None]) -> None:
        """Log metrics of the open run, except those without a value."""
        self._mlflow().log_metrics(_defined(metrics))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tag the open run."""
        self._mlflow().set_tags(dict(tags))

    def log_files(self, paths: Sequence[Path], folder: str | None = None) -> None:
        """Log files as artifacts of the open run."""
        mlflow = self._mlflow()
        for path in paths:
            mlflow.log_artifact(str(path), folder)

    def register(
        self, artifact: Path, model: str, example: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        """Log a whole artifact as an ONNX model, register it, and make it the challenger.

        MLflow serialises the graph again, so the bytes and hence the manifest's hashes would
        differ; the artifact's own files are copied over what MLflow wrote.

        Parameters
        ----------
        artifact : Path
            Its folder.
        model : str
            The name of the graph in it.
        example : mapping of str to ndarray
            Inputs of the graph.
        tags : mapping
            Tags of the registered version.

        Returns
        -------
        str
            The number of the registered version.
        """
        import onnx
        import onnxruntime as ort

        mlflow = self._mlflow()
        session = open_session(artifact / model)
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
                save_as_external_data=False,  # weights in the graph, as in the artifact
            )
            mlflow.MlflowClient().log_model_artifacts(info.model_id, str(artifact))
            # Registered last, so that a service that finds the version finds all of its files too.
            version = str(mlflow.register_model(info.model_uri, REGISTERED_NAME).version)
        self.registry().add_challenger(version, tags)
        return version

    def registry(self) -> Registry:
        """Return the registry of this tracker's store."""
        mlflow = self._mlflow()
        return Registry(mlflow.MlflowClient(), downloader(mlflow.get_tracking_uri()))

    def count_runs(self, tag: str, value: str) -> int:
        """Return the number of runs with this value of a tag, deleted runs included.

        A use of test rows stays a use even if somebody deletes its run.
        """
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
        mlflow = import_mlflow()
        if mlflow.active_run() is None:
            is_set_by_user = URI_VARIABLE in os.environ
            mlflow.set_tracking_uri(self.uri or tracking_uri(self.root))
            if not is_set_by_user:
                # `set_tracking_uri` also sets the variable, and the next tracker in this process
                # would mistake that for the user's choice.
                os.environ.pop(URI_VARIABLE, None)
            if mlflow.get_experiment_by_name(_EXPERIMENT) is None:
                # MLflow's default is `./mlartifacts` in the current folder of the process.
                own = not is_set_by_user and self.uri is None
                location = (self.root.resolve() / "mlartifacts").as_uri() if own else None
                mlflow.create_experiment(_EXPERIMENT, artifact_location=location)
            mlflow.set_experiment(_EXPERIMENT)
        return mlflow


@contextmanager
def _open_run(mlflow: Any, **how: Any) -> Iterator[Any]:
    with sigterm_unwinds():
        run = mlflow.start_run(**how)
        try:
            yield run
        except BaseException as error:
            # The store itself may have failed; an error here must not hide the first one.
            with suppress(Exception):
                mlflow.set_tag(_FAILURE, failure_reason(error)[:_LONGEST_FAILURE])
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
