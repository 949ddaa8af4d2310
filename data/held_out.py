"""Held-out rows: their name, by which uses are counted, and which of them a classifier has met."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from querytier.data.examples import Examples

__all__ = ["met_before", "rows_name"]


def rows_name(examples: Examples) -> str:
    """Return the name of a set of rows: the sha256 of their sorted groups, 16 digits of it.

    A log that grows gives its test split new groups, and with them a new name.

    Parameters
    ----------
    examples : Examples
    """
    groups = np.unique(examples.group.astype(str)).tolist()
    return hashlib.sha256("\n".join(groups).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def met_before(examples: Examples, learned: Examples) -> NDArray[np.bool_]:
    """Tell which rows share a group or a text view with rows that a classifier learned from.

    A row takes the others of its group with it: they are near copies. Groups alone would not do, as
    those of a log that grew may be joined, and then have another name.

    Parameters
    ----------
    examples : Examples, length n
    learned : Examples

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    groups, views = set(learned.group.tolist()), set(_views(learned))
    met = {
        group
        for group, view in zip(examples.group.tolist(), _views(examples), strict=True)
        if group in groups or view in views
    }
    return np.isin(examples.group.astype(str), sorted(met))


def _views(examples: Examples) -> list[str]:
    return examples.views()
