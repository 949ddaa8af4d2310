"""Which unlabelled queries to send to both tiers next, within a budget in dollars.

Two reasons take turns, each according to its share of the choices. An *uncovered* query comes from
the part of the traffic with the fewest labels for its size. A *random* one is drawn from all of the
traffic, so it also finds queries that coverage does not look for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["REASONS", "Choice", "Queries", "Reason", "choose_queries"]

Floats: TypeAlias = NDArray[np.float64]
Vectors: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[np.intp]
Strings: TypeAlias = NDArray[np.object_]
Reason = Literal["uncovered", "random"]

# Two more reasons were measured and removed: uncertainty sampling (Lewis & Gale 1994), and a
# classifier that separates recent from labelled queries (Lopez-Paz & Oquab 2017). Over 24 deals at
# equal cost neither raised AUROC on any of four sets; coverage did on one, by 0.005 to 0.007.
REASONS: tuple[Reason, ...] = ("uncovered", "random")
_ROWS_PER_CLUSTER, _MOST_CLUSTERS = 40, 50


@dataclass(frozen=True, eq=False)
class Queries:
    """The columns of n queries that the choice uses.

    Attributes
    ----------
    groups : ndarray of object, shape (n,)
        Near duplicates share a group.
    embeddings : ndarray of float32, shape (n, dimension)
        Unit vectors.
    domains : ndarray of object, shape (n,)
        Empty if the log has none.
    """

    groups: Strings
    embeddings: Vectors
    domains: Strings

    def __len__(self) -> int:
        return len(self.groups)


@dataclass(frozen=True, slots=True)
class Choice:
    """A query to label.

    Attributes
    ----------
    row : int
        Index among the unlabelled queries.
    reason : {"uncovered", "random"}
    why : str
        One sentence.
    cost : float
        In dollars.
    """

    row: int
    reason: Reason
    why: str
    cost: float


def choose_queries(
    unlabelled: Queries,
    costs: Floats,
    labelled: Queries,
    *,
    budget: float,
    shares: Mapping[Reason, float],
    seed: int,
) -> list[Choice]:
    """Choose what to label next, most urgent first.

    A query is skipped if its group already has a label or a choice, or if it costs more than the
    rest of the budget.

    Parameters
    ----------
    unlabelled : Queries, length n
    costs : ndarray of float64, shape (n,)
        Dollars for both answers to an unlabelled query, above 0.
    labelled : Queries
        May be empty.
    budget : float
        Dollars, above 0.
    shares : mapping of str to float
        Share of each reason, 0 or more; at least one is above 0. They need not add up to 1.
    seed : int

    Raises
    ------
    ValueError
        If the budget, a share or a cost is out of its range.
    """
    _check(costs, budget, shares)
    if not len(unlabelled):
        return []
    orders = {
        reason: _ORDERS[reason](unlabelled, labelled, np.random.default_rng([seed, place]))
        for place, reason in enumerate(REASONS)
        if shares.get(reason, 0) > 0
    }
    turns = dict.fromkeys(orders, 0)
    choices: list[Choice] = []
    taken, left = set(labelled.groups.tolist()), budget
    while orders:
        # The reason furthest behind its share is next.
        reason = min(orders, key=lambda name: (turns[name] + 1) / shares[name])
        turns[reason] += 1
        for row, why in orders[reason]:
            cost, group = float(costs[row]), unlabelled.groups[row]
            if group not in taken and cost <= left:
                choices.append(Choice(row, reason, why, cost))
                taken.add(group)
                left -= cost
                break
        else:
            del orders[reason]
    return choices


def _uncovered(
    unlabelled: Queries, labelled: Queries, random: np.random.Generator
) -> Iterator[tuple[int, str]]:
    """Yield one row at a time, from the cell with the most traffic per label."""
    names, cells, cells_of_labelled = _cells(unlabelled, labelled, random)
    traffic = np.bincount(cells, minlength=len(names)).astype(np.float64)
    labels = np.bincount(cells_of_labelled, minlength=len(names)).astype(np.float64)
    waiting = [
        random.permutation(np.flatnonzero(cells == cell)).tolist() for cell in range(len(names))
    ]
    while any(waiting):
        # Plus one label: otherwise all cells without a label would be equally urgent.
        urgency = np.where([bool(rows) for rows in waiting], traffic / (labels + 1), -1.0)
        cell = int(urgency.argmax())
        share = traffic[cell] / len(cells)
        yield (
            waiting[cell].pop(),
            f"{names[cell]}: {share:.1%} of the traffic, {labels[cell]:.0f} labels",
        )
        labels[cell] += 1


def _random(
    unlabelled: Queries, labelled: Queries, random: np.random.Generator
) -> Iterator[tuple[int, str]]:
    del labelled
    for row in random.permutation(len(unlabelled)).tolist():
        yield row, "by chance"


_ORDERS = {"uncovered": _uncovered, "random": _random}


def _cells(
    unlabelled: Queries, labelled: Queries, random: np.random.Generator
) -> tuple[list[str], Rows, Rows]:
    """Return names of parts of the traffic, and the part of each unlabelled and labelled query.

    The parts are domains if the log has at least two, else clusters of the unlabelled embeddings.
    """
    if len(np.unique(unlabelled.domains.astype(str))) > 1:
        both = np.concatenate([unlabelled.domains, labelled.domains]).astype(str)
        names, cells = np.unique(both, return_inverse=True)
        titles = [f"domain {name or '(none)'}" for name in names.tolist()]
        return titles, cells[: len(unlabelled)], cells[len(unlabelled) :]
    from sklearn.cluster import MiniBatchKMeans

    # With far fewer queries a cell would have one label or none, and coverage would be random.
    count = int(np.clip(len(unlabelled) // _ROWS_PER_CLUSTER, 1, _MOST_CLUSTERS))
    model = MiniBatchKMeans(count, random_state=int(random.integers(2**31)), n_init=1)
    cells = model.fit_predict(unlabelled.embeddings).astype(np.intp)
    # scikit-learn refuses to predict zero rows.
    known = model.predict(labelled.embeddings) if len(labelled) else np.empty(0)
    return [f"cluster {number}" for number in range(count)], cells, known.astype(np.intp)


def _check(costs: Floats, budget: float, shares: Mapping[Reason, float]) -> None:
    if not budget > 0:
        raise ValueError(f"the budget is {budget:g}; give dollars above 0")
    if min(shares.values(), default=0) < 0 or not sum(shares.values()) > 0:
        raise ValueError(f"shares are {dict(shares)}; none may be below 0, and one must be above 0")
    if not (costs > 0).all():
        raise ValueError(f"a label costs {costs[~(costs > 0)][0]:g}; give prices above 0")
