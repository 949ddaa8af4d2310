"""The verbs `querytier trace` and `querytier rollback`: what decided, and what is to decide."""

import json
from pathlib import Path
from typing import Annotated

import typer

from querytier.cli.log_options import say
from querytier.errors import UsageError

__all__ = ["rollback", "trace"]

Project = Annotated[
    Path,
    typer.Option(
        "--project", metavar="DIR", help="Where mlflow.db lies, unless MLFLOW_TRACKING_URI is set."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def trace(
    decision: Annotated[str, typer.Argument(metavar="ID", help="Of a decision, as answered.")],
    log: Annotated[
        Path, typer.Option("--log", metavar="DIR", help="The decision log of `querytier serve`.")
    ],
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Tell which version, run, code, data and certificate were behind a decision."""
    from querytier.tracking.lineage import decision_lineage

    found = decision_lineage(decision, log, project)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        typer.echo("\n".join(found.lines()))
    if found.missing is not None:
        say(found.missing)
        raise typer.Exit(1)


def rollback(
    to: Annotated[
        str | None, typer.Option("--to", metavar="VERSION", help="A registered version's number.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would serve, and change nothing.")
    ] = False,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Make the champion before this one champion again."""
    from querytier.tracking.store import open_store

    with open_store(project) as registry:
        champion = registry.champion()
        if champion is None:
            raise UsageError("there is no champion to roll back; `querytier gate` makes one")
        target = registry.before(champion) if to is None else registry.named(to)
        if target is None:
            raise UsageError(
                f"no champion is known before version {champion.number} that was not rolled back "
                "itself; name a version: --to VERSION"
            )
        if target.number == champion.number:
            raise UsageError(f"version {target.number} is the champion already; name another one")
        if not dry_run:
            registry.roll_back(champion, target)
            _lead(project, target.model_version)
    told = {"from": champion.number, "to": target.number, "model_version": target.model_version}
    if as_json:
        typer.echo(json.dumps({**told, "dry_run": dry_run, "tags": dict(target.tags)}))
        return
    verb = "would serve" if dry_run else "serves"
    typer.echo(
        f"models:/querytier@champion {verb} version {target.number}, model {target.model_version} "
        f"(gate {target.tags.get('gate', 'not asked')}, certificate "
        f"{target.tags.get('certificate', 'not known')}); version {champion.number}, model "
        f"{champion.model_version}, {'would be' if dry_run else 'is'} marked as rolled back"
    )


def _lead(project: Path, model_version: str) -> None:
    """Point the link of a loop's folder, where the project is one, to the champion again."""
    from querytier.loop.rounds import Loop

    loop = Loop(project)
    made = loop.made_by(model_version)
    if made is not None:
        loop.serve(made)
