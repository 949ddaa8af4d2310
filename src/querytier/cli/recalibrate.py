"""The verb `querytier recalibrate`: few labels of another pair of models, a promise or none."""

import json
from pathlib import Path
from typing import Annotated

import typer

from querytier.cli.log_options import LogOptions, say, takes_log_options
from querytier.cli.options import Alpha, Delta

__all__ = ["recalibrate"]


@takes_log_options
def recalibrate(
    run: Annotated[
        Path, typer.Argument(metavar="DIR", help="What --out of a run was, or an artifact.")
    ],
    logs: Annotated[
        list[Path],
        typer.Option("--logs", metavar="LOG", help="Labels of the new pair; may be given again."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Gets the new artifact.")],
    reading: LogOptions,
    alpha: Alpha = None,
    delta: Delta = None,
    target_frontier_rate: Annotated[
        float | None,
        typer.Option("--target-frontier-rate", help="Of the threshold; the old one's without."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Calibrate and certify an artifact anew on few labels of another pair; exit 1: no promise."""
    from querytier.loop.recalibration import recalibrate as recalibrated
    from querytier.pipeline.params import with_section
    from querytier.pipeline.prepare import reading_of

    settings = with_section(reading.params(logs=logs), "certify", alpha=alpha, delta=delta)
    settings = with_section(settings, "recalibrate", target_frontier_rate=target_frontier_rate)
    sources = reading.sources(logs, settings)
    made = recalibrated(run, sources, out, reading_of(settings.prepare), settings)
    if as_json:
        typer.echo(json.dumps(made.to_dict()))
    else:
        for line in made.lines():
            say(line)
        say(f"model {made.manifest.model_version} in {out / 'model'}, registered as challenger")
        say(f"report: {out / 'recalibration.html'}")
    if made.certified is not None and not made.certified.certification.granted:
        raise typer.Exit(1)
