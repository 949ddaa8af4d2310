"""The verb `querytier drift`: whether the traffic has changed since an artifact was trained."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from querytier.cli.log_options import LogOptions, say, takes_log_options

if TYPE_CHECKING:
    from querytier.data.examples import Examples
    from querytier.loop.drift_windows import Span
    from querytier.pipeline.params import Params
    from querytier.serve import Router

__all__ = ["drift"]


Recent = Annotated[
    list[Path],
    typer.Option("--logs", "--recent", metavar="LOG", help="Recent logs; may be given again."),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for all results.")]
Run = Annotated[
    Path | None,
    typer.Argument(
        metavar="[RUN]",
        help="What --out of a run was: its artifact, and the rows that it was not fitted to "
        "as the reference.",
    ),
]
Reference = Annotated[
    list[Path] | None,
    typer.Option(
        "--reference", metavar="LOG", help="Other logs as the reference; may be given again."
    ),
]
Artifact = Annotated[
    Path | None,
    typer.Option("--artifact", metavar="DIR", help="An artifact, where no run is named."),
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Of the recent logs, from then on.")
]
Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Of the recent logs, before then.")
]
ReferenceSince = Annotated[
    str | None,
    typer.Option("--reference-since", metavar="TIME", help="Of the reference, from then on."),
]
ReferenceUntil = Annotated[
    str | None,
    typer.Option("--reference-until", metavar="TIME", help="Of the reference, before then."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@takes_log_options
def drift(
    recent: Recent,
    out: Out,
    reading: LogOptions,
    run: Run = None,
    reference: Reference = None,
    artifact: Artifact = None,
    since: Since = None,
    until: Until = None,
    reference_since: ReferenceSince = None,
    reference_until: ReferenceUntil = None,
    as_json: AsJson = False,
) -> None:
    """Compare recent traffic with that of the training, or any two logs; exit 1: it has drifted."""
    from querytier.loop.drift_report import DRIFT, PAGE, compare_windows
    from querytier.loop.drift_windows import Span, model_of, run_window
    from querytier.pipeline.scoring import load_to_judge

    model = model_of(run, artifact, reference)
    params = reading.params()
    now, before = Span.of(since, until), Span.of(reference_since, reference_until)
    router = load_to_judge(model)
    out.mkdir(parents=True, exist_ok=True)
    logged = partial(_logged, reading, params, router, out)
    if reference:
        first = logged("reference", reference, before)
    else:
        assert run is not None
        first = run_window(run, before)
    report = compare_windows(first, logged("recent", recent, now, first), router, params.drift)
    report.write(out)
    if as_json:
        typer.echo(json.dumps(report.to_dict()))
    else:
        for line in report.lines():
            say(line)
        say(f"page: {out / PAGE}; for tools: {out / DRIFT}")
    if report.drifted:
        raise typer.Exit(1)


def _logged(
    reading: LogOptions,
    params: "Params",
    router: "Router",
    out: Path,
    name: str,
    logs: list[Path],
    span: "Span",
    beside: "Examples | None" = None,
) -> "Examples":
    """Return a window of logs; what of them is bad goes to a quarantine of its own."""
    from querytier.loop.drift_windows import logged_window
    from querytier.pipeline.prepare import reading_of

    return logged_window(
        reading.sources(logs, params),
        router,
        params,
        out / f"quarantine-{name}.jsonl",
        span,
        rules=reading_of(params.prepare).rules if reading.names_rules else None,
        reference=beside,
    )
