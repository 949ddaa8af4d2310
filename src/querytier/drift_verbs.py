"""The verb `querytier drift`: whether the traffic has changed since an artifact was trained."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from querytier.log_options import LogOptions, say, takes_log_options

if TYPE_CHECKING:
    from querytier.data.examples import Examples

__all__ = ["drift"]


@takes_log_options
def drift(
    recent: Annotated[
        list[Path],
        typer.Option("--logs", "--recent", metavar="LOG", help="Recent logs; may be given again."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for all results.")],
    reading: LogOptions,
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]",
            help="What --out of a run was: its artifact, and the rows that it was not fitted to "
            "as the reference.",
        ),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            "--reference", metavar="LOG", help="Other logs as the reference; may be given again."
        ),
    ] = None,
    artifact: Annotated[
        Path | None,
        typer.Option("--artifact", metavar="DIR", help="An artifact, where no run is named."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Of the recent logs, from then on."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Of the recent logs, before then.")
    ] = None,
    reference_since: Annotated[
        str | None,
        typer.Option("--reference-since", metavar="TIME", help="Of the reference, from then on."),
    ] = None,
    reference_until: Annotated[
        str | None,
        typer.Option("--reference-until", metavar="TIME", help="Of the reference, before then."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare recent traffic with that of the training, or any two logs; exit 1: it has drifted."""
    from querytier.drift_report import DRIFT, PAGE, compare_windows
    from querytier.scoring import load_to_judge
    from querytier.stages import reading_of
    from querytier.traffic_windows import Span, logged_window, model_of, run_window

    model = model_of(run, artifact, reference)
    settings = reading.params()
    now, before = Span.of(since, until), Span.of(reference_since, reference_until)
    router = load_to_judge(model)
    out.mkdir(parents=True, exist_ok=True)

    rules = reading_of(settings.prepare).rules if reading.names_rules else None

    def logged(
        name: str, logs: list[Path], span: Span, beside: "Examples | None" = None
    ) -> "Examples":
        quarantine = out / f"quarantine-{name}.jsonl"
        sources = reading.sources(logs, settings)
        return logged_window(
            sources, router, settings, quarantine, span, rules=rules, reference=beside
        )

    if reference:
        first = logged("reference", reference, before)
    else:
        assert run is not None
        first = run_window(run, before)
    second = logged("recent", recent, now, first)
    report = compare_windows(first, second, router, settings.drift)
    report.write(out)
    if as_json:
        typer.echo(json.dumps(report.record()))
    else:
        for line in report.lines():
            say(line)
        say(f"page: {out / PAGE}; for tools: {out / DRIFT}")
    if report.drifted:
        raise typer.Exit(1)
