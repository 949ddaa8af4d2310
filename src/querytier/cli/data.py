"""The verbs `querytier data ...`: look at logs before training on them, and fetch public ones."""

import json
from pathlib import Path
from typing import Annotated

import typer

from querytier.cli.log_options import LogOptions, takes_log_options
from querytier.cli.options import AsJson, Logs, say

__all__ = ["data_app"]

data_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look at logs before training on them."
)


@data_app.command(
    epilog="Example: querytier data inspect logs.jsonl.gz "
    "--map query=prompt,cheap_score=weak,frontier_score=strong"
)
@takes_log_options
def inspect(
    logs: Annotated[Path, typer.Argument(metavar="LOG", help="One router log.")],
    reading: LogOptions,
    as_json: AsJson = False,
) -> None:
    """Show the fields, possible labels and first rows of a log.

    The last line says what to do next.
    """
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
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The .csv file to write.")],
    reading: LogOptions,
) -> None:
    """Write a table of doubtful labels for a person to review.

    `querytier run --corrections` applies the corrected labels.
    """
    from collections import Counter

    from querytier.pipeline.external_logs import audit_logs
    from querytier.pipeline.prepare import reading_of

    settings = reading.params()
    sources = reading.sources(logs, settings)
    suspects = audit_logs(sources, out, reading_of(settings.prepare), settings)
    for reason, count in Counter(suspect.reason for suspect in suspects).items():
        say(f"{reason}: {count}")
    say(f"{len(suspects)} doubtful labels in {out}; fill in corrected_label if one is wrong")
    say(f"next: querytier run {' '.join(map(str, logs))} ... --corrections {out}")


@data_app.command(
    epilog="Example: querytier data fetch routerbench --out routerbench.jsonl.gz "
    "--from downloads/routerbench.parquet"
)
def fetch(
    name: Annotated[str, typer.Argument(help="routerbench, arena_preferences or llmrouterbench.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="The log file to write, .jsonl or .jsonl.gz."),
    ],
    downloaded: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="Read this downloaded file of the set instead."
        ),
    ] = None,
) -> None:
    """Write a public data set as a log file."""
    import shlex

    from querytier.data.public.fetch import fetch as fetch_set

    fetched = fetch_set(name, out, downloaded)
    say(f"{fetched.rows} rows in {out}; licence: {fetched.public.licence}")
    say(f"models: {', '.join(fetched.models)}")
    say(f"next: {shlex.join(fetched.next_command)}")
