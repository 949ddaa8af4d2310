"""Groups and splits: which rows are kept together, and what each is used for."""

import hashlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FEWEST_ROWS_TO_CERTIFY",
    "SPLITS",
    "STRATUM_TOLERANCE",
    "SplitShares",
    "joined_groups",
    "splits_of",
    "temporal_splits",
]

SPLITS = ("train", "calibration", "certification", "test")
FEWEST_ROWS_TO_CERTIFY = 1000
# Wide enough that large logs, whose shares chance hardly moves, keep the splits of their hashes.
STRATUM_TOLERANCE = 0.05

SplitShares = dict[str, float]
Floats: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
Hashes: TypeAlias = NDArray[np.uint64]


def joined_groups(names: Hashes, views: Hashes, links: NDArray[np.intp] | None = None) -> Hashes:
    """Return one group for all rows that a group, a text view or a link joins, however indirectly.

    Parameters
    ----------
    names, views : ndarray of uint64, shape (n,)
        Hashes of each row's group and of its text view.
    links : ndarray of intp, shape (k, 2), optional
        Pairs of rows to be joined as well.

    Returns
    -------
    ndarray of uint64, shape (n,)
        The smallest of the joined groups' hashes.

    Examples
    --------
    >>> joined_groups(np.array([5, 5, 3, 9], np.uint64), np.array([0, 1, 1, 2], np.uint64)).tolist()
    [3, 3, 3, 9]
    """
    order = np.argsort(views, kind="stable")
    ordered = views[order]
    same = ordered[1:] == ordered[:-1]
    del ordered
    pairs = np.stack([order[:-1][same], order[1:][same]], axis=1)
    if links is not None:
        pairs = np.concatenate([pairs, links])
    return _joined(names, names[pairs].T)


def _joined(names: Hashes, links: Hashes) -> Hashes:
    """Return for each name the smallest of those that links, of shape (2, k), join to it."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not links.size:
        return names
    linked, ends = np.unique(links, return_inverse=True)
    ends = ends.reshape(links.shape)
    graph = coo_array((np.ones(links.shape[1]), (ends[0], ends[1])), shape=(len(linked),) * 2)
    count, component = connected_components(graph, directed=False)
    smallest = np.full(count, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, component, linked)
    place = np.minimum(np.searchsorted(linked, names), len(linked) - 1)
    return np.where(linked[place] == names, smallest[component[place]], names)


def splits_of(
    groups: Hashes, shares: SplitShares, seed: int, labels: Labels | None = None
) -> NDArray[np.object_]:
    """Return the split of every row by `split_of` its group, stratified by label.

    Splits follow from the groups' hashes, so that a log that grows keeps them. Where chance has
    dealt the groups of one label (most of their rows need the frontier model, do not, or have no
    label) further than `STRATUM_TOLERANCE` from their shares, as happens with fewer than about 500
    such groups, the nearest groups on the hash's scale change their split, as few as it takes.

    Parameters
    ----------
    groups : ndarray of uint64, shape (n,)
    shares : dict
        Share of each split but "train".
    seed : int
    labels : ndarray of float, shape (n,), optional
        NaN where there is none; without any, splits are not stratified.
    """
    distinct, group_of = _numbered(groups)
    positions = np.fromiter((_position(int(g), seed) for g in distinct), float, len(distinct))
    if labels is None:
        return np.asarray(_splits_at(positions, shares, tolerance=1.0)[group_of])
    strata = _majorities(group_of, labels)
    splits = np.empty(len(distinct), dtype=object)
    for stratum in np.unique(strata):
        inside = strata == stratum
        splits[inside] = _splits_at(positions[inside], shares, STRATUM_TOLERANCE)
    return np.asarray(splits[group_of])


def temporal_splits(
    groups: Hashes,
    times: Floats,
    shares: SplitShares,
    seed: int,
    labels: Labels | None = None,
) -> NDArray[np.object_]:
    """Return the test split for the groups with the newest rows, and hashed splits for the others.

    As the log grows, rows leave the test split; large groups, seldom without a new row, make it
    larger than its share in rows.

    Parameters
    ----------
    groups : ndarray of uint64, shape (n,)
    times : ndarray of float64, shape (n,)
        Seconds since 1970.
    shares : dict
        The test split's is a share of the groups.
    seed : int
    labels : ndarray of float, shape (n,), optional
        As in `splits_of`, for the other splits.
    """
    distinct, group_of = _numbered(groups)
    latest = np.full(len(distinct), -np.inf)
    np.maximum.at(latest, group_of, times)
    newest = np.zeros(len(distinct), dtype=bool)
    newest[np.lexsort((distinct, latest))[::-1][: int(shares["test"] * len(distinct))]] = True
    others = {r: share / (1 - shares["test"]) for r, share in shares.items() if r != "test"}
    splits = np.full(len(groups), "test", dtype=object)
    older = ~newest[group_of]
    splits[older] = splits_of(
        groups[older], others, seed, None if labels is None else labels[older]
    )
    return splits


def _numbered(groups: Hashes) -> tuple[Hashes, NDArray[np.int32]]:
    """Return the distinct groups and the place of each row's, at half of the memory of numpy."""
    order = np.argsort(groups)
    ordered = groups[order]
    first = np.ones(len(groups), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    distinct = ordered[first]
    del ordered
    numbers = np.cumsum(first, dtype=np.int32)
    group_of = np.empty(len(groups), np.int32)
    group_of[order] = numbers - 1
    return distinct, group_of


def _position(group: int, seed: int) -> float:
    """Return where a stable hash puts a group, in [0, 1); another seed puts it elsewhere."""
    digest = hashlib.blake2b(f"{seed}:{group:016x}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _splits_at(positions: Floats, shares: SplitShares, tolerance: float) -> NDArray[np.object_]:
    """Cut the scale of positions into splits, each cut at most `tolerance` from its share.

    The test split comes first on the scale, so that leaving out the others does not move it.
    """
    ordered, splits = np.sort(positions), np.full(len(positions), "train", dtype=object)
    start, share = 0.0, 0.0
    for split in reversed(SPLITS[1:]):
        share += shares.get(split, 0.0)
        below = np.searchsorted(ordered, share) / len(ordered)
        allowed = np.clip(below, share - tolerance, share + tolerance)
        cut = share if allowed == below else ordered[int(allowed * len(ordered))]
        splits[(positions >= start) & (positions < cut)] = split
        start = max(start, cut)
    return splits


def _majorities(group_of: NDArray[np.int32], labels: Labels) -> Floats:
    """Return for each group whether most of its labelled rows are positive; -1 without any."""
    known = ~np.isnan(labels)
    counts = np.bincount(group_of, known)
    sums = np.bincount(group_of, np.where(known, labels, 0.0))
    return np.where(counts == 0, -1.0, (2 * sums > counts).astype(float))
