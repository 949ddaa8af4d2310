"""Stage 1, prepare: read, label and split logs."""

from collections.abc import Sequence
from pathlib import Path

from querytier.data.ingest.data_summary import DataSummary
from querytier.data.ingest.engines import Engine
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import Splitting, prepare
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.pipeline.params import Params, PrepareParams

__all__ = ["prepare_stage", "reading_of"]


def prepare_stage(
    sources: Sequence[LogSource],
    out: Path,
    params: Params,
    corrections: Path | None = None,
    engine: Engine | None = None,
) -> DataSummary:
    """Read, label and split logs; errors as in `querytier.data.ingest.preparing.prepare`."""
    section = params.prepare
    splitting = Splitting(
        shares=section.shares.model_dump(),
        seed=section.seed,
        near_duplicate_threshold=section.near_duplicate_threshold,
        near_duplicate_rows=section.near_duplicate_rows,
        temporal=section.temporal,
    )
    return prepare(sources, out, reading_of(section, corrections), splitting, engine)


def reading_of(section: PrepareParams, corrections: Path | None = None) -> Reading:
    """Return the settings for reading logs, as given by the parameters."""
    rules = LabelRules(
        section.label_rules, section.ok_threshold, section.ok_thresholds, section.margin
    )
    return Reading(rules, section.max_bad_share, section.redaction, corrections)
