"""The command line: `querytier VERB`; exit code 0, 1 (the run failed) or 2 (the call is wrong)."""

import sys
from typing import Annotated

import typer

from querytier import __version__
from querytier.cli.artifact import artifact_app
from querytier.cli.certify import certify, plan
from querytier.cli.data import data_app
from querytier.cli.decide import decide, score
from querytier.cli.drift import drift
from querytier.cli.gate import gate
from querytier.cli.off_policy_verb import off_policy
from querytier.cli.pipeline import crossval, evaluate, export, prepare, run, show, train
from querytier.cli.recalibrate import recalibrate
from querytier.cli.registry import rollback, trace
from querytier.cli.retrain import retrain
from querytier.cli.select_queries import plan_labels
from querytier.cli.serve import serve
from querytier.errors import MissingExtraError, QuerytierError

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
        "filelock",
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

app.command(
    epilog="Example: querytier run logs.jsonl.gz "
    "--map query=prompt,cheap_score=weak,frontier_score=strong --out runs/first"
)(run)
app.command(epilog="Example: querytier prepare --params params.yaml --out artifacts")(prepare)
app.command(epilog="Example: querytier train --params params.yaml --out artifacts")(train)
app.command(epilog="Example: querytier export --params params.yaml --out artifacts")(export)
app.command(
    epilog="Example: querytier evaluate other.jsonl --map query=prompt,needs_frontier=label "
    "--artifact runs/first/model --out runs/other"
)(evaluate)
app.command(epilog='Example: querytier show runs/first --query "Where is my order?"')(show)
app.command(
    epilog="Example: querytier crossval few.jsonl --map query=prompt,needs_frontier=label "
    "--folds 5 --out runs/crossval"
)(crossval)
app.command(epilog="Example: querytier gate --champion runs/first --challenger runs/second")(gate)
app.command(epilog="Example: querytier certify runs/first --alpha 0.1 --delta 0.1")(certify)
app.command(epilog="Example: querytier plan runs/first --target-cheap-share 0.7 --alpha 0.05")(plan)
app.command(epilog="Example: querytier rollback --dry-run")(rollback)
app.command(epilog="Example: querytier trace 4b1f0c --log logs")(trace)
app.command(epilog="Example: querytier retrain --logs decisions/ --out loop")(retrain)
app.command(epilog="Example: querytier drift runs/first --logs new.jsonl --out runs/drift")(drift)
app.command(
    epilog="Example: querytier plan-labels traffic.jsonl --artifact runs/first/model --budget 25 "
    "--price-cheap 0.15,0.60 --price-frontier 2.50,10 --out to_label.jsonl"
)(plan_labels)
app.command(
    epilog="Example: querytier recalibrate runs/first --logs paired.jsonl "
    "--map query=prompt,cheap_score=cheap,frontier_score=frontier --out runs/swapped"
)(recalibrate)
app.command(
    epilog="Example: querytier off-policy router.jsonl --artifact runs/first/model "
    "--map query=prompt,tier=tier,outcome=success,propensity=p,cost=usd --out runs/off-policy"
)(off_policy)
app.command(
    epilog="Example: querytier score logs.jsonl --map query=prompt,id=id "
    "--artifact runs/first/model --out scores.csv"
)(score)
app.command(epilog='Example: querytier decide "Where is my order?" --artifact runs/first/model')(
    decide
)
app.command(epilog="Example: querytier serve --artifact runs/first/model --port 8321")(serve)
app.add_typer(artifact_app, name="artifact")
app.add_typer(data_app, name="data")


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


def _fail(message: str, exit_code: int) -> None:
    typer.echo(f"querytier: {message}", err=True)
    sys.exit(exit_code)
