"""The verb `recalibrate`: a new calibration and certificate from a few labels of a new pair."""

import json
from pathlib import Path
from typing import Annotated

import typer

from querytier.cli.log_options import LogOptions, takes_log_options
from querytier.cli.options import Alpha, AsJson, Delta, say

__all__ = ["recalibrate"]


@takes_log_options
def recalibrate(
    run: Annotated[
        Path, typer.Argument(metavar="DIR", help="The --out folder of a run, or a loop's champion.")
    ],
    logs: Annotated[
        list[Path],
        typer.Option(
            "--logs", metavar="LOG", help="Logs with scores of the new pair; may be repeated."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the new run.")],
    reading: LogOptions,
    alpha: Alpha = None,
    delta: Delta = None,
    target_frontier_rate: Annotated[
        float | None,
        typer.Option(
            "--target-frontier-rate",
            help="Share of queries to send to the frontier tier; by default the run's own target.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Calibrate and certify a run for another pair of models. Exit code 1 if it is refused.

    A few labels are enough: the ranking stays, and only calibrator, threshold and certificate are
    new.
    """
    from querytier.loop.recalibration import recalibrate as recalibrate_run
    from querytier.pipeline.params import with_section
    from querytier.pipeline.prepare import reading_of

    settings = with_section(reading.params(logs=logs), "certify", alpha=alpha, delta=delta)
    settings = with_section(settings, "recalibrate", target_frontier_rate=target_frontier_rate)
    sources = reading.sources(logs, settings)
    result = recalibrate_run(run, sources, out, reading_of(settings.prepare), settings)
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
    else:
        for line in result.lines():
            say(line)
        say(f"model {result.manifest.model_version} in {out / 'model'}, registered as challenger")
        say(f"report: {out / 'recalibration.html'}")
    if result.certified is not None and not result.certified.certification.granted:
        raise typer.Exit(1)
