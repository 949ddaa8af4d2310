"""Merge fresh examples with the record of a retrain loop: window, decay, caps.

There are two sets. The *record* holds every example that was ever accepted, with the weight from
its log and the split it got then. The *training data* is a view of the record: rows outside the
window are left out, and weights are lowered by age, and if one group or source would weigh too
much. The view is computed from the record each time, so nothing is lowered twice, and merging the
same rows again changes nothing.

Splits never change. A fresh row that duplicates a recorded one joins its group and split; a row
that would connect rows of two splits is refused, because whichever split it got would leak into the
other (`querytier.data.leakage`).

Weights are lowered in training and calibration only, as nothing else uses them. The caps are on
weight, not on the number of rows: the harm that a sender of many rows can do grows with their
weight, and a cap on weight discards no rows.
"""

import hashlib
import json
import re
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Floats, Mask
from querytier.data.examples import Examples
from querytier.data.leakage import deduplicated
from querytier.data.record.weight_caps import Capped, capped

__all__ = ["MergeCounts", "MergeRule", "Merged", "merge", "with_lasting_ids"]


_WEIGHED = ("train", "calibration")
_DAY = 86_400.0
# Ids made from line numbers, with the prefix of a file if there are several.
_MADE_UP = re.compile(r"(^|:)line-\d+$")
_CONTENT = (
    *("query", "time", "needs_frontier", "cheap_score", "frontier_score", "outcome", "feedback"),
    *("tier", "source", "label_source"),
)


@dataclass(frozen=True, slots=True)
class MergeRule:
    """Which rows are used, and how age and the caps on groups and sources change their weight.

    Attributes
    ----------
    window_days : float or None
        Rows that are this many days older than the newest row are left out of every split; None
        uses all rows.
    half_life_days : float or None
        Number of days after which a row counts half in training and calibration; None keeps
        weights.
    largest_group_share, largest_source_share : float or None
        The largest share, in (0, 1], that one group or one source may have of the weight of the
        training split, and of the calibration split; None caps nothing.
    near_duplicate_threshold : float or None
        Similarity, in (0, 1], from which rows share a group; None joins equal views only.
    near_duplicate_rows : int
        Longer records are not searched for near duplicates.
    """

    window_days: float | None = None
    half_life_days: float | None = None
    largest_group_share: float | None = None
    largest_source_share: float | None = None
    near_duplicate_threshold: float | None = None
    near_duplicate_rows: int = 200_000


@dataclass(frozen=True, slots=True)
class MergeCounts:
    """Counts of accepted, refused, down-weighted and used rows.

    Attributes
    ----------
    recorded, fresh : int
        Rows before the merge.
    repeated : int
        Fresh rows that are recorded already; a changed label in their log changes nothing.
    id_reused : int
        Fresh rows whose id is that of another query; refused.
    straddling : int
        Fresh rows that would connect rows of two splits; refused.
    unlabelled : int
        Fresh rows without a label; they can be merged once they have one.
    added, joined : int
        Fresh rows that were recorded, and those among them that joined a recorded group.
    outside_window : int
        Recorded rows, added ones included, that are too old to be used.
    undated : int
        Rows in use without a time, to which neither window nor decay applies.
    decayed : int
        Rows whose weight is lowered by their age.
    capped_groups, capped_sources : dict of str to float
        By group or source, the factor by which a cap lowered its weight in one split.
    caps_left_out : tuple of str
        Why a cap could not be applied.
    used : int
        Rows that train, calibrate, certify or test.
    """

    recorded: int
    fresh: int
    repeated: int
    id_reused: int
    straddling: int
    unlabelled: int
    added: int
    joined: int
    outside_window: int
    undated: int
    decayed: int
    capped_groups: dict[str, float]
    capped_sources: dict[str, float]
    caps_left_out: tuple[str, ...]
    used: int


@dataclass(frozen=True, eq=False)
class Merged:
    """The result of a merge.

    Attributes
    ----------
    examples : Examples
        The rows that train, calibrate, certify or test; sorted by id.
    record : Examples
        All rows ever accepted, with their own weights, sorted by id: `recorded` of the next merge.
    added : frozenset of str
        Ids of the fresh rows that were recorded.
    counts : MergeCounts
    """

    examples: Examples
    record: Examples
    added: frozenset[str]
    counts: MergeCounts


def merge(recorded: Examples, fresh: Examples, rule: MergeRule) -> Merged:
    """Merge fresh examples with the record.

    An id that is only a line number (`line-7`) is replaced by a hash of the row's content,
    because every file has a line 7; equal rows of such files count once.

    Parameters
    ----------
    recorded : Examples
        The record of an earlier merge; may be empty.
    fresh : Examples
        With groups and splits, as `querytier.data.ingest.preparing` returns them.
    rule : MergeRule

    Returns
    -------
    Merged
    """
    # Sorted, so that the order of the logs does not decide which of two rows with one id wins.
    named = _sorted(with_lasting_ids(fresh))
    labelled = named.where(named.labelled)
    distinct = labelled.where(_first_of_each(labelled.id))
    known = dict(zip(recorded.id.tolist(), recorded.query.tolist(), strict=True))
    is_known = np.array([name in known for name in distinct.id.tolist()], dtype=np.bool_)
    pairs = zip(distinct.id.tolist(), distinct.query.tolist(), strict=True)
    repeated = sum(known.get(name) == query for name, query in pairs)
    new = distinct.where(~is_known)
    threshold = rule.near_duplicate_threshold
    # The search holds all queries in memory; equal views are still found beyond that.
    if len(recorded) + len(new) > rule.near_duplicate_rows:
        threshold = None
    split_rows = deduplicated(recorded, new, threshold)
    record = _sorted(Examples.concatenated([recorded, split_rows.fresh]))
    is_old = _ages(record) > (np.inf if rule.window_days is None else rule.window_days)
    used = record.where(~is_old)
    examples, caps, decayed = _reweighted(used, rule)
    counts = MergeCounts(
        recorded=len(recorded),
        fresh=len(fresh),
        repeated=len(labelled) - len(distinct) + repeated,
        id_reused=int(is_known.sum()) - repeated,
        straddling=split_rows.straddling,
        unlabelled=len(named) - len(labelled),
        added=len(split_rows.fresh),
        joined=split_rows.joined,
        outside_window=int(is_old.sum()),
        undated=int((used.time == "").sum()),
        decayed=decayed,
        capped_groups=caps.groups,
        capped_sources=caps.sources,
        caps_left_out=caps.left_out,
        used=len(used),
    )
    return Merged(examples, record, frozenset(split_rows.fresh.id.tolist()), counts)


def with_lasting_ids(fresh: Examples) -> Examples:
    """Return rows with a hash of their content in place of ids that are line numbers."""
    ids = fresh.id.copy()
    for row in np.flatnonzero([bool(_MADE_UP.search(name)) for name in ids.tolist()]).tolist():
        content = json.dumps([getattr(fresh, name)[row] for name in _CONTENT])
        ids[row] = f"row-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    return replace(fresh, id=ids)


def _sorted(examples: Examples) -> Examples:
    """Return the rows in an order that does not depend on the order in which they came."""
    columns = [getattr(examples, field.name).tolist() for field in fields(examples)]
    keys = [json.dumps(row) for row in zip(*columns, strict=True)]
    order = np.array(sorted(range(len(examples)), key=lambda row: (examples.id[row], keys[row])))
    return examples if not len(order) else examples.where(order)


def _first_of_each(names: NDArray[np.object_]) -> Mask:
    first = np.zeros(len(names), dtype=np.bool_)
    first[np.unique(names.astype(str), return_index=True)[1]] = True
    return first


def _ages(examples: Examples) -> Floats:
    """Return the days between each row and the newest one; NaN for rows without a time."""
    times = examples.seconds()
    if not len(times) or np.isnan(times).all():
        return np.full(len(times), np.nan)
    return np.asarray((np.nanmax(times) - times) / _DAY)


def _reweighted(used: Examples, rule: MergeRule) -> tuple[Examples, Capped, int]:
    """Return the rows with the weights in use, the caps by name, and the number of decayed rows."""
    weights, decayed = used.weight.copy(), 0
    groups: dict[str, float] = {}
    sources: dict[str, float] = {}
    left_out: list[str] = []
    ages = np.nan_to_num(_ages(used))  # a row without a time counts as new
    # By split, because each is fitted separately: under a joint cap one group could fill the
    # smaller split.
    for split in _WEIGHED:
        inside = used.split == split
        if rule.half_life_days is not None:
            weights[inside] *= 0.5 ** (ages[inside] / rule.half_life_days)
            decayed += int((ages[inside] > 0).sum())
        found = capped(
            weights[inside],
            used.group[inside],
            used.source[inside],
            rule.largest_group_share,
            rule.largest_source_share,
        )
        weights[inside] = found.weights
        groups |= found.groups
        sources |= {f"{name} ({split})": factor for name, factor in found.sources.items()}
        left_out += [f"{split}: {why}" for why in found.left_out]
    caps = Capped(weights, groups, sources, tuple(left_out))
    return replace(used, weight=weights), caps, decayed
