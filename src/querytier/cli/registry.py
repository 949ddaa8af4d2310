"""The verbs `querytier trace` and `querytier rollback`: explain a decision, restore a champion."""

import json
from pathlib import Path
from typing import Annotated

import typer

from querytier.cli.options import AsJson, say
from querytier.errors import UsageError

__all__ = ["rollback", "trace"]

Project = Annotated[
    Path,
    typer.Option(
        "--project", metavar="DIR", help="Folder with mlflow.db, unless MLFLOW_TRACKING_URI is set."
    ),
]


def trace(
    decision: Annotated[
        str, typer.Argument(metavar="ID", help="The decision's id, as the service returned it.")
    ],
    log: Annotated[Path, typer.Option("--log", metavar="DIR", help="Folder of the decision log.")],
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Show the version, run, code and data behind a decision. Exit code 1 if parts are missing."""
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
        str | None, typer.Option("--to", metavar="VERSION", help="Registered version to restore.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print which version would serve; change nothing.")
    ] = False,
    project: Project = Path(),
    as_json: AsJson = False,
) -> None:
    """Make the previous champion the champion again. --to names another version."""
    # Imported here, as in all verbs: mlflow takes seconds to import, and --help does not need it.
    from querytier.loop.rounds import Loop
    from querytier.tracking.store import open_registry

    with open_registry(project) as registry:
        champion = registry.champion()
        if champion is None:
            raise UsageError("there is no champion to roll back; `querytier gate` makes one")
        target = registry.previous_champion(champion) if to is None else registry.find(to)
        if target is None:
            raise UsageError(
                f"there is no champion before version {champion.number} that was not rolled "
                "back itself; name a version: --to VERSION"
            )
        if target.number == champion.number:
            raise UsageError(f"version {target.number} is already the champion; name another one")
        if not dry_run:
            registry.roll_back(champion, target)
            # If the project is the folder of a loop, its service follows the loop's link.
            Loop(project).serve(target.model_version)
    moved = {"from": champion.number, "to": target.number, "model_version": target.model_version}
    if as_json:
        typer.echo(json.dumps({**moved, "dry_run": dry_run, "tags": dict(target.tags)}))
        return
    verb = "would serve" if dry_run else "serves"
    typer.echo(
        f"models:/querytier@champion {verb} version {target.number}, model {target.model_version} "
        f"(gate {target.tags.get('gate', 'not run')}, certificate "
        f"{target.tags.get('certificate', 'unknown')}); version {champion.number}, model "
        f"{champion.model_version}, {'would be' if dry_run else 'is'} marked as rolled back"
    )
