"""Which unlabelled queries to send to both tiers next, for a budget in dollars.

Four reasons, each with its share of the choices: a query near the threshold, whose label moves the
decision (uncertainty sampling, Lewis & Gale 1994); one of a cell of traffic with few labels; one of
a region that recent traffic has and the labelled queries have not (a classifier tells the two
apart, Lopez-Paz & Oquab 2017); and chance, which alone finds what the other three do not look for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["REASONS", "Candidates", "Choice", "Covered", "Reason", "choose_queries"]

Floats: TypeAlias = NDArray[np.float64]
Vectors: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[np.intp]
Strings: TypeAlias = NDArray[np.object_]
Reason = Literal["uncertain", "uncovered", "drifted", "random"]

REASONS: tuple[Reason, ...] = ("uncertain", "uncovered", "drifted", "random")
_ROWS_A_CLUSTER, _MOST_CLUSTERS = 40, 50
_FEWEST_TO_COMPARE = 50
_FOLDS = 5
# Of a classifier that tells recent from labelled queries; by chance it has 0.5.
_FAINTEST_DRIFT = 0.6
_REGULARISATION = 0.1


@dataclass(frozen=True, eq=False)
class Candidates:
    """Unlabelled queries, n of them.

    Attributes
    ----------
    groups : ndarray of object, shape (n,)
        Near copies share one; of a group one query is chosen.
    embeddings : ndarray of float32, shape (n, dimension)
        Of length 1.
    decision_scores : ndarray of float64, shape (n,)
    costs : ndarray of float64, shape (n,)
        Dollars that both answers cost, above 0.
    domains : ndarray of object, shape (n,)
        Empty where the log does not tell.
    """

    groups: Strings
    embeddings: Vectors
    decision_scores: Floats
    costs: Floats
    domains: Strings

    def __len__(self) -> int:
        return len(self.costs)


@dataclass(frozen=True, eq=False)
class Covered:
    """Queries that have a label already, m of them; columns as in `Candidates`."""

    groups: Strings
    embeddings: Vectors
    domains: Strings


@dataclass(frozen=True, slots=True)
class Choice:
    """A query to label.

    Attributes
    ----------
    row : int
        Among the candidates.
    reason : {"uncertain", "uncovered", "drifted", "random"}
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
    candidates: Candidates,
    covered: Covered,
    *,
    threshold: float,
    budget: float,
    shares: Mapping[Reason, float],
    seed: int,
) -> list[Choice]:
    """Choose what to label next, in the order in which it should be done.

    The reasons take turns by their shares. A query whose group has one that is chosen or labelled
    is passed over, and so is one that the rest of the budget does not pay.

    Parameters
    ----------
    candidates : Candidates
    covered : Covered
        None of them where nothing is known of the labels so far.
    threshold : float
        Of the decision score.
    budget : float
        In dollars, above 0.
    shares : mapping of str to float
        Of the reasons; not below 0, and not all 0. Where there is no drift, its share goes to the
        others.
    seed : int

    Raises
    ------
    ValueError
        If the budget, a share or a cost is out of its range.
    """
    _check(candidates, budget, shares)
    if not len(candidates):
        return []
    lists = {
        reason: _LISTS[reason](candidates, covered, threshold, np.random.default_rng([seed, place]))
        for place, reason in enumerate(REASONS)
        if shares.get(reason, 0) > 0
    }
    picked = _Picked(candidates, covered, budget)
    given = dict.fromkeys(lists, 0.0)
    while lists:
        # The reason that is furthest behind its share is next.
        reason = min(lists, key=lambda name: (given[name] + 1) / shares[name])
        given[reason] += 1
        if not picked.take_first(lists[reason], reason):
            del lists[reason]
    return picked.choices


@dataclass(eq=False)
class _Picked:
    candidates: Candidates
    covered: Covered
    left: float
    choices: list[Choice] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._taken = set(self.covered.groups.tolist())

    def take_first(self, ordered: Iterator[tuple[int, str]], reason: Reason) -> bool:
        """Take the first query of a list that is new and paid for; tell whether there is one."""
        for row, why in ordered:
            cost, group = float(self.candidates.costs[row]), self.candidates.groups[row]
            if group in self._taken or cost > self.left:
                continue
            self.choices.append(Choice(row, reason, why, cost))
            self.left -= cost
            self._taken.add(group)
            return True
        return False


def _uncertain(
    candidates: Candidates, covered: Covered, threshold: float, random: np.random.Generator
) -> Iterator[tuple[int, str]]:
    """Yield rows by how many queries score between them and the threshold."""
    del covered
    scores = candidates.decision_scores
    ordered = np.sort(scores)
    places = (np.searchsorted(ordered, scores) + np.searchsorted(ordered, scores, "right")) / 2
    distance = np.abs(places - np.searchsorted(ordered, threshold)) / max(1, len(scores))
    for row in np.lexsort((random.random(len(scores)), distance)).tolist():
        why = f"decision score {scores[row]:.3f}, threshold {threshold:.3f}"
        yield row, f"{why}: {distance[row]:.0%} of the traffic lies between"


def _uncovered(
    candidates: Candidates, covered: Covered, threshold: float, random: np.random.Generator
) -> Iterator[tuple[int, str]]:
    """Yield rows of the cell that has the most traffic for each of its labels, one by one."""
    del threshold
    names, cells, labelled = _cells(candidates, covered, random)
    traffic = np.bincount(cells, minlength=len(names)).astype(np.float64)
    labels = np.bincount(labelled, minlength=len(names)).astype(np.float64)
    waiting = [
        random.permutation(np.flatnonzero(cells == cell)).tolist() for cell in range(len(names))
    ]
    while any(waiting):
        lack = np.where([bool(rows) for rows in waiting], traffic / (labels + 1), -1.0)
        cell = int(lack.argmax())
        why = (
            f"{names[cell]}: {traffic[cell] / len(cells):.1%} of the traffic, "
            f"{labels[cell]:.0f} labels"
        )
        yield waiting[cell].pop(), why
        labels[cell] += 1


def _drifted(
    candidates: Candidates, covered: Covered, threshold: float, random: np.random.Generator
) -> Iterator[tuple[int, str]]:
    """Yield rows that a classifier tells from the labelled queries; none where it cannot."""
    del threshold
    from sklearn.metrics import roc_auc_score

    if min(len(candidates), len(covered.groups)) < _FEWEST_TO_COMPARE:
        return
    vectors = np.concatenate([covered.embeddings, candidates.embeddings])
    recent = np.repeat([0, 1], [len(covered.groups), len(candidates)])
    p_recent = _out_of_fold(vectors, recent, random)
    if roc_auc_score(recent, p_recent) < _FAINTEST_DRIFT:
        return
    of_candidates = p_recent[len(covered.groups) :]
    for row in np.argsort(-of_candidates, kind="stable").tolist():
        odds = of_candidates[row] / (1 - of_candidates[row])
        if odds <= 1:
            return
        yield row, f"{odds:.1f} times as frequent as among the labelled queries"


def _random(
    candidates: Candidates, covered: Covered, threshold: float, random: np.random.Generator
) -> Iterator[tuple[int, str]]:
    del covered, threshold
    for row in random.permutation(len(candidates)).tolist():
        yield row, "by chance"


_LISTS = {
    "uncertain": _uncertain,
    "uncovered": _uncovered,
    "drifted": _drifted,
    "random": _random,
}


def _cells(
    candidates: Candidates, covered: Covered, random: np.random.Generator
) -> tuple[list[str], Rows, Rows]:
    """Return cells of the traffic: names, and that of each candidate and of each labelled query.

    Domains, where the log tells several; else clusters of the candidates' embeddings.
    """
    known = np.unique(candidates.domains.astype(str))
    if len(known) > 1:
        both = np.concatenate([candidates.domains, covered.domains]).astype(str)
        names, cells = np.unique(both, return_inverse=True)
        titles = [f"domain {name or '(none)'}" for name in names.tolist()]
        return titles, cells[: len(candidates)], cells[len(candidates) :]
    return _clusters(candidates, covered, random)


def _clusters(
    candidates: Candidates, covered: Covered, random: np.random.Generator
) -> tuple[list[str], Rows, Rows]:
    from sklearn.cluster import MiniBatchKMeans

    count = int(np.clip(len(candidates) // _ROWS_A_CLUSTER, 1, _MOST_CLUSTERS))
    model = MiniBatchKMeans(count, random_state=int(random.integers(2**31)), n_init=1)
    cells = model.fit_predict(candidates.embeddings)
    labelled = np.empty(0, dtype=np.intp)
    if len(covered.groups):
        labelled = model.predict(covered.embeddings)
    titles = [f"cluster {number}" for number in range(count)]
    return titles, cells.astype(np.intp), labelled.astype(np.intp)


def _out_of_fold(
    vectors: Vectors, recent: NDArray[np.int64], random: np.random.Generator
) -> Floats:
    """Return the probability, at equal numbers of both, that a query is a recent one."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    model = LogisticRegression(C=_REGULARISATION, class_weight="balanced", max_iter=1000)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=int(random.integers(2**31)))
    found = cross_val_predict(model, vectors, recent, cv=folds, method="predict_proba")
    return np.asarray(np.clip(found[:, 1], 1e-6, 1 - 1e-6), dtype=np.float64)


def _check(candidates: Candidates, budget: float, shares: Mapping[Reason, float]) -> None:
    if not budget > 0:
        raise ValueError(f"the budget is {budget:g}; give dollars above 0")
    if min(shares.values(), default=0) < 0 or not sum(shares.values()) > 0:
        raise ValueError(f"shares are {dict(shares)}; none may be below 0, and one above it")
    wrong = candidates.costs[~(candidates.costs > 0)]
    if len(wrong):
        raise ValueError(f"a label costs {wrong[0]:g}; give prices above 0")
