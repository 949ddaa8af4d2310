"""The verb `querytier plan-labels`: which queries to send to both tiers next, within a budget."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from querytier.cli.log_options import LogOptions, Logs, say, takes_log_options
from querytier.errors import UsageError

if TYPE_CHECKING:
    from querytier.pipeline.params import Params

__all__ = ["plan_labels"]

_PRICE = "Dollars a million tokens read and written, in place of evaluate.prices."


@takes_log_options
def plan_labels(
    logs: Logs,
    artifact: Annotated[
        Path,
        typer.Option("--artifact", metavar="DIR", help="The folder of an exported classifier."),
    ],
    budget: Annotated[float, typer.Option("--budget", metavar="DOLLARS", help="What it may cost.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A .jsonl file.")],
    reading: LogOptions,
    price_cheap: Annotated[
        str | None, typer.Option("--price-cheap", metavar="IN,OUT", help=_PRICE)
    ] = None,
    price_frontier: Annotated[
        str | None, typer.Option("--price-frontier", metavar="IN,OUT", help=_PRICE)
    ] = None,
    output_tokens: Annotated[
        float, typer.Option("--output-tokens", help="Of an answer, where --price-... is given.")
    ] = 300.0,
) -> None:
    """Choose the queries whose labels teach the most for a budget; they train, and never judge."""
    from querytier.loop.query_selection import plan_label_list

    settings = _with_prices(reading.params(), price_cheap, price_frontier, output_tokens)
    made = plan_label_list(reading.sources(logs, settings), artifact, budget, out, settings)
    for line in made.lines():
        say(line)
    say(f"{out}: fill in cheap_score and frontier_score, then run with it beside the old logs")


def _with_prices(
    params: "Params", cheap: str | None, frontier: str | None, output_tokens: float
) -> "Params":
    """Return the parameters with the prices that the command line names."""
    from querytier.pipeline.params import with_section

    if cheap is None and frontier is None:
        return params
    if cheap is None or frontier is None:
        raise UsageError("--price-cheap and --price-frontier go together: name both")
    prices = {
        "cheap": _tier("--price-cheap", cheap, output_tokens),
        "frontier": _tier("--price-frontier", frontier, output_tokens),
    }
    return with_section(params, "evaluate", prices=prices)


def _tier(option: str, text: str, output_tokens: float) -> dict[str, Any]:
    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r}: write IN,OUT, as in 0.15,0.60") from None
    return {"per_million_in": read, "per_million_out": written, "output_tokens": output_tokens}
