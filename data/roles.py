"""Groups and roles: which rows are kept together, and what each is used for."""

import hashlib
from dataclasses import replace

import numpy as np

from querytier.data.examples import Example
from querytier.data.text_view import text_view

__all__ = ["FEWEST_ROWS_TO_CERTIFY", "ROLES", "RoleShares", "role_of", "with_roles"]

ROLES = ("train", "calibration", "certification", "test")
FEWEST_ROWS_TO_CERTIFY = 1000

RoleShares = dict[str, float]


def with_roles(examples: list[Example], shares: RoleShares, seed: int) -> list[Example]:
    """Give every example its final group and its role.

    Rows that share a group, or the same text view, end in one group. Below
    `FEWEST_ROWS_TO_CERTIFY` rows the calibration and certification roles fall to training: such
    logs are calibrated by cross-fitting, and cannot certify anything.

    Parameters
    ----------
    examples : list of Example
    shares : dict
        Share of the groups for "calibration", "certification" and "test"; the rest trains.
    seed : int
        Another seed deals other roles.

    Returns
    -------
    list of Example
        In the same order. No group is in two roles.
    """
    groups = _joined_groups(examples)
    few = len(examples) < FEWEST_ROWS_TO_CERTIFY
    shares = {"test": shares["test"]} if few else shares
    return [
        replace(example, group=group, role=role_of(group, shares, seed))
        for example, group in zip(examples, groups, strict=True)
    ]


def role_of(group: str, shares: RoleShares, seed: int) -> str:
    """Return the role of a group by a stable hash, so that growing data keeps its test rows.

    Parameters
    ----------
    group : str
    shares : dict
        Share of each role but "train", which takes the rest. The test role comes first on the
        hash's scale, so that leaving out the others does not move it.
    seed : int

    Examples
    --------
    >>> role_of("g1", {"test": 1.0}, seed=0), role_of("g1", {"test": 0.0}, seed=0)
    ('test', 'train')
    """
    digest = hashlib.blake2b(f"{seed}:{group}".encode("utf-8", "replace"), digest_size=8).digest()
    position = int.from_bytes(digest) / 2**64
    for role in reversed(ROLES):
        position -= shares.get(role, 0.0)
        if position < 0:
            return role
    return "train"


def _joined_groups(examples: list[Example]) -> list[str]:
    """Return for each example the smallest name among the groups that shared views join."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    views = [_hashed(text_view(example.query)) for example in examples]
    names = [example.group or view for example, view in zip(examples, views, strict=True)]
    distinct_names, name_index = np.unique(np.array(names, dtype=object), return_inverse=True)
    distinct_views, view_index = np.unique(np.array(views, dtype=object), return_inverse=True)
    size = len(distinct_names) + len(distinct_views)
    links = coo_array(
        (np.ones(len(examples)), (name_index, len(distinct_names) + view_index)), shape=(size, size)
    )
    _, component = connected_components(links, directed=False)
    smallest: dict[int, str] = {}
    for name, label in zip(distinct_names, component[: len(distinct_names)], strict=True):
        smallest.setdefault(int(label), str(name))
    return [smallest[int(component[index])] for index in name_index]


def _hashed(view: str) -> str:
    return hashlib.sha256(view.encode()).hexdigest()[:16]
