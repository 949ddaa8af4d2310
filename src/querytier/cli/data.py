"""The verbs `querytier data ...`: look at logs before anything is made of them, and fetch some."""

import json
from pathlib import Path
from typing import Annotated

import typer

from querytier.cli.log_options import LogOptions, Logs, say, takes_log_options

__all__ = ["data_app"]

data_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at logs before anything is made of them.",
)


@data_app.command(
    epilog="Example: querytier data inspect logs.jsonl.gz "
    "--map query=prompt,cheap_score=weak,frontier_score=strong"
)
@takes_log_options
def inspect(
    logs: Annotated[Path, typer.Argument(metavar="LOG", help="One router log.")],
    reading: LogOptions,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of tables.")
    ] = False,
) -> None:
    """Say what a log holds: fields, label rules and what they miss, shares, ten rows, what next."""
    from querytier.cli.tables import print_inspection
    from querytier.data.ingest.inspecting import inspect_log
    from querytier.pipeline.prepare import reading_of

    settings = reading.params()
    (source,) = reading.sources([logs], settings)
    inspection = inspect_log(source, reading_of(settings.prepare).rules)
    if as_json:
        typer.echo(json.dumps(inspection.to_dict(), ensure_ascii=False))
    else:
        print_inspection(inspection, str(logs), reading.as_typed())


@data_app.command(
    epilog="Example: querytier data audit logs.jsonl --map query=prompt,needs_frontier=label "
    "--out suspects.csv"
)
@takes_log_options
def audit(
    logs: Logs,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The table, a .csv file.")],
    reading: LogOptions,
) -> None:
    """Write a table of doubtful labels for a person to review; `run --corrections` applies it."""
    from collections import Counter

    from querytier.pipeline.external_logs import audit_logs
    from querytier.pipeline.prepare import reading_of

    settings = reading.params()
    sources = reading.sources(logs, settings)
    suspects = audit_logs(sources, out, reading_of(settings.prepare), settings)
    for reason, count in Counter(suspect.reason for suspect in suspects).items():
        say(f"{reason}: {count}")
    say(f"{len(suspects)} doubtful labels in {out}; fill in corrected_label where one is wrong")
    say(f"next: querytier run {' '.join(map(str, logs))} ... --corrections {out}")


@data_app.command(
    epilog="Example: querytier data fetch routerbench --out routerbench.parquet "
    "--from downloads/routerbench.parquet"
)
def fetch(
    name: Annotated[str, typer.Argument(help="routerbench, arena_preferences or llmrouterbench.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="A .parquet, .jsonl or .jsonl.gz file."),
    ],
    downloaded: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="A file of the set, already downloaded."),
    ] = None,
) -> None:
    """Write a public set as a log file, from the hub or from a file of it."""
    import shlex

    from querytier.data.public.fetch import fetch as fetched_of

    fetched = fetched_of(name, out, downloaded)
    say(f"{fetched.rows} rows in {out}; licence: {fetched.public.licence}")
    say(f"models: {', '.join(fetched.models)}")
    say(f"next: {shlex.join(fetched.next_command)}")
