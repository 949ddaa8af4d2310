"""Windows of traffic to compare: rows of logs, or the rows that a run has recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from querytier.data.examples import Examples
from querytier.data.ingest.labelled_log import Reading
from querytier.data.ingest.preparing import UNLABELLED, read_all, read_prepared
from querytier.data.ingest.sources import LogSource
from querytier.data.labelling import LabelRules
from querytier.data.splits import SPLITS
from querytier.data.values import utc_time
from querytier.errors import UsageError
from querytier.pipeline.params import Params
from querytier.serve import Router

__all__ = ["Span", "artifact_folder", "logged_window", "run_window"]


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open interval of time; an empty end is open.

    Attributes
    ----------
    since, until : str
        As `utc_time` returns them.
    """

    since: str = ""
    until: str = ""

    @classmethod
    def of(cls, since: str | None, until: str | None) -> Self:
        """Read the ends as a person wrote them.

        Raises
        ------
        UsageError
            If an end is not a time, or they are in the wrong order.
        """
        ends = [_time(end) if end else "" for end in (since, until)]
        if all(ends) and ends[0] >= ends[1]:
            raise UsageError(f"from {since} until {until} is an empty interval; swap the two")
        return cls(*ends)

    def of_window(self, examples: Examples, name: str) -> Examples:
        """Return the examples in the interval; those without a time only if both ends are open.

        Raises
        ------
        UsageError
            If an end is given and no example has a time.
        """
        if not (self.since or self.until):
            return examples
        times = examples.time.astype(str)
        if not (times != "").any():
            raise UsageError(f"{name} has no times; map their column, as in --map time=COLUMN")
        inside = (times != "") & (times >= self.since)
        return examples.where(np.asarray(inside & (times < self.until if self.until else True)))


def artifact_folder(
    run: Path | None, artifact: Path | None, reference: Sequence[Path] | None
) -> Path:
    """Return the folder of the artifact that scores both windows.

    Raises
    ------
    UsageError
        If two artifacts are named or none, or there is no reference.
    """
    if run is not None and artifact is not None:
        raise UsageError(f"{run} and --artifact {artifact} name two artifacts; leave out one")
    if run is not None:
        return run / "model"
    if artifact is None:
        raise UsageError("name a run, or an artifact with --artifact DIR")
    if not reference:
        raise UsageError("--artifact has no recorded traffic; give old logs with --reference LOG")
    return artifact


def run_window(run: Path, span: Span) -> Examples:
    """Return the recorded rows of a run, labelled or not, without those it was fitted to.

    A classifier is overconfident on its training rows, so any other rows of the same traffic would
    look drifted.

    Raises
    ------
    UsageError
        If the run has no prepared data, or no such rows.
    """
    examples, _ = read_prepared(run)
    unlabelled = run / "data" / UNLABELLED
    if unlabelled.is_file():
        examples = Examples.concatenated([examples, Examples.read_parquet(unlabelled)])
    held_out = examples.of_split(*(split for split in SPLITS if split != "train"))
    if not len(held_out):
        raise UsageError(f"{run} trained on all of its rows; give --reference LOG")
    return span.of_window(held_out, str(run))


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
    """Return the examples of logs, with labels if the logs have the fields that a rule needs.

    Parameters
    ----------
    sources : sequence of LogSource
    router : Router
        The label rules of its artifact come first, then the automatic ones.
    params : Params
    quarantine : Path
        Gets one JSON object per bad record.
    span : Span
    rules : LabelRules, optional
        Use these rules instead.
    reference : Examples, optional
        The window to compare the logs with.
    """
    section, automatic = params.prepare, LabelRules(**router.classifier.manifest.label_rule)
    automatic = automatic.with_automatic()
    if reference is not None:
        # A rule that labels rows of only one window moves the rate of needs_frontier by itself: a
        # log with feedback raised an alarm against a run without feedback, although nothing had
        # shifted.
        automatic = automatic.behind(set(reference.label_source.tolist()))
    reading = Reading(
        rules or automatic, section.max_bad_share, section.redaction, needs_labels=False
    )
    examples, data = read_all(sources, reading, quarantine)
    return span.of_window(examples, data.source)


def _time(text: str) -> str:
    try:
        return utc_time(text)
    except ValueError as error:
        raise UsageError(f"{error}; write a date or a time, as in 2026-11-23T08:00") from error
