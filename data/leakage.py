"""Fresh rows beside recorded ones: which share a group, and so a split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples
from querytier.data.near_duplicates import near_duplicate_links
from querytier.data.splits import SPLITS, joined_groups
from querytier.data.text_view import hashed

__all__ = ["Settled", "near_duplicate_groups", "settled"]

Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Settled:
    """Fresh rows with the groups and splits that the recorded ones leave them.

    Attributes
    ----------
    fresh : Examples
        Without those that are refused.
    joined, straddling : int
        Rows that joined a recorded group, and rows refused.
    """

    fresh: Examples
    joined: int
    straddling: int


def settled(recorded: Examples, fresh: Examples, threshold: float | None) -> Settled:
    """Give fresh rows the group and split of the recorded rows that they are kin to.

    Kin are rows of one group, of one text view, and near duplicates, however indirectly. A row that
    is kin to recorded rows of two splits by itself is refused first; where what is left still ties
    two splits together, all of it that is fresh is refused. So is a row that was planned where its
    kin do anything but train. Among fresh rows that are kin and come with several splits, the first
    of `SPLITS` wins: what trains must not test.

    Parameters
    ----------
    recorded, fresh : Examples
    threshold : float or None
        As `near_duplicate_links` takes it; None joins equal views only.
    """
    splits, count = _split_numbers(recorded), len(recorded)
    links = _links(Examples.concatenated([recorded, fresh]), threshold)
    astride = _touching_two(links, splits, len(fresh))
    kept = fresh.where(~astride)
    if astride.any():  # what they alone held together has to be found again without them
        links = _links(Examples.concatenated([recorded, kept]), threshold)
    families = _families(links, count + len(kept))
    theirs, ours = families[:count], families[count:]
    tied = np.isin(ours, _several(theirs, splits))
    kept, ours = kept.where(~tied), ours[~tied]
    names = _names(recorded, kept, theirs, ours)
    found = _splits(splits, _split_numbers(kept), theirs, ours)
    kept = replace(kept, group=names, split=np.array(SPLITS, dtype=object)[found])
    judges = kept.planned & (kept.split != "train")
    kept, known = kept.where(~judges), np.isin(ours, theirs)[~judges]
    return Settled(kept, int(known.sum()), len(fresh) - len(kept))


def _links(rows: Examples, threshold: float | None) -> Indices:
    views = rows.views()
    parts = [_same(rows.group.tolist()), _same([hashed(view) for view in views])]
    if threshold is not None:
        parts.append(near_duplicate_links(views, threshold))
    return np.concatenate(parts)


def _same(keys: Sequence[str | int]) -> Indices:
    """Link each row to the first one of the same key."""
    first: dict[str | int, int] = {}
    pairs = [(first.setdefault(key, row), row) for row, key in enumerate(keys)]
    links = [pair for pair in pairs if pair[0] != pair[1]]
    return np.array(links, dtype=np.intp).reshape(-1, 2)


def _split_numbers(rows: Examples) -> Indices:
    return np.array([SPLITS.index(split) for split in rows.split.tolist()], dtype=np.intp)


def _touching_two(links: Indices, splits: Indices, fresh: int) -> Mask:
    """Tell which fresh rows are linked to recorded rows of more than one split."""
    recorded = len(splits)
    touched = np.zeros((fresh, len(SPLITS)), dtype=np.bool_)
    low, high = links.min(axis=1), links.max(axis=1)
    between = (low < recorded) & (high >= recorded)
    touched[high[between] - recorded, splits[low[between]]] = True
    return np.asarray(touched.sum(axis=1) > 1)


def _families(links: Indices, count: int) -> Indices:
    """Return the component of the links that each of `count` rows is in."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.intp)


def _several(families: Indices, splits: Indices) -> Indices:
    """Return the families of recorded rows that hold more than one split."""
    pairs = np.unique(np.stack([families, splits], axis=1), axis=0)
    found, counts = np.unique(pairs[:, 0], return_counts=True)
    return np.asarray(found[counts > 1])


def _names(
    recorded: Examples, fresh: Examples, theirs: Indices, ours: Indices
) -> NDArray[np.object_]:
    """Return the smallest recorded group of each fresh row's family, else its smallest own."""
    smallest: dict[int, str] = {}
    for family, name in sorted(zip(ours.tolist(), fresh.group.tolist(), strict=True)):
        smallest.setdefault(family, name)
    known: dict[int, str] = {}
    for family, name in sorted(zip(theirs.tolist(), recorded.group.tolist(), strict=True)):
        known.setdefault(family, name)
    names = [known.get(family, smallest[family]) for family in ours.tolist()]
    return np.array(names, dtype=object)


def _splits(recorded: Indices, fresh: Indices, theirs: Indices, ours: Indices) -> Indices:
    """Return the split of each fresh row's family: the recorded one, else the first of its own."""
    of_family = np.full(1 + max([-1, *theirs.tolist(), *ours.tolist()]), len(SPLITS))
    np.minimum.at(of_family, ours, fresh)
    of_family[theirs] = recorded
    return np.asarray(of_family[ours], dtype=np.intp)


def near_duplicate_groups(
    views: Sequence[str], threshold: float | None, names: Sequence[str] | None = None
) -> NDArray[np.object_]:
    """Return one group for all rows that a name, equal views or near duplicates join.

    Parameters
    ----------
    views : sequence of str, length n
        Text views.
    threshold : float or None
        As for `near_duplicate_links`; None joins equal views only.
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
