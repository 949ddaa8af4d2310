"""The verb `querytier select-queries`: which queries to send to both tiers next."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from querytier.cli.log_options import LogOptions, takes_log_options
from querytier.cli.options import Artifact, Logs, say
from querytier.errors import UsageError

if TYPE_CHECKING:
    from querytier.pipeline.params import Params

__all__ = ["select_queries"]

_PRICE = "Dollars per million input and output tokens; replaces evaluate.prices."


@takes_log_options
def select_queries(
    logs: Logs,
    artifact: Artifact,
    budget: Annotated[
        float, typer.Option("--budget", metavar="DOLLARS", help="Largest total cost of the labels.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The .jsonl file to write the queries to.")
    ],
    reading: LogOptions,
    price_cheap: Annotated[
        str | None, typer.Option("--price-cheap", metavar="IN,OUT", help=_PRICE)
    ] = None,
    price_frontier: Annotated[
        str | None, typer.Option("--price-frontier", metavar="IN,OUT", help=_PRICE)
    ] = None,
    output_tokens: Annotated[
        float, typer.Option("--output-tokens", help="Number of tokens in an answer, for --price-*.")
    ] = 300.0,
) -> None:
    """Select queries to label next, within a budget.

    By default, half of them come from kinds of queries with few labels and half are random. They
    are used for training, never for testing.
    """
    from querytier.loop.query_selection import select_from_logs

    settings = _with_prices(reading.params(), price_cheap, price_frontier, output_tokens)
    selection = select_from_logs(reading.sources(logs, settings), artifact, budget, out, settings)
    for line in selection.lines():
        say(line)
    say(f"{out}: fill in cheap_score and frontier_score, then train on it and the old logs")


def _with_prices(
    params: "Params", cheap: str | None, frontier: str | None, output_tokens: float
) -> "Params":
    """Return the parameters with the prices of the command line, if it names any."""
    from querytier.pipeline.params import with_section

    if cheap is None and frontier is None:
        return params
    if cheap is None or frontier is None:
        raise UsageError("--price-cheap and --price-frontier go together: give both")
    prices = {
        "cheap": _tier("--price-cheap", cheap, output_tokens),
        "frontier": _tier("--price-frontier", frontier, output_tokens),
    }
    return with_section(params, "evaluate", prices=prices)


def _tier(option: str, text: str, output_tokens: float) -> dict[str, Any]:
    try:
        dollars = [float(part) for part in text.split(",")]
        prices = dict(zip(("per_million_in", "per_million_out"), dollars, strict=True))
    except ValueError:
        raise UsageError(f"{option} {text!r}: write IN,OUT, as in 0.15,0.60") from None
    return {**prices, "output_tokens": output_tokens}
