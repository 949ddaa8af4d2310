"""Windows of traffic to be compared: of logs, and of what a run has recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from querytier.data.examples import Examples
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import UNLABELLED, read_all, read_prepared
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.data.splits import SPLITS
from querytier.data.timestamps import utc_time
from querytier.errors import UsageError
from querytier.pipeline.params import Params
from querytier.serve import Router

__all__ = ["Span", "logged_window", "model_of", "run_window"]


@dataclass(frozen=True, slots=True)
class Span:
    """From when on, and before when; empty where there is no such end.

    Attributes
    ----------
    since, until : str
        As `utc_time` gives them.
    """

    since: str = ""
    until: str = ""

    @classmethod
    def of(cls, since: str | None, until: str | None) -> Self:
        """Take the ends as a person wrote them.

        Raises
        ------
        UsageError
            If one is no time, or they are the wrong way round.
        """
        ends = [_time(end) if end else "" for end in (since, until)]
        if all(ends) and ends[0] >= ends[1]:
            raise UsageError(f"from {since} until {until} holds no time; swap the two")
        return cls(*ends)

    def of_window(self, examples: Examples, name: str) -> Examples:
        """Return the examples of that time; those without a time only where there is no end.

        Raises
        ------
        UsageError
            If none has a time, and one is asked for.
        """
        if not (self.since or self.until):
            return examples
        times = examples.time.astype(str)
        if not (times != "").any():
            raise UsageError(f"{name} tells no times; map their column, as in --map time=COLUMN")
        inside = (times != "") & (times >= self.since)
        return examples.where(np.asarray(inside & (times < self.until if self.until else True)))


def model_of(run: Path | None, artifact: Path | None, reference: Sequence[Path] | None) -> Path:
    """Return the folder of the artifact by which two windows are to be compared.

    Raises
    ------
    UsageError
        If it is not clear which, or there is nothing to compare with.
    """
    if run is not None and artifact is not None:
        raise UsageError(f"{run} and --artifact {artifact} are two artifacts; leave out one")
    if run is not None:
        return run / "model"
    if artifact is None:
        raise UsageError("name a run, or an artifact with --artifact DIR")
    if not reference:
        raise UsageError("--artifact has no recorded traffic; give old logs with --reference LOG")
    return artifact


def run_window(run: Path, span: Span) -> Examples:
    """Return what a run has recorded and its classifier was not fitted to, labelled or not.

    On training rows a classifier is too sure of itself, so that other rows of the same traffic
    would look drifted.

    Raises
    ------
    UsageError
        If the run has no prepared data, or no such rows.
    """
    examples, _ = read_prepared(run)
    unlabelled = run / "data" / UNLABELLED
    if unlabelled.is_file():
        examples = Examples.concatenated([examples, Examples.read_parquet(unlabelled)])
    kept = examples.of_split(*(split for split in SPLITS if split != "train"))
    if not len(kept):
        raise UsageError(f"{run} holds no row that it did not train on; give --reference LOG")
    return span.of_window(kept, str(run))


def logged_window(
    sources: Sequence[LogSource],
    router: Router,
    params: Params,
    quarantine: Path,
    span: Span,
    *,
    rules: LabelRules | None = None,
    reference: Examples | None = None,
) -> Examples:
    """Return the examples of logs, labelled where they tell what is needed.

    Parameters
    ----------
    sources : sequence of LogSource
    router : Router
        Labels are made by the rules of its artifact, and the automatic ones beside them.
    params : Params
    quarantine : Path
        Gets a JSON object a bad record.
    span : Span
    rules : LabelRules, optional
        Other rules for labels.
    reference : Examples, optional
        What the logs are to be compared with: rules that made none of its labels make none here, as
        a shift between rules is none of the traffic's.
    """
    trained_on = LabelRules(**router.classifier.manifest.label_rule)
    section, automatic = params.prepare, trained_on.with_automatic()
    if reference is not None:
        automatic = automatic.behind(set(reference.label_source.tolist()))
    reading = Reading(rules or automatic, section.max_bad_share, section.redaction)
    examples, data = read_all(sources, replace(reading, labels_asked=False), quarantine)
    return span.of_window(examples, data.source)


def _time(text: str) -> str:
    try:
        return utc_time(text)
    except ValueError as error:
        raise UsageError(f"{error}; write a date or a time, as in 2026-11-23T08:00") from error
