"""The command line: `querytier VERB`; exit code 0, 1 (the run failed) or 2 (the call is wrong)."""

import re
import sys
from importlib.metadata import requires
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from querytier import __version__
from querytier.cli.artifact import artifact_app, decide, score
from querytier.cli.certify import certify, sample_size
from querytier.cli.data import data_app
from querytier.cli.drift import drift
from querytier.cli.gate import gate
from querytier.cli.off_policy import off_policy
from querytier.cli.pipeline import crossval, evaluate, export, prepare, run, show, train
from querytier.cli.recalibrate import recalibrate
from querytier.cli.registry import rollback, trace
from querytier.cli.retrain import retrain
from querytier.cli.select_queries import select_queries
from querytier.cli.serve import serve
from querytier.errors import MissingExtraError, QuerytierError, UsageError

__all__ = ["app", "main"]

# The verbs by panel of `querytier --help`, each with an example. A function's name is the verb's.
_VERBS: dict[str, dict[Any, str]] = {
    "Start": {
        run: "run logs.jsonl.gz --map query=prompt,cheap_score=weak,frontier_score=strong "
        "--out runs/first",
        decide: 'decide "Where is my order?" --artifact runs/first/model',
        score: "score logs.jsonl --map query=prompt,id=id --artifact runs/first/model "
        "--out scores.csv",
        serve: "serve --artifact runs/first/model --port 8321",
        show: 'show runs/first --query "Where is my order?"',
    },
    "Pipeline": {
        prepare: "prepare --params params.yaml --out artifacts",
        train: "train --params params.yaml --out artifacts",
        export: "export --params params.yaml --out artifacts",
        evaluate: "evaluate other.jsonl --map query=prompt,needs_frontier=label "
        "--artifact runs/first/model --out runs/other",
        crossval: "crossval few.jsonl --map query=prompt,needs_frontier=label --folds 5 "
        "--out runs/crossval",
        certify: "certify runs/first --alpha 0.1 --delta 0.1",
        sample_size: "sample-size runs/first --target-cheap-share 0.7 --alpha 0.05",
    },
    "Champion": {
        gate: "gate --champion runs/first --challenger runs/second",
        retrain: "retrain --logs decisions/ --out loop",
        drift: "drift runs/first --logs new.jsonl --out runs/drift",
        recalibrate: "recalibrate runs/first --logs paired.jsonl "
        "--map query=prompt,cheap_score=cheap,frontier_score=frontier --out runs/swapped",
        rollback: "rollback --dry-run",
        trace: "trace ID --log logs",
        select_queries: "select-queries traffic.jsonl --artifact runs/first/model --budget 25 "
        "--price-cheap 0.15,0.60 --price-frontier 2.50,10 --out to_label.jsonl",
        off_policy: "off-policy router.jsonl --artifact runs/first/model "
        "--map query=prompt,tier=tier,outcome=success,propensity=p,cost=usd --out runs/offpolicy",
    },
}
# Old names of verbs that scripts may still call. None was released, so the error message gives the
# new name instead of running the verb.
_RENAMED = {"plan": "sample-size", "plan-labels": "select-queries"}
# Packages whose import name differs from the name they are installed by.
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml"}


class _Verbs(TyperGroup):
    """Lists the verbs by panel, without boxes; typer has panels only with rich's markup."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a verb; for an old name, raise an error with the new one."""
        if cmd_name in _RENAMED:
            raise UsageError(f"`querytier {cmd_name}` is now `querytier {_RENAMED[cmd_name]}`")
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write each verb's first sentence in full; `data` and `artifact` list their verbs."""
        panels: dict[Any, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            inner = command.commands.items() if isinstance(command, TyperGroup) else ()
            shown = [(f"{name} {verb}", one) for verb, one in inner] or [(name, command)]
            panels.setdefault(command.rich_help_panel, []).extend(  # type: ignore[attr-defined]
                (title, one.get_short_help_str(200)) for title, one in shown
            )
        widest = max(len(title) for rows in panels.values() for title, _ in rows)
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(title.ljust(widest), text) for title, text in rows])


# Without rich: it reads brackets in texts as markup, and tools read help and errors too.
app = typer.Typer(
    cls=_Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Learn from router logs which queries need the frontier model.",
)
for _panel, _verbs in _VERBS.items():
    for _verb, _example in _verbs.items():
        app.command(rich_help_panel=_panel, epilog=f"Example: querytier {_example}")(_verb)
app.add_typer(artifact_app, name="artifact", rich_help_panel="Champion")
app.add_typer(data_app, name="data", rich_help_panel="Data")


def main() -> None:
    """Run the command line; report a failure as one message on standard error and an exit code."""
    try:
        app(standalone_mode=True)
    except QuerytierError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        # If one of our own modules is missing, that is a bug and keeps its traceback.
        extra = _extra_with(package)
        if extra is None:
            raise
        _fail(str(MissingExtraError(package, extra)), MissingExtraError.exit_code)
    except OSError as error:
        _fail(f"{error}; check the path, its permissions and the space left on the disk", 1)


@app.callback(invoke_without_command=True)
def _querytier(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"querytier {__version__}")
        raise typer.Exit


def _extra_with(package: str) -> str | None:
    """Return the first extra that installs a package; None if none does."""
    name = _DISTRIBUTIONS.get(package, package).replace("_", "[-_]")
    wanted = re.compile(rf'{name}\b(?!-).*extra == "(.+)"')
    found = filter(None, map(wanted.match, requires("querytier") or ()))
    return next((one[1] for one in found), None)


def _fail(message: str, exit_code: int) -> None:
    typer.echo(f"querytier: {message}", err=True)
    sys.exit(exit_code)
