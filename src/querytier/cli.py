"""The command line: `querytier VERB`; exit code 0, 1 (the run failed) or 2 (the call is wrong)."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from querytier import __version__
from querytier.errors import MissingExtraError, QuerytierError, UsageError

if TYPE_CHECKING:
    from querytier.data.columns import ColumnMap
    from querytier.data.preparing import DataSummary
    from querytier.data.sources import LogSource
    from querytier.params import Params

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learn from a router's logs which queries need the frontier model; decide in its path.",
)

_OFFLINE_PACKAGES = frozenset(
    {
        "datasets",
        "jinja2",
        "matplotlib",
        "mlflow",
        "onnx",
        "pyarrow",
        "pydantic",
        "rich",
        "scipy",
        "sklearn",
        "torch",
        "tqdm",
        "transformers",
        "yaml",
    }
)

data_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at logs before anything is made of them.",
)
app.add_typer(data_app, name="data")

Logs = Annotated[
    Path, typer.Argument(metavar="LOGS", help="JSONL, CSV, TSV (each also .gz) or Parquet.")
]
OptionalLogs = Annotated[Path | None, typer.Argument(metavar="[LOGS]", help="A router log.")]
Map = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN,...",
        help="Where the log has each field; dotted paths reach into nested fields. Fields: query, "
        "id, group, domain, language, needs_frontier, cheap_score, frontier_score, weight, "
        "cheap_cost, frontier_cost, label_source. Without it, columns of these names are taken.",
    ),
]
FormatName = Annotated[
    str,
    typer.Option(
        "--format",
        help="plain, otel (OpenInference too), litellm, litellm_spend, langfuse, helicone, "
        "routellm, routerbench, llmrouter; auto tells it by the first record, and takes logs that "
        "come with --map as plain.",
    ),
]
CheapModel = Annotated[
    str | None, typer.Option("--cheap", metavar="MODEL", help="The cheap model's name in the log.")
]
FrontierModel = Annotated[
    str | None, typer.Option("--frontier", metavar="MODEL", help="The frontier model's name.")
]
Scores = Annotated[
    Path | None,
    typer.Option("--scores", metavar="FILE", help="Langfuse's scores, beside its observations."),
]
Corrections = Annotated[
    Path | None,
    typer.Option(
        "--corrections",
        metavar="FILE",
        help="The table of `data audit`, corrected labels filled in.",
    ),
]
Artifact = Annotated[
    Path, typer.Option("--artifact", metavar="DIR", help="The folder of an exported classifier.")
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for all results.")]
OkThreshold = Annotated[
    float | None,
    typer.Option("--ok-threshold", help="A score of at least this much counts as success."),
]
ParamsFile = Annotated[
    Path | None, typer.Option("--params", metavar="FILE", help="A params.yaml with other defaults.")
]
StageParams = Annotated[
    Path, typer.Option("--params", metavar="FILE", help="The params.yaml of the pipeline.")
]


def main() -> None:
    """Run the command line; a failure is one message on standard error, and an exit code."""
    try:
        app(standalone_mode=True)
    except QuerytierError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _OFFLINE_PACKAGES:
            raise
        _fail(str(MissingExtraError(package, "train")), MissingExtraError.exit_code)
    except OSError as error:
        _fail(f"{error}; check the path, its permissions and the space left on the disk", 1)


@app.callback(invoke_without_command=True)
def _querytier(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"querytier {__version__}")
        raise typer.Exit


@app.command(
    epilog="Example: querytier run logs.jsonl.gz "
    "--map query=prompt,cheap_score=weak,frontier_score=strong --out runs/first"
)
def run(
    logs: Logs,
    out: Out,
    columns: Map = None,
    format_name: FormatName = "auto",
    cheap: CheapModel = None,
    frontier: FrontierModel = None,
    scores: Scores = None,
    corrections: Corrections = None,
    ok_threshold: OkThreshold = None,
    params: ParamsFile = None,
) -> None:
    """Run the whole pipeline on a log: prepare, train, export, evaluate."""
    from querytier import stages
    from querytier.tracking import Tracker

    settings = _params(params, ok_threshold)
    mapped = _columns(columns, settings)
    source = _source(logs, mapped, format_name, (cheap, frontier), scores)
    tracker = Tracker(out)
    _say("1/4 prepare")
    _tell_data(stages.prepare_stage(source, mapped, out, settings, corrections))
    _say("2/4 train")
    stages.train_stage(out, settings, tracker)
    _say("3/4 export")
    stages.export_stage(out, settings, tracker)
    _say("4/4 evaluate")
    stages.evaluate_stage(out, settings, tracker)
    _show(out, out)


@app.command(
    name="prepare", epilog="Example: querytier prepare --params params.yaml --out artifacts"
)
def prepare_(
    out: Out,
    logs: OptionalLogs = None,
    columns: Map = None,
    format_name: FormatName = "auto",
    cheap: CheapModel = None,
    frontier: FrontierModel = None,
    scores: Scores = None,
    corrections: Corrections = None,
    ok_threshold: OkThreshold = None,
    params: StageParams = Path("params.yaml"),
) -> None:
    """Stage 1: read, label and split a log; by default the one that the params file names."""
    from querytier import stages

    settings = _params(params, ok_threshold)
    mapped = _columns(columns, settings)
    path = logs or Path(settings.prepare.logs)
    source = _source(path, mapped, format_name, (cheap, frontier), scores)
    _tell_data(stages.prepare_stage(source, mapped, out, settings, corrections))


@app.command(epilog="Example: querytier train --params params.yaml --out artifacts")
def train(out: Out, params: StageParams = Path("params.yaml")) -> None:
    """Stage 2: encode, choose, fit and calibrate on the prepared data."""
    from querytier import stages
    from querytier.tracking import Tracker

    fitted = stages.train_stage(out, _params(params), Tracker(_project(params)))
    _say(f"chosen: {fitted.chosen}; threshold {fitted.threshold:.4f}")


@app.command(epilog="Example: querytier export --params params.yaml --out artifacts")
def export(out: Out, params: StageParams = Path("params.yaml")) -> None:
    """Stage 3: build the artifact, past the parity gate."""
    from querytier import stages
    from querytier.tracking import Tracker

    manifest = stages.export_stage(out, _params(params), Tracker(_project(params)))
    _say(
        f"model {manifest.model_version} in {out / 'model'}; graph and fitted classifier differ by "
        f"at most {manifest.parity['max_difference']:.1e} on {manifest.parity['texts']} texts"
    )


@app.command(
    epilog="Example: querytier evaluate other.jsonl --map query=prompt,needs_frontier=label "
    "--artifact runs/first/model --out runs/other"
)
def evaluate(
    out: Out,
    logs: OptionalLogs = None,
    columns: Map = None,
    artifact: Annotated[
        Path | None, typer.Option("--artifact", metavar="DIR", help="An exported classifier.")
    ] = None,
    format_name: FormatName = "auto",
    cheap: CheapModel = None,
    frontier: FrontierModel = None,
    scores: Scores = None,
    ok_threshold: OkThreshold = None,
    params: ParamsFile = None,
) -> None:
    """Judge an artifact on labelled logs; without LOGS, stage 4 of the pipeline in --out."""
    from querytier import stages
    from querytier.tracking import Tracker

    if logs is None:
        if artifact or columns:
            raise UsageError("evaluate takes --artifact and --map with LOGS; name the log file")
        file = params or Path("params.yaml")
        stages.evaluate_stage(out, _params(file), Tracker(_project(file)))
        _say(f"report: {out / 'report.html'}")
        return
    if artifact is None:
        raise UsageError(f"evaluate {logs} needs --artifact DIR: the classifier to be judged")
    settings = _params(params)
    mapped = _columns(columns, settings)
    stages.evaluate_artifact(
        _source(logs, mapped, format_name, (cheap, frontier), scores),
        mapped,
        artifact,
        out,
        ok_threshold=ok_threshold,
        params=settings,
    )
    _show(out, out)


@app.command(
    epilog="Example: querytier score logs.jsonl --map query=prompt,id=id "
    "--artifact runs/first/model --out scores.csv"
)
def score(
    logs: Logs,
    artifact: Artifact,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A .csv or .parquet file.")],
    columns: Map = None,
    format_name: FormatName = "auto",
    params: ParamsFile = None,
) -> None:
    """Decide every query of a log; columns id, p_frontier, decision_score, tier."""
    from querytier.scoring import score_log

    settings = _params(params)
    mapped = _columns(columns, settings)
    source = _source(logs, mapped, format_name, (None, None), None)
    limit = settings.prepare.max_bad_share
    scored = score_log(source, mapped or source.columns(), artifact, out, max_bad_share=limit)
    counts = ", ".join(
        f"{name} {count}" for name, count in {**scored.tiers, **scored.reasons}.items()
    )
    _say(f"{scored.rows} rows scored in {out} ({counts})")
    if scored.quarantined:
        _say(f"{sum(scored.quarantined.values())} records in {out}.quarantine.jsonl")


@app.command(epilog='Example: querytier decide "Where is my order?" --artifact runs/first/model')
def decide(
    query: Annotated[str, typer.Argument(help="The query.")],
    artifact: Artifact,
) -> None:
    """Decide one query and print the decision as one JSON line."""
    from querytier.serve import Router

    typer.echo(json.dumps(Router.load(artifact).decide(query).record()))


@app.command(epilog='Example: querytier show runs/first --query "Where is my order?"')
def show(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="What --out of a run was.")],
    query: Annotated[
        list[str] | None, typer.Option("--query", help="Decide this too; may be given again.")
    ] = None,
    project: Annotated[
        Path | None,
        typer.Option("--project", metavar="DIR", help="Where mlflow.db is, if not in DIR."),
    ] = None,
) -> None:
    """Print the table of a run, where its report is, and decisions beside the heuristic's."""
    _show(out, project or out)
    if query:
        _compare(query, out / "model")


@data_app.command(
    epilog="Example: querytier data inspect logs.jsonl.gz "
    "--map query=prompt,cheap_score=weak,frontier_score=strong"
)
def inspect(
    logs: Logs,
    columns: Map = None,
    format_name: FormatName = "auto",
    cheap: CheapModel = None,
    frontier: FrontierModel = None,
    scores: Scores = None,
    ok_threshold: OkThreshold = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of tables.")
    ] = False,
) -> None:
    """Say what a log holds: fields, label rules and what they miss, shares, ten rows, what next."""
    from querytier.data.inspecting import inspect_log
    from querytier.summary import print_inspection

    settings = _params(None, ok_threshold)
    mapped = _columns(columns, settings)
    source = _source(logs, mapped, format_name, (cheap, frontier), scores)
    inspection = inspect_log(source, mapped, settings.prepare.ok_threshold)
    if as_json:
        typer.echo(json.dumps(inspection.record(), ensure_ascii=False))
    else:
        print_inspection(inspection, str(logs), columns)


@data_app.command(
    epilog="Example: querytier data audit logs.jsonl --map query=prompt,needs_frontier=label "
    "--out suspects.csv"
)
def audit(
    logs: Logs,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The table, a .csv file.")],
    columns: Map = None,
    format_name: FormatName = "auto",
    cheap: CheapModel = None,
    frontier: FrontierModel = None,
    scores: Scores = None,
    ok_threshold: OkThreshold = None,
    params: ParamsFile = None,
) -> None:
    """Write a table of doubtful labels for a person to review; `run --corrections` applies it."""
    from collections import Counter

    from querytier import stages

    settings = _params(params, ok_threshold)
    mapped = _columns(columns, settings)
    source = _source(logs, mapped, format_name, (cheap, frontier), scores)
    suspects = stages.audit_stage(source, mapped, out, settings)
    for reason, count in Counter(suspect.reason for suspect in suspects).items():
        _say(f"{reason}: {count}")
    _say(f"{len(suspects)} doubtful labels in {out}; fill in corrected_label where one is wrong")
    _say(f"next: querytier run {logs} ... --corrections {out}")


def _params(path: Path | None, ok_threshold: float | None = None) -> "Params":
    from querytier.params import read_params

    params = read_params(path)
    if ok_threshold is None:
        return params
    prepare = params.prepare.model_copy(update={"ok_threshold": ok_threshold})
    return params.model_copy(update={"prepare": prepare})


def _columns(text: str | None, params: "Params") -> "ColumnMap | None":
    from querytier.data.columns import ColumnMap

    if text is not None:
        return ColumnMap.parse(text)
    return ColumnMap(params.prepare.map) if params.prepare.map else None


def _source(
    path: Path,
    columns: "ColumnMap | None",
    format_name: str,
    pair: tuple[str | None, str | None],
    scores: Path | None,
) -> "LogSource":
    from querytier.data.formats import Format
    from querytier.data.model_pair import ModelPair
    from querytier.data.sources import LogSource

    known = [item.value for item in Format]
    if format_name not in ("auto", *known):
        raise UsageError(f"--format {format_name!r}: known are auto, {', '.join(known)}")
    if any(pair) and not all(pair):
        raise UsageError("--cheap and --frontier go together: name both models of the pair")
    schema = None if format_name == "auto" else Format(format_name)
    if schema is None and columns is not None:
        schema = Format.PLAIN
    cheap, frontier = pair
    models = ModelPair(cheap, frontier) if cheap and frontier else None
    return LogSource(path, schema, models, scores)


def _project(params: Path) -> Path:
    """Return the folder whose MLflow store the stages of a project share."""
    root = os.environ.get("DVC_ROOT")
    return Path(root) if root else params.resolve().parent


def _tell_data(data: "DataSummary") -> None:
    roles = ", ".join(f"{role} {count}" for role, count in data.roles.items())
    _say(f"{data.source}: {data.usable} usable of {data.rows} rows ({roles})")
    _say(", ".join(f"{name} {share:.1%}" for name, share in data.shares.items()))
    if data.near_duplicates is None:
        _say("near duplicates were not searched: more rows than prepare.near_duplicate_rows")
    elif data.near_duplicates:
        _say(f"{data.near_duplicates} links between near duplicates joined their groups")
    if data.redacted:
        _say("redacted: " + ", ".join(f"{kind}: {n}" for kind, n in data.redacted.items()))
    if data.passed_over:
        counts = ", ".join(f"{reason}: {count}" for reason, count in data.passed_over.items())
        _say(f"passed over: {counts}")
    if data.quarantined:
        counts = ", ".join(f"{reason}: {count}" for reason, count in data.quarantined.items())
        _say(f"in quarantine.jsonl: {counts}")


def _show(out: Path, project: Path) -> None:
    from querytier.eval.report import headline
    from querytier.summary import print_table
    from querytier.tracking import ui_command

    path = out / "metrics.json"
    if not path.is_file():
        raise UsageError(f"{out} has no metrics.json; run `querytier run` with --out {out} first")
    metrics = json.loads(path.read_text("utf-8"))
    print_table(metrics)
    typer.echo(f"\n{headline(metrics)}\n")
    typer.echo(f"report:   {out / 'report.html'}")
    if (out / "model").is_dir():
        typer.echo(f"artifact: {out / 'model'}")
    typer.echo(f"MLflow:   {ui_command(project)}")


def _compare(queries: list[str], artifact: Path) -> None:
    from querytier.serve import Router
    from querytier.summary import print_decisions

    print_decisions(queries, Router.load(artifact))


def _say(text: str) -> None:
    typer.echo(f"[querytier] {text}")


def _fail(message: str, exit_code: int) -> None:
    typer.echo(f"querytier: {message}", err=True)
    sys.exit(exit_code)
