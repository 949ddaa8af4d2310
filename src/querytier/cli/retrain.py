"""The verb `querytier retrain`: train on new logs, and run the gate."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from querytier.cli.log_options import LogOptions, takes_log_options
from querytier.cli.options import AsJson, say
from querytier.errors import UsageError

__all__ = ["retrain"]

_ENDINGS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz")
_OUTCOMES = "outcomes.jsonl"
_DECISIONS = "decisions*.jsonl"


@takes_log_options
def retrain(
    logs: Annotated[
        list[Path],
        typer.Option(
            "--logs",
            metavar="PATH",
            help="New logs: a file or a folder of files; may be repeated. A decision log's "
            "folder includes its outcomes.jsonl. Rows recorded before are ignored.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="LOOP", help="Folder that keeps all rounds.")
    ],
    reading: LogOptions,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="DATE", help="Leave out rows before DATE, and rows without a time."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what a round would do; write nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train even if there are too few new rows.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train on new and recorded logs, and run the gate.

    New rows are merged with those of earlier rounds; the challenger that is trained on both
    replaces the champion only if it passes the gate.
    """
    from querytier.loop.retrain import preview
    from querytier.loop.retrain import retrain as run_round

    found, outcomes = _files(logs)
    if reading.scores is None and outcomes is not None:
        reading = replace(reading, scores=outcomes)
    settings = reading.params(logs=found)
    sources = reading.sources(found, settings)
    if dry_run:
        for line in preview(sources, out, settings, since):
            say(line)
        return
    report = (lambda _: None) if as_json else say
    decision = run_round(sources, out, settings, since=since, force=force, report=report)
    if as_json:
        typer.echo(json.dumps(decision, ensure_ascii=False))
    else:
        _print_decision(decision, out)


def _files(paths: list[Path]) -> tuple[list[Path], Path | None]:
    """Return all log files, and the outcomes file of a decision log among the folders."""
    found: list[Path] = []
    outcomes: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        # In a decision log, outcomes.jsonl is not a log: it has the scores of the decisions.
        inside = sorted(path.glob(_DECISIONS)) or sorted(
            file for file in path.iterdir() if file.suffix in _ENDINGS and file.name != _OUTCOMES
        )
        if not inside:
            raise UsageError(f"{path} contains no log; logs end in {', '.join(_ENDINGS)}")
        found += inside
        outcomes += [file for file in (path / _OUTCOMES,) if file.is_file()]
    if len(outcomes) > 1:
        raise UsageError(
            f"{len(outcomes)} of the folders have an {_OUTCOMES}; name one folder, or the "
            "files and --scores"
        )
    return found, outcomes[0] if outcomes else None


def _print_decision(decision: dict[str, Any], out: Path) -> None:
    from querytier.eval.report.round_page import headline, next_steps
    from querytier.loop.round_decision import PAGE

    if decision["gate"]:
        say(f"gate: {decision['reason']}")
    say(f"round decision: {decision['verdict']}")
    say(headline(decision))
    for step in next_steps(decision):
        say(f"next: {step}")
    say(f"page: {out / PAGE}")
