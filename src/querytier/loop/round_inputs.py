"""What a round is made of: logs, parameters, and who was champion."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from querytier.data.ingest.sources import LogSource
from querytier.loop.rounds import Round, fingerprint_of
from querytier.pipeline.params import Params

__all__ = ["inputs_of", "same_inputs"]

Record = dict[str, Any]


def inputs_of(
    sources: Sequence[LogSource],
    params: Params,
    since: str | None,
    champion: Record | None,
    before: Round | None,
) -> Record:
    """Return what a round is made of; where files lie is no part of it."""
    scores = {source.scores for source in sources if source.scores}
    content = params.model_dump(mode="json")
    del content["prepare"]["logs"]  # where files lie says nothing of what is in them
    return {
        "logs": fingerprint_of([*{source.path for source in sources}, *scores]),
        "files": sorted({source.path.name for source in sources}),
        "read_as": sorted({f"{source.format} {source.pair}" for source in sources}),
        "since": since,
        "params": content,
        "champion": champion,
        "after": before.number if before else 0,
        "querytier": version("querytier"),
    }


def same_inputs(before: Record, now: Record) -> bool:
    """Tell whether a round would be made of what the last one was made of."""
    parts = ("logs", "read_as", "since", "params", "querytier")
    return all(before.get(name) == now[name] for name in parts)
