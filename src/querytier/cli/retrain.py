"""The verb `querytier retrain`: new logs in, a better or safely unchanged champion out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from querytier.cli.log_options import LogOptions, say, takes_log_options
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
            help="New logs: a file, or a folder of them (a folder of our own decision log brings "
            "its outcomes.jsonl); may be given again. What is recorded already changes nothing.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="LOOP", help="The folder of the loop.")],
    reading: LogOptions,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="DATE", help="Leave out rows before it, and undated ones."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Train though nothing is new.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Merge new logs with the recorded ones, train a challenger, and let the gate decide."""
    from querytier.loop.retrain import foresee
    from querytier.loop.retrain import retrain as run_round

    found, outcomes = _files(logs)
    if reading.scores is None and outcomes is not None:
        reading = replace(reading, scores=outcomes)
    settings = reading.params(logs=found)
    sources = reading.sources(found, settings)
    if dry_run:
        for line in foresee(sources, out, settings, since):
            say(line)
        return
    heard = (lambda _: None) if as_json else say
    verdict = run_round(sources, out, settings, since=since, force=force, say=heard)
    if as_json:
        typer.echo(json.dumps(verdict, ensure_ascii=False))
    else:
        _tell(verdict, out)


def _files(paths: list[Path]) -> tuple[list[Path], Path | None]:
    """Return the log files of files and folders, and the outcomes of a decision log among them."""
    found: list[Path] = []
    outcomes: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(path.glob(_DECISIONS)) or sorted(
            file for file in path.iterdir() if file.suffix in _ENDINGS and file.name != _OUTCOMES
        )
        if not inside:
            raise UsageError(f"{path} holds no log: {', '.join(_ENDINGS)} are read")
        found += inside
        outcomes += [file for file in (path / _OUTCOMES,) if file.is_file()]
    if len(outcomes) > 1:
        raise UsageError(
            f"{len(outcomes)} of the folders have an {_OUTCOMES}; name one folder, or the "
            "files and --scores"
        )
    return found, outcomes[0] if outcomes else None


def _tell(verdict: dict[str, Any], out: Path) -> None:
    from querytier.eval.report.round_page import headline, next_steps

    if verdict["gate"]:
        say(f"gate: {verdict['reason']}")
    say(f"verdict: {verdict['verdict']}")
    say(headline(verdict))
    for step in next_steps(verdict):
        say(f"next: {step}")
    say(f"page: {out / 'verdict.html'}")
