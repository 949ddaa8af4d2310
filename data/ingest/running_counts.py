"""The few bytes of every example that stay in memory while a log streams by.

Groups, splits and the summary of a log follow from these numbers, so a log larger than the memory
can be prepared: the queries themselves are staged on disk.
"""

from array import array
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats, Hashes
from querytier.data.ingest.labelled_log import ExampleBatch
from querytier.data.label_rules import cheap_fails_frontier_succeeds
from querytier.data.splits import (
    FEWEST_ROWS_TO_CERTIFY,
    SplitShares,
    joined_groups,
    splits_of,
    temporal_splits,
)
from querytier.errors import LogError

__all__ = ["OutcomeCounts", "RunningCounts"]

Splits = NDArray[np.object_]

_OUTCOMES = ("cheap_ok", "frontier_ok", "needs_frontier", "both_fail", "cheap_wins")


class OutcomeCounts:
    """Numbers of scored records by outcome: which answers succeed, whether both fail.

    Examples
    --------
    >>> counts = OutcomeCounts()
    >>> for cheap, frontier in [(1, 1), (0, 1), (0, 0), (1, 0)]:
    ...     counts.add(cheap, frontier, ok_threshold=0.5)
    >>> counts.shares()["both_fail"]
    0.25
    """

    def __init__(self) -> None:
        self._counts = Counter(dict.fromkeys(_OUTCOMES, 0))
        self._scored = 0

    def add(self, cheap_score: float, frontier_score: float, ok_threshold: float) -> None:
        """Count one record with both scores; a score of at least `ok_threshold` is a success."""
        cheap_ok, frontier_ok = cheap_score >= ok_threshold, frontier_score >= ok_threshold
        needs = cheap_fails_frontier_succeeds(cheap_score, frontier_score, ok_threshold)
        self._scored += 1
        self._counts["cheap_ok"] += cheap_ok
        self._counts["frontier_ok"] += frontier_ok
        self._counts["needs_frontier"] += int(needs)
        self._counts["both_fail"] += not (cheap_ok or frontier_ok)
        self._counts["cheap_wins"] += cheap_ok and not frontier_ok

    def shares(self) -> dict[str, float]:
        """Return each count as a share of the scored records; empty if there are none."""
        if not self._scored:
            return {}
        return {name: count / self._scored for name, count in self._counts.items()}


class RunningCounts:
    """The numbers of every example from which groups, splits and counts follow.

    Attributes
    ----------
    positive, negative : int
        Labelled examples that need the frontier model, and that do not; 1/2 is neither.
    label_sources, unlabelled : Counter
        Labelled examples by source of the label, and unlabelled ones by reason.
    answered, policies : Counter
        One-sided examples by the tier that answered, and by version of the policy that chose it.
    outcomes_known, propensities_known : int
        One-sided examples with an outcome or feedback, and with a propensity.
    """

    def __init__(self) -> None:
        # Arrays of the standard library grow in place, at eight bytes or fewer an entry.
        self._names, self._views = array("Q"), array("Q")
        self._times, self._labels = array("d"), array("f")
        self._planned = array("b")
        self._outcomes = OutcomeCounts()
        self._truncated = 0
        self.positive, self.negative = 0, 0
        self.label_sources: Counter[str] = Counter()
        self.unlabelled: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.policies: Counter[str] = Counter()
        self.outcomes_known, self.propensities_known = 0, 0

    def add(self, batch: ExampleBatch) -> None:
        """Count a batch of examples."""
        examples = batch.examples
        self._names.frombytes(batch.groups.tobytes())
        self._views.frombytes(batch.views.tobytes())
        self._times.frombytes(examples.seconds().tobytes())
        # Labels as float32: a soft label needs no more digits.
        self._labels.frombytes(examples.needs_frontier.astype(np.float32).tobytes())
        self._planned.frombytes(examples.planned.tobytes())
        self.positive += int((examples.needs_frontier > 0.5).sum())
        self.negative += int((examples.needs_frontier < 0.5).sum())
        self._truncated += int(batch.truncated.sum())
        self.label_sources.update(examples.label_source[examples.labelled].tolist())
        self.unlabelled.update(examples.unlabelled[~examples.labelled].tolist())
        self._add_scores(examples.cheap_score, examples.frontier_score, examples.ok_threshold)
        self._add_one_sided(batch.where(examples.tier != ""))

    def _add_scores(self, cheap: Floats, frontier: Floats, ok_threshold: Floats) -> None:
        both = ~np.isnan(cheap + frontier)
        columns = (column[both].tolist() for column in (cheap, frontier, ok_threshold))
        for scores in zip(*columns, strict=True):
            self._outcomes.add(*scores)

    def _add_one_sided(self, batch: ExampleBatch) -> None:
        examples = batch.examples
        self.answered.update(examples.tier.tolist())
        self.policies.update(filter(None, examples.policy.tolist()))
        known = ~np.isnan(examples.outcome) | (examples.feedback != "")
        self.outcomes_known += int(known.sum())
        self.propensities_known += int((~np.isnan(examples.propensity)).sum())

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def labels(self) -> NDArray[np.float32]:
        """The label of every example, NaN if it has none, shape (n,)."""
        return np.frombuffer(self._labels, np.float32)

    def groups(self, links: NDArray[np.intp] | None = None) -> Hashes:
        """Return the group of every example, shape (n,); linked examples share it.

        Call it only once: it frees the hashes, which need much memory for a long log.
        """
        names, views = np.frombuffer(self._names, np.uint64), np.frombuffer(self._views, np.uint64)
        self._names, self._views = array("Q"), array("Q")
        return joined_groups(names, views, links)

    def splits(
        self, groups: Hashes, shares: SplitShares, seed: int, *, temporal: bool = False
    ) -> Splits:
        """Return the split of every example, shape (n,).

        With fewer than `FEWEST_ROWS_TO_CERTIFY` labelled rows, the calibration and certification
        splits fall to training: such logs are calibrated by cross-fitting and certify nothing.

        A group with an example that a plan selected is in the training split, and does not count
        for the shares of the other splits.

        Raises
        ------
        LogError
            If `temporal` is true, and an example has no time.
        """
        # A plan prefers certain queries, so its rows would bias whatever is judged on them.
        by_chance = ~self.planned_groups(groups)
        if (~np.isnan(self.labels[by_chance])).sum() < FEWEST_ROWS_TO_CERTIFY:
            shares = {"test": shares["test"]}
        splits = np.full(len(groups), "train", dtype=object)
        groups, labels = groups[by_chance], self.labels[by_chance]
        if not temporal:
            splits[by_chance] = splits_of(groups, shares, seed, labels)
            return splits
        times = np.frombuffer(self._times)
        missing = int(np.isnan(times).sum())
        if missing:
            raise LogError(
                f"{missing} of the {len(self)} examples have no time, which temporal splits need: "
                "map time=COLUMN, remove those records, or set prepare.temporal: false"
            )
        splits[by_chance] = temporal_splits(groups, times[by_chance], shares, seed, labels)
        return splits

    def planned_groups(self, groups: Hashes) -> NDArray[np.bool_]:
        """Return which examples share a group with one that a plan selected, shape (n,)."""
        planned = np.frombuffer(self._planned, np.bool_)
        return np.isin(groups, groups[planned])

    def shares(self) -> dict[str, float]:
        """Return the shares of `DataSummary`."""
        labelled = self.labels[~np.isnan(self.labels)]
        return {
            **self._outcomes.shares(),
            **({"needs_frontier": float(labelled.mean())} if len(labelled) else {}),
            "truncated": self._truncated / len(self),
        }
