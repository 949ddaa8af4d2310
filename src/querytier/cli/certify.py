"""The verbs `certify` and `sample-size`: certify a threshold's risk, and plan the labels."""

import json
from typing import Annotated

import typer

from querytier.cli.options import Alpha, AsJson, Delta, Folder, ParamsFile, say

__all__ = ["certify", "sample_size"]


def certify(
    out: Folder,
    alpha: Alpha = None,
    delta: Delta = None,
    params: ParamsFile = None,
    as_json: AsJson = False,
) -> None:
    """Certify a threshold for a run. Exit code 1 if it is refused.

    Chooses the threshold that sends the most queries to the cheap tier while its risk is at most
    alpha, and writes it into the artifact with the certificate.
    """
    from querytier.pipeline.certification import certify_artifact
    from querytier.pipeline.params import read_params, with_section

    section = with_section(read_params(params), "certify", alpha=alpha, delta=delta).certify
    certified = certify_artifact(out, section)
    certification = certified.certification
    if as_json:
        record = {**certification.to_dict(), "attempts": certified.attempt.number}
        typer.echo(json.dumps(record))
    else:
        for line in certified.lines():
            say(line)
    # A refusal is a result, and its certificate is written; the exit code tells scripts about it.
    if not certification.granted:
        raise typer.Exit(1)


def sample_size(
    out: Folder,
    target_cheap_share: Annotated[
        float,
        typer.Option(
            "--target-cheap-share", help="Share of queries to send to the cheap tier (0 to 1)."
        ),
    ],
    alpha: Alpha = None,
    delta: Delta = None,
    price_per_label: Annotated[
        float | None,
        typer.Option("--price-per-label", help="Cost of one label: both answers and judging them."),
    ] = None,
    params: ParamsFile = None,
    as_json: AsJson = False,
) -> None:
    """Estimate how many more labels a certificate needs."""
    from querytier.pipeline.certification import plan_sample_size
    from querytier.pipeline.params import read_params, with_section

    section = with_section(read_params(params), "certify", alpha=alpha, delta=delta).certify
    plan = plan_sample_size(out, section, target_cheap_share, price_per_label)
    if as_json:
        typer.echo(json.dumps(plan.to_dict()))
        return
    say(f"{plan.status}: {plan.reason}")
    say(f"labelled groups in the certification split: {plan.labelled}")
    if plan.more is not None:
        price = "" if plan.price is None else f", {plan.price:,.2f} at your price"
        say(f"{plan.more} more are needed (power {plan.power:.0%}){price}")
    today = "nothing" if plan.share_today is None else f"{plan.share_today:.0%} cheap"
    say(f"expected to be certified with today's labels: {today}")
