"""Baselines that learn: what a classifier has to beat before its encoder earns its keep."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.head import Blocks
from querytier.data.examples import Examples
from querytier.errors import TrainingError
from querytier.training.linear_models import soft_rows

__all__ = [
    "LEARNED_BASELINES",
    "Labelled",
    "Learner",
    "cross_fitted",
    "group_folds",
    "ranks_within",
]

Floats = NDArray[np.float64]

_NEIGHBOURS = 25
_PRIOR_ROWS = 10.0
_WORD_OR_MARK = r"\w+|[^\w\s]"


@dataclass(frozen=True, eq=False)
class Labelled:
    """Examples with blocks of features.

    Attributes
    ----------
    examples : Examples, length n
    blocks : mapping of str to ndarray or sparse matrix of float32, shape (n, dimension)
        By name; the sentence embeddings that neighbours are found by come first.
    """

    examples: Examples
    blocks: Blocks

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """The sentence embeddings, shape (n, dimension)."""
        first: NDArray[np.float32] = next(iter(self.blocks.values()))
        return first

    def where(self, mask: NDArray[np.bool_]) -> "Labelled":
        """Return the rows for which `mask`, of shape (n,), holds."""
        blocks = {name: block[mask] for name, block in self.blocks.items()}
        return Labelled(self.examples.where(mask), blocks)


Learner = Callable[[Labelled, Labelled], Floats]


def tfidf_lr(train: Labelled, asked: Labelled) -> Floats:
    """Return P(needs_frontier) by TF-IDF of words and word pairs, and logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectoriser = TfidfVectorizer(token_pattern=_WORD_OR_MARK, ngram_range=(1, 2), sublinear_tf=True)
    hard = soft_rows(train.examples.needs_frontier, train.examples.weight)
    features = vectoriser.fit_transform(train.examples.query)
    model = LogisticRegression(max_iter=2000)
    model.fit(features[hard.rows], hard.outcomes, sample_weight=hard.parts)
    return np.asarray(model.predict_proba(vectoriser.transform(asked.examples.query))[:, 1])


def knn(train: Labelled, asked: Labelled) -> Floats:
    """Return the mean label of the 25 nearest training queries, by cosine of their embeddings."""
    from sklearn.neighbors import KNeighborsRegressor

    model = KNeighborsRegressor(min(_NEIGHBOURS, len(train.examples)), metric="cosine")
    model.fit(train.embeddings, train.examples.needs_frontier)
    return np.asarray(model.predict(asked.embeddings), dtype=np.float64)


def domain_prior(train: Labelled, asked: Labelled) -> Floats:
    """Return the mean label of the query's domain, drawn to the overall mean by ten rows of it."""
    labels, domains = train.examples.needs_frontier, train.examples.domain
    overall = float(labels.mean())
    rates = {
        domain: (labels[domains == domain].sum() + _PRIOR_ROWS * overall)
        / ((domains == domain).sum() + _PRIOR_ROWS)
        for domain in set(domains)
    }
    return np.array([rates.get(domain, overall) for domain in asked.examples.domain])


LEARNED_BASELINES: dict[str, Learner] = {
    "tfidf_lr": tfidf_lr,
    "knn": knn,
    "domain_prior": domain_prior,
}


def cross_fitted(
    learner: Learner, labelled: Labelled, masks: Sequence[NDArray[np.bool_]]
) -> Floats:
    """Return out-of-fold scores: each row scored by a learner that never saw its group.

    Parameters
    ----------
    learner : callable
        Takes training and asked rows, returns scores of the asked ones.
    labelled : Labelled, length n
    masks : sequence of ndarray of bool, shape (n,)
        The held-out rows of each fold, from `group_folds`.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    scores = np.full(len(labelled.examples), np.nan)
    for held_out in masks:
        scores[held_out] = learner(labelled.where(~held_out), labelled.where(held_out))
    return scores


def ranks_within(masks: Sequence[NDArray[np.bool_]], scores: Floats) -> Floats:
    """Return the rank of each score within its fold, as a share of the fold's rows.

    Learners of different folds need not agree on a scale, and a fold's own mean is low where that
    of the others is high: pooled as they are, scores that say nothing would rank below chance.

    Parameters
    ----------
    masks : sequence of ndarray of bool, shape (n,)
        The held-out rows of each fold.
    scores : ndarray of float64, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n,)
        In (0, 1]; equal scores of a fold share their mean rank.

    Examples
    --------
    >>> masks = [np.array([True, True, False, False]), np.array([False, False, True, True])]
    >>> ranks_within(masks, np.array([0.1, 0.2, 7.0, 5.0])).tolist()
    [0.5, 1.0, 1.0, 0.5]
    """
    from scipy.stats import rankdata

    ranks = np.full(len(scores), np.nan)
    for held_out in masks:
        ranks[held_out] = rankdata(scores[held_out]) / held_out.sum()
    return ranks


def group_folds(examples: Examples, folds: int, seed: int) -> list[NDArray[np.bool_]]:
    """Return masks of held-out rows: groups stay whole, classes are spread evenly.

    Raises
    ------
    TrainingError
        If there are fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.unique(examples.group.astype(str), return_inverse=True)[1]
    if groups.max() + 1 < folds:
        raise TrainingError(
            f"{groups.max() + 1} groups do not make {folds} folds: groups stay whole; map a finer "
            "group, or lower train.folds"
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    masks = []
    for _, rows in splitter.split(groups, examples.needs_frontier > 0.5, groups):
        mask = np.zeros(len(groups), dtype=bool)
        mask[rows] = True
        masks.append(mask)
    return masks
