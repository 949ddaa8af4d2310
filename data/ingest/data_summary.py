"""What became of logs: counts of rows, labels, splits and answers, and their fingerprint."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from querytier.data.labelling import LabelRules
from querytier.data.splits import FEWEST_ROWS_TO_CERTIFY, SPLITS
from querytier.errors import LogError

__all__ = ["FEWEST_OF_EACH_CLASS", "FEWEST_ROWS", "DataSummary", "OneSided", "counted"]

FEWEST_ROWS = 200
FEWEST_OF_EACH_CLASS = 10


@dataclass(frozen=True)
class OneSided:
    """Examples of which the log tells which tier answered.

    Attributes
    ----------
    tiers : dict of str to int
        By the tier that answered.
    outcomes, propensities : int
        Those with an outcome or feedback, and with a propensity: off-policy evaluation needs both.
    policies : dict of str to int
        By the version of the router that chose, where the log tells.
    """

    tiers: dict[str, int]
    outcomes: int
    propensities: int
    policies: dict[str, int]


@dataclass(frozen=True)
class DataSummary:
    """What became of logs.

    Attributes
    ----------
    source : str
        The logs' file names.
    rows, usable : int
        Records read, and records that made an example with a label.
    unlabelled : dict of str to int
        Records without a label, by reason.
    quarantined : dict of str to int
        Bad records, by reason (without the value).
    passed_over : dict of str to int
        Records that are none of a router's, by reason; not among `rows`.
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
        Links between near duplicates that joined groups; None where they were not searched.
    redacted : dict of str to int
        Personal data replaced in queries, by kind.
    label_rules : LabelRules
    label_sources : dict of str to int
        Labelled examples by source of their label.
    view_version : int
    view_sha256 : str
    fingerprint : str
        Of the labelled examples with their groups and splits, whatever their order.
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
    def read(cls, path: Path) -> "DataSummary":
        """Read what `write` wrote."""
        content = json.loads(path.read_text())
        rules = content["label_rules"]
        content["label_rules"] = LabelRules(**{**rules, "rules": tuple(rules["rules"])})
        content["one_sided"] = OneSided(**content["one_sided"])
        return cls(**content)

    def write(self, path: Path) -> None:
        """Write the summary as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    def check_trainable(self) -> None:
        """Refuse data on which no classifier could be trained and judged.

        Raises
        ------
        LogError
            If too few examples have a label, they hold one class only, or too few groups to fill
            the splits.
        """
        if self.usable < FEWEST_ROWS:
            apart = f"{sum(self.quarantined.values())} in quarantine"
            if self.unlabelled:
                reasons = counted(self.unlabelled)
                apart += f", {sum(self.unlabelled.values())} without a label: {reasons}"
            raise LogError(
                f"{self.source} has {self.usable} usable rows (and {apart}); at least "
                f"{FEWEST_ROWS} labelled rows are needed to train and to judge a classifier"
            )
        if min(self.positive, self.negative) < FEWEST_OF_EACH_CLASS:
            what = "too few of one class" if self.positive and self.negative else "one class only"
            raise LogError(
                f"{self.source} holds {what}: {self.positive} rows need the frontier model, "
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
                "are too few or too large, and none is split; map a finer group, or try another "
                "prepare.seed"
            )


def counted(counts: Mapping[str, int]) -> str:
    """Return counts as a person reads them, the largest first.

    Examples
    --------
    >>> counted({"not JSON": 1, "query empty": 3})
    'query empty: 3, not JSON: 1'
    """
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name}: {count}" for name, count in ranked)
