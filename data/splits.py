"""Groups and splits: which rows stay together, and which are for training or evaluation.

A row's split follows from a stable hash of its group. As a log grows, every group keeps its split,
so no classifier was ever trained on rows that its successor is tested on.
"""

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
# Shares of a split by label may differ this much from the requested ones. Chance hardly ever moves
# the shares of a large log this far, so a large log keeps the splits of its hashes.
STRATUM_TOLERANCE = 0.05

SplitShares = dict[str, float]
Floats: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
Hashes: TypeAlias = NDArray[np.uint64]


def joined_groups(names: Hashes, views: Hashes, links: NDArray[np.intp] | None = None) -> Hashes:
    """Return one group for all rows that are connected by a group, a text view or a link.

    Parameters
    ----------
    names, views : ndarray of uint64, shape (n,)
        Hashes of each row's group and of its text view.
    links : ndarray of intp, shape (k, 2), optional
        Pairs of rows that share a group as well.

    Returns
    -------
    ndarray of uint64, shape (n,)
        The smallest hash of the groups that are joined.

    Examples
    --------
    >>> joined_groups(np.array([5, 5, 3, 9], np.uint64), np.array([0, 1, 1, 2], np.uint64)).tolist()
    [3, 3, 3, 9]
    """
    # Rows with equal views are neighbours once sorted: a link from each to the next joins them all,
    # at a fraction of the memory of a dictionary.
    order = np.argsort(views, kind="stable")
    ordered = views[order]
    same = ordered[1:] == ordered[:-1]
    del ordered
    pairs = np.stack([order[:-1][same], order[1:][same]], axis=1)
    if links is not None:
        pairs = np.concatenate([pairs, links])
    return _joined(names, names[pairs].T)


def _joined(names: Hashes, links: Hashes) -> Hashes:
    """Return for each name the smallest name that links, of shape (2, k), connect it to."""
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
    """Return the split of every row, by the hash of its group, stratified by label.

    The strata are groups in which most labelled rows need the frontier model, groups in which most
    do not, and groups without a label. With fewer than about 500 groups in a stratum, chance can
    move its share of a split further than `STRATUM_TOLERANCE` from the requested one; then the
    fewest groups possible change their split, those nearest on the hash's scale.

    Parameters
    ----------
    groups : ndarray of uint64, shape (n,)
    shares : dict
        Share of each split but "train".
    seed : int
    labels : ndarray of float, shape (n,), optional
        NaN for rows without a label. None does not stratify.
    """
    distinct, group_of = _numbered(groups)
    positions = np.fromiter((_position(int(g), seed) for g in distinct), float, len(distinct))
    if labels is None:
        return np.asarray(_splits_at(positions, shares, tolerance=1.0)[group_of])
    # Exact stratification would move the borders with every new row, and rows from train to test.
    # So the hash decides, and only borders outside the tolerance move.
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
    """Return the test split for the groups with the newest rows, and splits by hash for the others.

    As the log grows, rows leave the test split. Large groups get new rows often, so the share of
    rows in the test split is larger than its share of groups.

    Parameters
    ----------
    groups : ndarray of uint64, shape (n,)
    times : ndarray of float64, shape (n,)
        Seconds since 1970.
    shares : dict
        Share of each split but "train"; that of the test split is a share of the groups.
    seed : int
    labels : ndarray of float, shape (n,), optional
        As in `splits_of`, for the other splits.
    """
    distinct, group_of = _numbered(groups)
    latest = np.full(len(distinct), -np.inf)
    np.maximum.at(latest, group_of, times)
    newest = np.zeros(len(distinct), dtype=bool)
    # Ties are broken by the hash, so that equal times give the same split every time.
    newest[np.lexsort((distinct, latest))[::-1][: int(shares["test"] * len(distinct))]] = True
    # Shares of the rest, so that each is the requested share of the whole.
    others = {r: share / (1 - shares["test"]) for r, share in shares.items() if r != "test"}
    splits = np.full(len(groups), "test", dtype=object)
    older = ~newest[group_of]
    splits[older] = splits_of(
        groups[older], others, seed, None if labels is None else labels[older]
    )
    return splits


def _numbered(groups: Hashes) -> tuple[Hashes, NDArray[np.int32]]:
    """Return the distinct groups and the number of each row's group.

    It is `np.unique(groups, return_inverse=True)` in half the memory, for long logs.
    """
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
    """Return the position of a group on a scale from 0 to 1, by a hash of seed and group."""
    # Not Python's hash(), which differs between processes.
    digest = hashlib.blake2b(f"{seed}:{group:016x}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _splits_at(positions: Floats, shares: SplitShares, tolerance: float) -> NDArray[np.object_]:
    """Cut the scale of positions into splits, each cut at most `tolerance` from its share.

    The test split comes first on the scale. So it keeps its rows if a log is too small for
    calibration and certification splits at first, and gets them later.
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
    """Return 1 for groups with mostly positive labels, 0 for others, -1 for those without any."""
    known = ~np.isnan(labels)
    counts = np.bincount(group_of, known)
    sums = np.bincount(group_of, np.where(known, labels, 0.0))
    return np.where(counts == 0, -1.0, (2 * sums > counts).astype(float))
