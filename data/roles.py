"""Groups and roles: which rows are kept together, and what each is used for."""

import hashlib
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FEWEST_ROWS_TO_CERTIFY",
    "ROLES",
    "RoleShares",
    "joined_groups",
    "role_of",
    "roles_of",
    "temporal_roles",
]

ROLES = ("train", "calibration", "certification", "test")
FEWEST_ROWS_TO_CERTIFY = 1000

RoleShares = dict[str, float]
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
    same = views[order[1:]] == views[order[:-1]]
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


def roles_of(groups: Hashes, shares: RoleShares, seed: int) -> NDArray[np.object_]:
    """Return the role of every row by `role_of` its group."""
    distinct, group_of = np.unique(groups, return_inverse=True)
    roles = np.array([role_of(int(group), shares, seed) for group in distinct], dtype=object)
    return np.asarray(roles[group_of])


def temporal_roles(
    groups: Hashes, times: NDArray[np.float64], shares: RoleShares, seed: int
) -> NDArray[np.object_]:
    """Return the test role for the groups with the newest rows, and hashed roles for the others.

    As the log grows, rows leave the test role; large groups, seldom without a new row, make it
    larger than its share in rows.

    Parameters
    ----------
    groups : ndarray of uint64, shape (n,)
    times : ndarray of float64, shape (n,)
        Seconds since 1970.
    shares : dict
        The test role's is a share of the groups.
    seed : int
    """
    distinct, group_of = np.unique(groups, return_inverse=True)
    latest = np.full(len(distinct), -np.inf)
    np.maximum.at(latest, group_of, times)
    newest = np.zeros(len(distinct), dtype=bool)
    newest[np.lexsort((distinct, latest))[::-1][: int(shares["test"] * len(distinct))]] = True
    others = {r: share / (1 - shares["test"]) for r, share in shares.items() if r != "test"}
    return np.where(newest[group_of], "test", roles_of(groups, others, seed))


def role_of(group: int, shares: RoleShares, seed: int) -> str:
    """Return the role of a group by a stable hash, so that growing data keeps its test rows.

    Parameters
    ----------
    group : int
        Hash of the group.
    shares : dict
        Share of each role but "train", which takes the rest. The test role comes first on the
        hash's scale, so that leaving out the others does not move it.
    seed : int
        Another seed deals other roles.

    Examples
    --------
    >>> role_of(1, {"test": 1.0}, seed=0), role_of(1, {"test": 0.0}, seed=0)
    ('test', 'train')
    """
    digest = hashlib.blake2b(f"{seed}:{group:016x}".encode(), digest_size=8).digest()
    position = int.from_bytes(digest) / 2**64
    for role in reversed(ROLES):
        position -= shares.get(role, 0.0)
        if position < 0:
            return role
    return "train"
