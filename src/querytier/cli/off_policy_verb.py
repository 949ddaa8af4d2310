"""The verb `querytier off-policy`: what an artifact would have got on a router's own log."""

from pathlib import Path
from typing import Annotated

import typer

from querytier.cli.log_options import LogOptions, Logs, say, takes_log_options

__all__ = ["off_policy"]


@takes_log_options
def off_policy(
    logs: Logs,
    artifact: Annotated[
        Path,
        typer.Option("--artifact", metavar="DIR", help="The folder of an exported classifier."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for all results.")],
    reading: LogOptions,
) -> None:
    """Say what an artifact would have got on one-sided logs; exit 1: the log cannot tell."""
    from querytier.cli.off_policy import print_policies
    from querytier.pipeline.off_policy import compare_policies

    settings = reading.params()
    comparison = compare_policies(reading.sources(logs, settings), artifact, out, settings)
    print_policies(comparison.write(out))
    say(f"page: {out / 'off_policy.html'}; for tools: {out / 'off_policy.json'}")
    if comparison.refusal is not None:
        raise typer.Exit(1)
