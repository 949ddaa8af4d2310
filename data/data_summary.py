"""What became of logs: counts of rows, labels, roles and answers, and their fingerprint."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from querytier.data.labelling import LabelRules

__all__ = ["DataSummary", "OneSided"]


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
    roles : dict of str to int
        Labelled examples by role.
    needs_frontier : dict of str to float
        Mean label by role.
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
        Of the labelled examples with their groups and roles, whatever their order.
    """

    source: str
    rows: int
    usable: int
    unlabelled: dict[str, int]
    quarantined: dict[str, int]
    passed_over: dict[str, int]
    roles: dict[str, int]
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
