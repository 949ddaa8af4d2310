"""Baselines that learn: simple models that a classifier has to beat."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.head import Blocks
from querytier.data.arrays import Floats
from querytier.data.examples import Examples
from querytier.training.linear_models import logistic_regression, soft_rows

__all__ = ["LEARNED_BASELINES", "LabelledFeatures", "Learner", "tfidf_lr"]


_NEIGHBOURS = 25
# The mean of all domains counts as much as this number of rows of the domain.
_PRIOR_ROWS = 10.0
_WORD_OR_MARK = r"\w+|[^\w\s]"


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """Examples with blocks of features.

    Attributes
    ----------
    examples : Examples, length n
    blocks : mapping of str to ndarray or sparse matrix of float32, shape (n, dimension)
        Blocks by name. The first one holds the sentence embeddings, in which `knn` looks for
        neighbours.
    """

    examples: Examples
    blocks: Blocks

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """The sentence embeddings, shape (n, dimension)."""
        first: NDArray[np.float32] = next(iter(self.blocks.values()))
        return first

    def where(self, mask: NDArray[np.bool_]) -> "LabelledFeatures":
        """Return the rows for which `mask`, of shape (n,), is True."""
        blocks = {name: block[mask] for name, block in self.blocks.items()}
        return LabelledFeatures(self.examples.where(mask), blocks)


Learner = Callable[[LabelledFeatures, LabelledFeatures], Floats]


def tfidf_lr(train: LabelledFeatures, held_out: LabelledFeatures) -> Floats:
    """Return P(needs_frontier) by TF-IDF of words and word pairs, and logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(token_pattern=_WORD_OR_MARK, ngram_range=(1, 2), sublinear_tf=True)
    features = vectoriser.fit_transform(train.examples.query)
    labels = soft_rows(train.examples.needs_frontier, train.examples.weight)
    model = logistic_regression(features, labels)
    return np.asarray(model.predict_proba(vectoriser.transform(held_out.examples.query))[:, 1])


def knn(train: LabelledFeatures, held_out: LabelledFeatures) -> Floats:
    """Return the mean label of the 25 nearest training queries, by cosine of their embeddings."""
    from sklearn.neighbors import KNeighborsRegressor

    model = KNeighborsRegressor(min(_NEIGHBOURS, len(train.examples)), metric="cosine")
    model.fit(train.embeddings, train.examples.needs_frontier)
    return np.asarray(model.predict(held_out.embeddings), dtype=np.float64)


def domain_prior(train: LabelledFeatures, held_out: LabelledFeatures) -> Floats:
    """Return the mean label of the query's domain, shrunk towards the mean of all domains."""
    labels, domains = train.examples.needs_frontier, train.examples.domain
    overall = float(labels.mean())
    rates = {
        domain: (labels[domains == domain].sum() + _PRIOR_ROWS * overall)
        / ((domains == domain).sum() + _PRIOR_ROWS)
        for domain in set(domains)
    }
    return np.array([rates.get(domain, overall) for domain in held_out.examples.domain])


LEARNED_BASELINES: dict[str, Learner] = {
    "tfidf_lr": tfidf_lr,
    "knn": knn,
    "domain_prior": domain_prior,
}
