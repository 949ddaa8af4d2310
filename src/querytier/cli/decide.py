"""The verbs that decide queries: one that is typed, or all of a log."""

import json
from pathlib import Path
from typing import Annotated

import typer

from querytier.cli.log_options import Cluster, EngineName, LogOptions, Logs, say, takes_log_options

__all__ = ["decide", "score"]

Artifact = Annotated[
    Path, typer.Option("--artifact", metavar="DIR", help="The folder of an exported classifier.")
]


@takes_log_options
def score(
    logs: Logs,
    artifact: Artifact,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A .csv or .parquet file.")],
    reading: LogOptions,
    engine: EngineName = "local",
    cluster: Cluster = None,
) -> None:
    """Decide every query of logs; columns id, p_frontier, decision_score, tier."""
    from querytier.data.ingest.engines import engine as engine_named
    from querytier.pipeline.scoring import score_logs

    settings = reading.params()
    scored = score_logs(
        reading.sources(logs, settings),
        artifact,
        out,
        max_bad_share=settings.prepare.max_bad_share,
        engine=engine_named(engine, cluster),
    )
    counts = ", ".join(
        f"{name} {count}" for name, count in {**scored.tiers, **scored.reasons}.items()
    )
    say(f"{scored.rows} rows scored in {out} ({counts})")
    if scored.quarantined:
        say(f"{sum(scored.quarantined.values())} records in {out}.quarantine.jsonl")


def decide(
    query: Annotated[str, typer.Argument(help="The query.")],
    artifact: Artifact,
) -> None:
    """Decide one query and print the decision as one JSON line."""
    from querytier.serve import Router

    typer.echo(json.dumps(Router.load(artifact).decide(query).to_dict()))
