"""The verb `querytier gate`: whether a challenger replaces the champion."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from querytier.cli.options import AsJson, ParamsFile, console, plain_table, say

if TYPE_CHECKING:
    from querytier.eval.gate.checks import Check
    from querytier.loop.gate import GateResult

__all__ = ["gate"]


def gate(
    challenger: Annotated[
        Path,
        typer.Option(
            "--challenger", metavar="DIR", help="The --out folder of the challenger's run."
        ),
    ],
    champion: Annotated[
        Path | None,
        typer.Option(
            "--champion",
            metavar="DIR",
            help="The --out folder of the champion's run, or its artifact. May be omitted if "
            "the registry has no champion; the challenger is then checked by itself.",
        ),
    ] = None,
    params: ParamsFile = None,
    as_json: AsJson = False,
) -> None:
    """Promote the challenger if it is better and nowhere worse. Exit code 1 if it is not."""
    from querytier.loop.gate import GATE, run_gate
    from querytier.pipeline.params import read_params

    result = run_gate(challenger, champion, read_params(params).gate)
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
    else:
        _print_result(result)
        say(f"gate result: {challenger / GATE}")
    if not result.gate.passed:
        raise typer.Exit(1)


def _print_result(result: "GateResult") -> None:
    """Print the two models, the rows they were compared on, the checks and the conclusion."""
    from rich.markup import escape

    typer.echo("\n".join(_introduction(result)))
    table, paired = plain_table(), result.champion is not None
    table.add_column("check", no_wrap=True)
    table.add_column("challenger - champion\n(latency: ratio), 90% interval" if paired else "found")
    table.add_column("may be\nworse by" if paired else "", justify="right")
    table.add_column("")
    table.add_column("detail")
    for check in result.gate.checks:
        style = None if check.passed else "bold"
        table.add_row(*(escape(text) for text in _cells(check)), style=style)
    console().print(table)
    if result.gate.note:
        typer.echo(f"{result.gate.note}\n")
    typer.echo(_conclusion(result))


def _introduction(result: "GateResult") -> list[str]:
    champion, challenger, rows = result.champion, result.challenger, result.rows.counts()
    ours = f"{challenger.manifest.model_version}  {challenger.folder}"
    lines = [f"challenger  {ours} (registered version {result.version})"]
    if champion is None:
        lines.append("champion    none is registered: the challenger is checked by itself")
    else:
        lines.append(f"champion    {champion.manifest.model_version}  {champion.folder}")
        lines.append(f"            trained on: {champion.training_data}")
    lines.append(
        f"rows        {rows['used']} of the challenger's {rows['test']} test rows, in "
        f"{rows['groups']} groups; {rows['left_out']} left out because the champion was "
        "trained on them"
    )
    lines.append(f"            use number {result.uses} of these test rows, evaluations included")
    return lines


def _cells(check: "Check") -> list[str]:
    margin = "" if check.margin is None else f"{check.margin:g}" if check.margin else "must win"
    outcome = "passed" if check.passed else "failed"
    return [check.name, check.estimate_text, margin, outcome, check.detail]


def _conclusion(result: "GateResult") -> str:
    champion, current = result.champion, result.current_champion
    ours = result.challenger.manifest.model_version
    if result.gate.passed:
        return f"passed: version {result.version} is the champion now"
    if current is None:
        return "failed: there is still no champion"
    # If the two runs have separate stores, each is the champion of its own store, and the gate
    # cannot move the alias in the other.
    if current.model_version == ours and champion and champion.manifest.model_version != ours:
        return (
            "failed; but the challenger is the champion of its own store. Runs that share a "
            "champion need one store (MLFLOW_TRACKING_URI, or one params file)"
        )
    return "failed: the champion stays"
