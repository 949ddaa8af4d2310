"""The verbs `querytier certify` and `querytier plan`: what a threshold promises, at what price."""

import json
from pathlib import Path
from typing import Annotated

import typer

from querytier.cli.log_options import say

__all__ = ["Alpha", "Delta", "certify", "plan"]

Run = Annotated[Path, typer.Argument(metavar="DIR", help="What --out of a run was.")]
Alpha = Annotated[
    float | None, typer.Option("--alpha", help="The largest risk among queries sent cheap.")
]
Delta = Annotated[
    float | None, typer.Option("--delta", help="The largest chance that the promise is wrong.")
]
Params = Annotated[
    Path | None, typer.Option("--params", metavar="FILE", help="A params file; section certify.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def certify(
    out: Run,
    alpha: Alpha = None,
    delta: Delta = None,
    params: Params = None,
    as_json: AsJson = False,
) -> None:
    """Choose the threshold that sends the most queries cheap at a promised risk; exit 1: none."""
    from querytier.pipeline.certification import certify_artifact
    from querytier.pipeline.params import read_params, with_section

    section = with_section(read_params(params), "certify", alpha=alpha, delta=delta).certify
    made = certify_artifact(out, section)
    found = made.certification
    if as_json:
        typer.echo(json.dumps({**found.to_dict(), "attempts": made.attempt.number}))
    else:
        for line in made.lines():
            say(line)
    if not found.granted:
        raise typer.Exit(1)


def plan(
    out: Run,
    target_cheap_share: Annotated[
        float,
        typer.Option("--target-cheap-share", help="Share of the traffic to go cheap."),
    ],
    alpha: Alpha = None,
    delta: Delta = None,
    price_per_label: Annotated[
        float | None, typer.Option("--price-per-label", help="Of both answers and their judgement.")
    ] = None,
    params: Params = None,
    as_json: AsJson = False,
) -> None:
    """Say how many more labelled queries would certify a cheap share, and at what price."""
    from querytier.pipeline.certification import plan_labels
    from querytier.pipeline.params import read_params, with_section

    section = with_section(read_params(params), "certify", alpha=alpha, delta=delta).certify
    found = plan_labels(out, section, target_cheap_share, price_per_label)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
        return
    say(f"{found.status}: {found.reason}")
    say(f"labelled and waiting to be certified on: {found.labelled} groups")
    if found.more is not None:
        price = "" if found.price is None else f", {found.price:,.2f} at your price"
        say(f"{found.more} more are needed (power {found.power:.0%}){price}")
    today = "nothing" if found.share_today is None else f"{found.share_today:.0%} cheap"
    say(f"what the labelled ones can be expected to certify today: {today}")
