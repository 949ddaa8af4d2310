"""The verb `querytier gate`: whether a challenger takes the champion's place."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from querytier.cli.log_options import say

if TYPE_CHECKING:
    from querytier.eval.gate.checks import Check
    from querytier.loop.gate import Verdict

__all__ = ["gate"]

_NARROWEST = 120


def gate(
    challenger: Annotated[
        Path, typer.Option("--challenger", metavar="DIR", help="What --out of its run was.")
    ],
    champion: Annotated[
        Path | None,
        typer.Option(
            "--champion",
            metavar="DIR",
            help="What --out of its run was, or an artifact; without, where the registry has no "
            "champion, baseline checks decide.",
        ),
    ] = None,
    params: Annotated[
        Path | None, typer.Option("--params", metavar="FILE", help="A params file; section gate.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Let a challenger take the champion's place if it is nowhere worse; exit 1: it is kept out."""
    from querytier.loop.gate import GATE, ask_gate
    from querytier.pipeline.params import read_params

    verdict = ask_gate(challenger, champion, read_params(params).gate)
    if as_json:
        typer.echo(json.dumps(verdict.to_dict()))
    else:
        _print_verdict(verdict)
        say(f"verdict: {challenger / GATE}")
    if not verdict.gate.passed:
        raise typer.Exit(1)


def _print_verdict(verdict: "Verdict") -> None:
    """Print who was judged on which rows, the checks, and what follows."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=max(_NARROWEST, Console().width), highlight=False)
    for line in _introduction(verdict):
        console.print(line, markup=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    paired = verdict.champion is not None
    table.add_column("check", no_wrap=True)
    table.add_column("challenger - champion\n(latency: ratio), 90% interval" if paired else "found")
    table.add_column("may be\nworse by" if paired else "", justify="right")
    table.add_column("")
    table.add_column("of what")
    for check in verdict.gate.checks:
        style = None if check.passed else "bold"
        table.add_row(*(escape(text) for text in _cells(check)), style=style)
    console.print(table)
    if verdict.gate.note:
        console.print(f"{verdict.gate.note}\n", markup=False, soft_wrap=True)
    console.print(_conclusion(verdict), markup=False, soft_wrap=True)


def _introduction(verdict: "Verdict") -> list[str]:
    champion, challenger, rows = verdict.champion, verdict.challenger, verdict.rows.counts()
    ours = f"{challenger.manifest.model_version}  {challenger.folder}"
    lines = [f"challenger  {ours} (registered version {verdict.version})"]
    if champion is None:
        lines.append("champion    no other is registered: baseline checks decide")
    else:
        lines.append(f"champion    {champion.manifest.model_version}  {champion.folder}")
        lines.append(f"            learned from: {champion.known}")
    lines.append(
        f"rows        {rows['used']} of the challenger's {rows['test']} test rows, in "
        f"{rows['groups']} groups; {rows['left_out']} left out that the champion learned from"
    )
    lines.append(f"            use {verdict.uses} of these test rows, evaluations counted")
    return lines


def _cells(check: "Check") -> list[str]:
    margin = "" if check.margin is None else f"{check.margin:g}" if check.margin else "has to win"
    return [
        check.name,
        check.estimate_text,
        margin,
        "passed" if check.passed else "failed",
        check.detail,
    ]


def _conclusion(verdict: "Verdict") -> str:
    champion, stood = verdict.champion, verdict.stood
    ours = verdict.challenger.manifest.model_version
    if verdict.gate.passed:
        return f"passed: version {verdict.version} is the champion now"
    if stood is None:
        return "failed: there is no champion still"
    if stood.model_version == ours and champion and champion.manifest.model_version != ours:
        return (
            "failed: yet the challenger is the only champion that its own store has known; runs "
            "that are to share one need one store (MLFLOW_TRACKING_URI, or one params file)"
        )
    return "failed: the champion stays"
