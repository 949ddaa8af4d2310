"""Leakage: equal or nearly equal queries must not be in two splits, or in training and evaluation.

`deduplicated` assigns fresh rows the group and split of the recorded rows that they duplicate.
`seen_in_training` finds the rows of a test set that a classifier was trained on; `rows_id`
identifies a test set, so that its uses can be counted: choosing among classifiers on the same rows
often enough overfits them (Dwork et al. 2015, "The reusable holdout", Science 349:636).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Indices, Mask
from querytier.data.examples import Examples
from querytier.data.near_duplicates import components, near_duplicate_links
from querytier.data.splits import SPLITS, joined_groups
from querytier.data.text_view import hashed

__all__ = [
    "Deduplicated",
    "deduplicated",
    "near_duplicate_groups",
    "rows_id",
    "seen_in_training",
]

Names = NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Deduplicated:
    """Fresh rows with the groups and splits of the recorded rows that they duplicate.

    Attributes
    ----------
    fresh : Examples
        The rows that are accepted.
    joined : int
        Number of accepted rows that joined a recorded group.
    straddling : int
        Number of rows that are refused because they would connect two splits.
    """

    fresh: Examples
    joined: int
    straddling: int


def deduplicated(recorded: Examples, fresh: Examples, threshold: float | None) -> Deduplicated:
    """Assign fresh rows the group and split of the recorded rows they duplicate.

    Two rows are duplicates if they have the same group or text view, or are near duplicates; a
    *family* is what such links connect. A recorded row never changes its split, so three kinds of
    fresh rows are refused, in this order:

    1. rows that are themselves linked to recorded rows of two splits;
    2. all fresh rows of a family that still connects two splits without the first kind;
    3. rows that a plan selected, if their family is not in the training split.

    In a family without a recorded row, the first split in the order of `SPLITS` wins: a query in
    the training split must not be tested on.

    Parameters
    ----------
    recorded, fresh : Examples
    threshold : float or None
        Similarity from which rows are near duplicates, as in `near_duplicate_links`; None links
        equal views only.

    Returns
    -------
    Deduplicated
    """
    splits, count = _split_numbers(recorded), len(recorded)
    links = _links(Examples.concatenated([recorded, fresh]), threshold)
    astride = _linked_to_two_splits(links, splits, len(fresh))
    accepted = fresh.where(~astride)
    if astride.any():
        # The links of a near-duplicate cluster only span it, so the links of the remaining rows
        # cannot be picked from the old ones: a refused row may have been the bridge between them.
        links = _links(Examples.concatenated([recorded, accepted]), threshold)
    families = components(links, count + len(accepted))
    theirs, ours = families[:count], families[count:]
    connects = np.isin(ours, _in_several_splits(theirs, splits))
    accepted, ours = accepted.where(~connects), ours[~connects]
    accepted = replace(
        accepted,
        group=_group_names(recorded, accepted, theirs, ours),
        split=_family_splits(splits, _split_numbers(accepted), theirs, ours),
    )
    # A plan selects hard or unusual queries: as test rows they would bias every estimate.
    judges = accepted.planned & (accepted.split != "train")
    accepted, is_known = accepted.where(~judges), np.isin(ours, theirs)[~judges]
    return Deduplicated(accepted, int(is_known.sum()), len(fresh) - len(accepted))


def near_duplicate_groups(
    views: Sequence[str], threshold: float | None, names: Sequence[str] | None = None
) -> NDArray[np.object_]:
    """Return one group for all rows that are connected by a name, equal views or near duplicates.

    Parameters
    ----------
    views : sequence of str, length n
        Text views.
    threshold : float or None
        As in `near_duplicate_links`; None joins equal views only.
    names : sequence of str, length n, optional
        Names of groups that belong together already; an empty one joins nothing.

    Returns
    -------
    ndarray of object, shape (n,)
        16 hexadecimal digits each.
    """
    hashes = np.array([hashed(view) for view in views], dtype=np.uint64)
    groups = hashes
    if names is not None:
        pairs = zip(names, hashes.tolist(), strict=True)
        groups = np.array([hashed(name) if name else view for name, view in pairs], np.uint64)
    links = None if threshold is None else near_duplicate_links(views, threshold)
    joined = joined_groups(groups, hashes, links)
    return np.array([f"{group:016x}" for group in joined.tolist()], dtype=object)


def rows_id(examples: Examples) -> str:
    """Return a stable id of a set of rows: 16 digits of the sha256 of their sorted groups.

    A log that grows adds groups to its test split, so the split gets a new id.
    """
    groups = np.unique(examples.group.astype(str)).tolist()
    return hashlib.sha256("\n".join(groups).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def seen_in_training(examples: Examples, learned: Examples) -> Mask:
    """Return which rows share a group or a text view with rows that a classifier was trained on.

    If one row of a group was seen, all of them count as seen: they are near copies. Groups alone
    are not enough, as the groups of a log that grows may merge, and then change their name.

    Parameters
    ----------
    examples : Examples, length n
    learned : Examples

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    groups, views = set(learned.group.tolist()), set(learned.views())
    seen = {
        group
        for group, view in zip(examples.group.tolist(), examples.views(), strict=True)
        if group in groups or view in views
    }
    return np.isin(examples.group.astype(str), sorted(seen))


def _links(rows: Examples, threshold: float | None) -> Indices:
    views = rows.views()
    parts = [_links_of_equal(rows.group.tolist()), _links_of_equal([*map(hashed, views)])]
    if threshold is not None:
        parts.append(near_duplicate_links(views, threshold))
    return np.concatenate(parts)


def _links_of_equal(keys: Sequence[str | int]) -> Indices:
    """Link each row to the first row that has the same key."""
    first: dict[str | int, int] = {}
    pairs = [(first.setdefault(key, row), row) for row, key in enumerate(keys)]
    links = [pair for pair in pairs if pair[0] != pair[1]]
    return np.array(links, dtype=np.intp).reshape(-1, 2)


def _split_numbers(rows: Examples) -> Indices:
    return np.array([SPLITS.index(split) for split in rows.split.tolist()], dtype=np.intp)


def _linked_to_two_splits(links: Indices, splits: Indices, fresh: int) -> Mask:
    """Return which fresh rows are linked to recorded rows of more than one split."""
    recorded = len(splits)
    touched = np.zeros((fresh, len(SPLITS)), dtype=np.bool_)
    low, high = links.min(axis=1), links.max(axis=1)
    between = (low < recorded) & (high >= recorded)
    touched[high[between] - recorded, splits[low[between]]] = True
    return np.asarray(touched.sum(axis=1) > 1)


def _in_several_splits(families: Indices, splits: Indices) -> Indices:
    """Return the families of recorded rows that are in more than one split."""
    pairs = np.unique(np.stack([families, splits], axis=1), axis=0)
    distinct, counts = np.unique(pairs[:, 0], return_counts=True)
    return np.asarray(distinct[counts > 1])


def _group_names(recorded: Examples, fresh: Examples, theirs: Indices, ours: Indices) -> Names:
    """Return for each fresh row its family's smallest recorded group, or else its smallest own.

    The smallest, as it does not depend on the order in which rows arrive.
    """
    names = _smallest(fresh, ours) | _smallest(recorded, theirs)
    return np.array([names[family] for family in ours.tolist()], dtype=object)


def _smallest(rows: Examples, families: Indices) -> dict[int, str]:
    smallest: dict[int, str] = {}
    for family, name in sorted(zip(families.tolist(), rows.group.tolist(), strict=True)):
        smallest.setdefault(family, name)
    return smallest


def _family_splits(recorded: Indices, fresh: Indices, theirs: Indices, ours: Indices) -> Names:
    """Return for each fresh row its family's recorded split, or else the first of its own."""
    of_family = np.full(1 + max([-1, *theirs.tolist(), *ours.tolist()]), len(SPLITS))
    np.minimum.at(of_family, ours, fresh)
    of_family[theirs] = recorded
    return np.array(SPLITS, dtype=object)[of_family[ours]]
