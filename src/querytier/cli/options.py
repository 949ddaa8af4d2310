"""Options that several verbs share, and the functions that print to a terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "Alpha",
    "Artifact",
    "AsJson",
    "Delta",
    "Folder",
    "Logs",
    "OutFolder",
    "ParamsFile",
    "console",
    "plain_table",
    "say",
]

Logs = Annotated[
    list[Path],
    typer.Argument(metavar="LOG", help="JSONL, CSV, TSV (each also .gz) or Parquet files."),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The --out folder of a run.")]
Artifact = Annotated[Path, typer.Option("--artifact", metavar="DIR", help="Folder of an artifact.")]
OutFolder = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder to write all results to.")
]
ParamsFile = Annotated[
    Path | None,
    typer.Option("--params", metavar="FILE", help="A params.yaml; options take precedence."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Alpha = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        help="Certify the threshold: largest share of cheap queries that may need frontier.",
    ),
]
Delta = Annotated[
    float | None, typer.Option("--delta", help="Largest probability that the certificate is wrong.")
]

# Least width, also for narrower terminals and for files: a wrapped table is hard to read.
_NARROWEST = 140


def say(text: str) -> None:
    """Print a line about what was done, in the form that all verbs use."""
    typer.echo(f"[querytier] {text}")


def console() -> "Console":
    """Return a console that is wide enough for a table."""
    from rich.console import Console

    return Console(width=max(_NARROWEST, Console().width), highlight=False)


def plain_table(title: str | None = None, *columns: str) -> "Table":
    """Return an empty table whose only line is under the header."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table
