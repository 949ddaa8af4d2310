"""The summary of a set of examples: rows, labels, splits, answers and fingerprint."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.data.ingest.labelled_log import ExampleBatch
from querytier.data.ingest.log_batches import counts_text
from querytier.data.ingest.running_counts import RunningCounts
from querytier.data.labelling import LabelRules
from querytier.data.splits import FEWEST_ROWS_TO_CERTIFY, SPLITS
from querytier.data.text_view import VIEW_VERSION, view_fingerprint
from querytier.errors import LogError
from querytier.files import write_json

__all__ = ["FEWEST_OF_EACH_CLASS", "FEWEST_ROWS", "DataSummary", "OneSided"]

# Fewer rows leave about 40 to test on, with intervals too wide to tell a classifier from chance.
FEWEST_ROWS = 200
FEWEST_OF_EACH_CLASS = 10
_OF_THE_LOGS = (
    *("source", "rows", "quarantined", "passed_over", "near_duplicates", "redacted"),
    "label_rules",
)


@dataclass(frozen=True)
class OneSided:
    """Numbers of examples for which the log states the tier that answered.

    Attributes
    ----------
    tiers : dict of str to int
        By the tier that answered.
    outcomes, propensities : int
        Those with an outcome or feedback, and with a propensity: off-policy evaluation needs both.
    policies : dict of str to int
        By the version of the router that chose, if the log names it.
    """

    tiers: dict[str, int]
    outcomes: int
    propensities: int
    policies: dict[str, int]


@dataclass(frozen=True)
class DataSummary:
    """Counts of the records of some logs, and the contents of the labelled examples.

    Attributes
    ----------
    source : str
        The logs' file names.
    rows, usable : int
        Records read, and records that became an example with a label.
    unlabelled : dict of str to int
        Records without a label, by reason.
    quarantined : dict of str to int
        Bad records, by reason (without the value).
    passed_over : dict of str to int
        Records that do not concern the router, by reason; not counted in `rows`.
    positive, negative : int
        Labelled examples that need the frontier model, and that do not; 1/2 is neither.
    groups : int
        Groups of the labelled examples.
    splits : dict of str to int
        Labelled examples by split.
    needs_frontier : dict of str to float
        Mean label by split.
    shares : dict of str to float
        Shares of the usable rows: `needs_frontier` (mean label), `truncated` (queries that the text
        view cuts) and, for scored logs, `cheap_ok`, `frontier_ok`, `both_fail`, `cheap_wins`.
    one_sided : OneSided
    near_duplicates : int or None
        Links between near duplicates that joined groups; None if they were not searched for.
    redacted : dict of str to int
        Personal data replaced in queries, by kind.
    label_rules : LabelRules
    label_sources : dict of str to int
        Labelled examples by source of their label.
    view_version : int
    view_sha256 : str
    fingerprint : str
        Fingerprint of the labelled examples with their groups and splits, in any order.
    """

    source: str
    rows: int
    usable: int
    unlabelled: dict[str, int]
    quarantined: dict[str, int]
    passed_over: dict[str, int]
    positive: int
    negative: int
    groups: int
    splits: dict[str, int]
    needs_frontier: dict[str, float]
    shares: dict[str, float]
    one_sided: OneSided
    near_duplicates: int | None
    redacted: dict[str, int]
    label_rules: LabelRules
    label_sources: dict[str, int]
    view_version: int
    view_sha256: str
    fingerprint: str

    @classmethod
    def from_counts(
        cls, counts: RunningCounts, groups: NDArray[Any], splits: NDArray[np.object_], **log: Any
    ) -> Self:
        """Return the summary of examples that were counted while their logs were read.

        Parameters
        ----------
        counts : RunningCounts
        groups, splits : ndarray, shape (n,)
            The group and the split of every example counted.
        **log
            The attributes that come from the logs alone: source, rows, quarantined, passed_over,
            near_duplicates, redacted, label_rules and fingerprint.
        """
        labelled = ~np.isnan(counts.labels)
        # Shares and means are of labelled rows: the others are used for neither training nor
        # evaluation.
        labels = {split: counts.labels[(splits == split) & labelled] for split in SPLITS}
        return cls(
            **log,
            usable=int(labelled.sum()),
            unlabelled=dict(counts.unlabelled),
            positive=counts.positive,
            negative=counts.negative,
            groups=_distinct(groups[labelled]),
            splits={split: len(found) for split, found in labels.items()},
            needs_frontier={s: float(found.mean()) for s, found in labels.items() if len(found)},
            shares=counts.shares(),
            one_sided=OneSided(
                tiers=dict(counts.answered),
                outcomes=counts.outcomes_known,
                propensities=counts.propensities_known,
                policies=dict(counts.policies),
            ),
            label_sources=dict(counts.label_sources),
            view_version=VIEW_VERSION,
            view_sha256=view_fingerprint(),
        )

    @classmethod
    def of(cls, examples: Examples, logs: "DataSummary") -> Self:
        """Return the summary of examples in memory.

        Parameters
        ----------
        examples : Examples
        logs : DataSummary
            Summary of the logs that the examples come from; the attributes of the logs are copied.
        """
        counts, batch = RunningCounts(), ExampleBatch.of(examples)
        counts.add(batch)
        log = {name: getattr(logs, name) for name in _OF_THE_LOGS}
        log["fingerprint"] = examples.fingerprint()
        return cls.from_counts(counts, batch.groups, examples.split, **log)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a summary that `write` wrote; version 0.1.0 called the splits roles."""
        content = json.loads(path.read_text())
        content["splits"] = content.pop("roles", None) or content["splits"]
        rules = content["label_rules"]
        content["label_rules"] = LabelRules(**{**rules, "rules": tuple(rules["rules"])})
        content["one_sided"] = OneSided(**content["one_sided"])
        return cls(**content)

    def write(self, path: Path) -> None:
        """Write the summary as JSON."""
        write_json(path, asdict(self))

    def check_trainable(self) -> None:
        """Raise an error if no classifier can be trained and judged on the data.

        Raises
        ------
        LogError
            If too few examples have a label, one class has too few of them, or the groups are too
            few to fill the splits.
        """
        if self.usable < FEWEST_ROWS:
            apart = f"{sum(self.quarantined.values())} in quarantine"
            if self.unlabelled:
                reasons = counts_text(self.unlabelled)
                apart += f", {sum(self.unlabelled.values())} without a label: {reasons}"
            raise LogError(
                f"{self.source} has {self.usable} usable rows (and {apart}); at least "
                f"{FEWEST_ROWS} labelled rows are needed to train and to judge a classifier"
            )
        if min(self.positive, self.negative) < FEWEST_OF_EACH_CLASS:
            what = "too few of one class" if self.positive and self.negative else "one class only"
            raise LogError(
                f"{self.source} has {what}: {self.positive} rows need the frontier model, "
                f"{self.negative} do not; at least {FEWEST_OF_EACH_CLASS} of each are needed. "
                "Check --ok-threshold and which column is the cheap score"
            )
        self._check_splits()

    def _check_splits(self) -> None:
        wanted = SPLITS if self.usable >= FEWEST_ROWS_TO_CERTIFY else ("train", "test")
        empty = [split for split in wanted if not self.splits[split]]
        if empty:
            raise LogError(
                f"{self.source}: no row for the split {', '.join(empty)}: its {self.groups} groups "
                "are too few or too large, and a group is never divided; map a finer "
                "group, or try another prepare.seed"
            )


def _distinct(hashes: NDArray[Any]) -> int:
    """Return the number of distinct hashes; sorts them in place, as `unique` makes three copies."""
    hashes.sort()
    return int((hashes[1:] != hashes[:-1]).sum()) + bool(len(hashes))
