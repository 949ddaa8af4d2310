"""What stays in memory of every example while a log streams by: a few bytes each."""

import math
from array import array
from collections import Counter
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from querytier.data.ingest.labelled_log import ExampleBatch
from querytier.data.ingest.strata import Strata
from querytier.data.splits import (
    FEWEST_ROWS_TO_CERTIFY,
    SplitShares,
    joined_groups,
    splits_of,
    temporal_splits,
)
from querytier.errors import LogError

__all__ = ["Ledger"]

Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]
Splits = NDArray[np.object_]


class Ledger:
    """The few numbers of every example that groups, splits and counts follow from.

    Attributes
    ----------
    positive, negative : int
        Labelled examples that need the frontier model, and that do not; 1/2 is neither.
    label_sources, unlabelled : Counter
        Examples by source of their label, and those without one by reason.
    answered, policies : Counter
        One-sided examples by tier, and by version of the policy that chose.
    outcomes_known, propensities_known : int
        One-sided examples with an outcome or feedback, and with a propensity.
    """

    def __init__(self) -> None:
        self._names, self._views = array("Q"), array("Q")
        self._times, self._labels = array("d"), array("f")
        self._planned = array("b")
        self._strata = Strata()
        self._truncated = 0
        self.positive, self.negative = 0, 0
        self.label_sources: Counter[str] = Counter()
        self.unlabelled: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.policies: Counter[str] = Counter()
        self.outcomes_known, self.propensities_known = 0, 0

    def add(self, batch: ExampleBatch) -> None:
        """Note examples."""
        examples = batch.examples
        self._names.frombytes(batch.groups.tobytes())
        self._views.frombytes(batch.views.tobytes())
        self._times.extend(map(_seconds, examples.time.tolist()))
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
            self._strata.add(*scores)

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
        """The label of every example, NaN where it has none, shape (n,)."""
        return np.frombuffer(self._labels, np.float32)

    @property
    def labelled(self) -> int:
        """How many examples have a label."""
        return self.label_sources.total()

    def groups(self, links: NDArray[np.intp] | None = None) -> Hashes:
        """Return the group of every example; linked ones share it.

        To be called once: it gives up the hashes, of which long logs have many.
        """
        names, views = np.frombuffer(self._names, np.uint64), np.frombuffer(self._views, np.uint64)
        self._names, self._views = array("Q"), array("Q")
        return joined_groups(names, views, links)

    def splits(
        self, groups: Hashes, shares: SplitShares, seed: int, *, temporal: bool = False
    ) -> Splits:
        """Return the split of every example.

        Below `FEWEST_ROWS_TO_CERTIFY` labelled rows the calibration and certification splits fall
        to training: such logs are calibrated by cross-fitting, and cannot certify anything.

        Examples whose group has a planned one train, and count for no other's split.

        Raises
        ------
        LogError
            If `temporal` is asked of examples without a time.
        """
        dealt = ~self.planned_groups(groups)
        if (~np.isnan(self.labels[dealt])).sum() < FEWEST_ROWS_TO_CERTIFY:
            shares = {"test": shares["test"]}
        splits = np.full(len(groups), "train", dtype=object)
        if not temporal:
            splits[dealt] = splits_of(groups[dealt], shares, seed, self.labels[dealt])
            return splits
        times = np.frombuffer(self._times)
        missing = int(np.isnan(times).sum())
        if missing:
            raise LogError(
                f"{missing} of the {len(self)} examples have no time, and temporal splits need it: "
                "map time=COLUMN, leave those records out, or set prepare.temporal: false"
            )
        labels = self.labels[dealt]
        splits[dealt] = temporal_splits(groups[dealt], times[dealt], shares, seed, labels)
        return splits

    def planned_groups(self, groups: Hashes) -> NDArray[np.bool_]:
        """Tell which examples share a group with one that was planned, shape (n,)."""
        planned = np.frombuffer(self._planned, np.bool_)
        return np.isin(groups, groups[planned])

    def shares(self) -> dict[str, float]:
        """Return the shares of `DataSummary`."""
        labelled = self.labels[~np.isnan(self.labels)]
        return {
            **self._strata.shares(),
            **({"needs_frontier": float(labelled.mean())} if len(labelled) else {}),
            "truncated": self._truncated / len(self),
        }


def _seconds(time: str) -> float:
    """Return seconds since 1970; NaN where there is no time."""
    return datetime.fromisoformat(time).timestamp() if time else math.nan
