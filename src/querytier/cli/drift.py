"""The verb `querytier drift`: whether the traffic has changed since an artifact was trained."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from querytier.cli.log_options import LogOptions, takes_log_options
from querytier.cli.options import AsJson, OutFolder, say

if TYPE_CHECKING:
    from querytier.data.examples import Examples
    from querytier.loop.drift_windows import Span
    from querytier.pipeline.params import Params
    from querytier.serve import Router

__all__ = ["drift"]

_TIME = "TIME"


@takes_log_options
def drift(
    recent: Annotated[
        list[Path],
        typer.Option("--logs", "--recent", metavar="LOG", help="Recent logs; may be repeated."),
    ],
    out: OutFolder,
    reading: LogOptions,
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            help="The --out folder of a run. Its artifact scores the queries; the rows that it "
            "was not trained on are the reference.",
        ),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            "--reference", metavar="LOG", help="Logs to use as the reference; may be repeated."
        ),
    ] = None,
    artifact: Annotated[
        Path | None,
        typer.Option(
            "--artifact", metavar="DIR", help="Folder of an artifact, if no run is given."
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar=_TIME, help="Use only recent records at or after TIME.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar=_TIME, help="Use only recent records before TIME.")
    ] = None,
    reference_since: Annotated[
        str | None, typer.Option(metavar=_TIME, help="Use only reference records at or after TIME.")
    ] = None,
    reference_until: Annotated[
        str | None, typer.Option(metavar=_TIME, help="Use only reference records before TIME.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare recent traffic with that of a run, or two logs. Exit code 1 if it has drifted."""
    from querytier.loop import drift_windows
    from querytier.loop.drift_report import DRIFT, PAGE, compare_windows
    from querytier.pipeline.scoring import load_for_evaluation

    params = reading.params()
    now = drift_windows.Span.of(since, until)
    before = drift_windows.Span.of(reference_since, reference_until)
    router = load_for_evaluation(drift_windows.artifact_folder(run, artifact, reference))
    out.mkdir(parents=True, exist_ok=True)

    window = partial(_window, reading, params, router, out)
    if reference:
        first = window("reference", reference, before, None)
    else:
        assert run is not None
        first = drift_windows.run_window(run, before)
    report = compare_windows(first, window("recent", recent, now, first), router, params.drift)
    report.write(out)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        for line in report.lines():
            say(line)
        say(f"page: {out / PAGE}; JSON: {out / DRIFT}")
    if report.drifted:
        raise typer.Exit(1)


def _window(
    reading: LogOptions,
    params: "Params",
    router: "Router",
    out: Path,
    name: str,
    logs: list[Path],
    span: "Span",
    other: "Examples | None",
) -> "Examples":
    """Read a window of logs; `other` is the window that it will be compared with."""
    from querytier.loop.drift_windows import logged_window
    from querytier.pipeline.prepare import reading_of

    return logged_window(
        reading.sources(logs, params),
        router,
        params,
        out / f"quarantine-{name}.jsonl",
        span,
        rules=reading_of(params.prepare).rules if reading.names_rules else None,
        reference=other,
    )
