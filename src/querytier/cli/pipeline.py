"""The verbs that run the pipeline on logs, whole or stage by stage, and show the results."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from querytier.cli.log_options import Cluster, EngineName, LogOptions, takes_log_options
from querytier.cli.options import Alpha, Delta, Folder, Logs, OutFolder, say
from querytier.errors import UsageError

if TYPE_CHECKING:
    from querytier.pipeline.export import Exported

__all__ = ["crossval", "evaluate", "export", "prepare", "run", "show", "train"]

OptionalLogs = Annotated[list[Path] | None, typer.Argument(metavar="LOG", help="Router logs.")]
Corrections = Annotated[
    Path | None,
    typer.Option(
        "--corrections",
        metavar="FILE",
        help="Table written by `data audit`, with corrected labels filled in.",
    ),
]
Champion = Annotated[
    Path | None,
    typer.Option(
        "--champion", metavar="DIR", help="Artifact to compare with; it gets a row in the report."
    ),
]
StageOut = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder that all stages of a run share.")
]
BudgetName = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="quick; standard also tries a static encoder; thorough also fine-tunes (hours).",
    ),
]
StageParams = Annotated[
    Path, typer.Option("--params", metavar="FILE", help="The params.yaml of the pipeline.")
]


@takes_log_options
def run(
    logs: Logs,
    out: OutFolder,
    reading: LogOptions,
    corrections: Corrections = None,
    budget: BudgetName = None,
    engine: EngineName = "local",
    cluster: Cluster = None,
    champion: Champion = None,
    alpha: Alpha = None,
    delta: Delta = None,
) -> None:
    """Train, export and evaluate a classifier on router logs."""
    from querytier.cli.tables import print_data
    from querytier.data.ingest.engines import engine as engine_named
    from querytier.pipeline.evaluate import evaluate_stage
    from querytier.pipeline.export import export_stage
    from querytier.pipeline.params import with_section
    from querytier.pipeline.prepare import prepare_stage
    from querytier.pipeline.train import train_stage
    from querytier.serve import Router
    from querytier.tracking.tracker import Tracker

    settings = with_section(reading.params(logs=logs), "train", budget=budget)
    settings = with_section(settings, "certify", alpha=alpha, delta=delta)
    sources = reading.sources(logs, settings)
    if champion is not None:
        Router.load(champion)  # fail on a bad artifact before training starts
    # One store for each run: `querytier show` finds it, and deleting the folder deletes it too.
    tracker, reader = Tracker(out), engine_named(engine, cluster)
    say("1/4 prepare")
    print_data(prepare_stage(sources, out, settings, corrections, reader))
    say("2/4 train")
    train_stage(out, settings, tracker)
    say("3/4 export")
    _say_certified(export_stage(out, settings, tracker))
    say("4/4 evaluate")
    evaluate_stage(out, settings, tracker, champion)
    _show(out, out)


@takes_log_options
def prepare(
    out: OutFolder,
    reading: LogOptions,
    logs: OptionalLogs = None,
    corrections: Corrections = None,
    engine: EngineName = "local",
    cluster: Cluster = None,
) -> None:
    """Stage 1: read, label and split logs.

    By default, reads the logs that the params file names.
    """
    from querytier.cli.tables import print_data
    from querytier.data.ingest.engines import engine as engine_named
    from querytier.pipeline.prepare import prepare_stage

    default = Path("params.yaml")
    # With logs named, no params.yaml is needed.
    settings = reading.params(default if default.is_file() or not logs else None)
    sources = reading.sources(logs or [], settings)
    reader = engine_named(engine, cluster)
    print_data(prepare_stage(sources, out, settings, corrections, reader))


def train(
    out: StageOut, params: StageParams = Path("params.yaml"), budget: BudgetName = None
) -> None:
    """Stage 2: encode, choose, fit and calibrate a classifier."""
    from querytier.pipeline.params import read_params, with_section
    from querytier.pipeline.train import train_stage
    from querytier.tracking.tracker import Tracker

    settings = with_section(read_params(params), "train", budget=budget)
    fitted = train_stage(out, settings, Tracker(_project(params)))
    say(f"chosen: {fitted.chosen}; threshold {fitted.threshold:.4f}")


@takes_log_options
def crossval(
    logs: Logs,
    out: OutFolder,
    reading: LogOptions,
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, max=20, help="Number of folds, inner and outer.")
    ] = None,
    budget: BudgetName = None,
) -> None:
    """Evaluate by nested cross-validation, for small logs.

    Every row is used for training and, out of fold, for testing. No artifact is written.
    """
    from querytier.cli.tables import print_table
    from querytier.pipeline.cross_validation import cross_validate_logs
    from querytier.pipeline.params import with_section
    from querytier.pipeline.prepare import reading_of

    settings = with_section(reading.params(logs=logs), "train", budget=budget, folds=folds)
    sources = reading.sources(logs, settings)
    metrics = cross_validate_logs(sources, out, reading_of(settings.prepare), settings)
    print_table(metrics)
    say(f"{metrics['protocol']}; chosen: {', '.join(metrics['chosen'])}")
    say(f"metrics: {out / 'metrics.json'}; scores: {out / 'out_of_fold.parquet'}")


def export(out: StageOut, params: StageParams = Path("params.yaml")) -> None:
    """Stage 3: build the artifact, and certify it if asked to.

    Certifies it only if the parameters set certify.alpha.
    """
    from querytier.pipeline.export import export_stage
    from querytier.pipeline.params import read_params
    from querytier.tracking.tracker import Tracker

    exported = export_stage(out, read_params(params), Tracker(_project(params)))
    manifest = exported.manifest
    say(
        f"model {manifest.model_version} in {out / 'model'}, encoder in {manifest.precision}; "
        f"graph and fitted classifier differ by at most {manifest.parity['max_difference']:.1e} on "
        f"{manifest.parity['texts']} texts"
    )
    for trial in manifest.quantisation["trials"]:
        drift = trial["drift"]
        say(
            f"{trial['precision']}: {drift['flips']} of {drift['texts']} decisions changed; "
            f"{trial['refusal'] or 'within the budget'}"
        )
    _say_certified(exported)


@takes_log_options
def evaluate(
    out: OutFolder,
    reading: LogOptions,
    logs: OptionalLogs = None,
    artifact: Annotated[
        Path | None,
        typer.Option("--artifact", metavar="DIR", help="Folder of an artifact."),
    ] = None,
    champion: Champion = None,
) -> None:
    """Stage 4: test and register; or test on other logs.

    Without logs, tests the artifact of the pipeline in --out on its test split. With logs, tests
    the artifact in --artifact on all their rows, which have to be labelled.
    """
    if logs is None:
        if artifact or reading.map_text:
            raise UsageError("--artifact and --map are for other logs; name a log file")
        from querytier.pipeline.evaluate import evaluate_stage
        from querytier.pipeline.params import read_params
        from querytier.tracking.tracker import Tracker

        params = reading.params_file or Path("params.yaml")
        evaluate_stage(out, read_params(params), Tracker(_project(params)), champion)
        say(f"report: {out / 'report.html'}")
        return
    if artifact is None:
        raise UsageError(f"evaluate {logs[0]} needs --artifact DIR: the classifier to evaluate")
    from querytier.pipeline.external_logs import evaluate_artifact
    from querytier.pipeline.prepare import reading_of

    settings = reading.params()
    evaluate_artifact(
        reading.sources(logs, settings),
        artifact,
        out,
        # By default, label as the artifact's training rows were labelled.
        rules=reading_of(settings.prepare).rules if reading.names_rules else None,
        params=settings,
        champion=champion,
    )
    _show(out, out)


def show(
    out: Folder,
    query: Annotated[
        list[str] | None, typer.Option("--query", help="A query to decide; may be repeated.")
    ] = None,
    project: Annotated[
        Path | None,
        typer.Option(
            "--project", metavar="DIR", help="Folder with mlflow.db; by default the folder shown."
        ),
    ] = None,
) -> None:
    """Print the results of a run, and decide queries.

    Prints each decision next to that of the keyword heuristic.
    """
    from querytier.cli.tables import print_decisions
    from querytier.serve import Router

    _show(out, project or out)
    if query:
        print_decisions(query, Router.load(out / "model"))


def _say_certified(exported: "Exported") -> None:
    for line in exported.certified.lines() if exported.certified else ():
        say(line)


def _project(params: Path) -> Path:
    """Return the folder of the MLflow store that all stages of a project share."""
    # DVC sets it for the commands of its stages, wherever params.yaml is.
    root = os.environ.get("DVC_ROOT")
    return Path(root) if root else params.resolve().parent


def _show(out: Path, project: Path) -> None:
    from querytier.cli.tables import print_table
    from querytier.eval.report.table import compared_with_baselines, headline
    from querytier.tracking.store import ui_command

    path = out / "metrics.json"
    if not path.is_file():
        raise UsageError(f"{out} has no metrics.json; run `querytier run` with --out {out} first")
    metrics = json.loads(path.read_text("utf-8"))
    print_table(metrics)
    typer.echo(f"\n{headline(metrics)} {compared_with_baselines(metrics)}\n")
    if metrics["gate"]:
        verdict = "passed" if metrics["gate"]["passed"] else "failed"
        typer.echo(f"gate {verdict}: {metrics['gate']['reason']}")
    typer.echo(f"report:   {out / 'report.html'}")
    if (out / "model").is_dir():
        typer.echo(f"artifact: {out / 'model'}")
    typer.echo(f"MLflow:   {ui_command(project)}")
