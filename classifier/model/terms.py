"""Terms: the tokens and pairs of tokens in a query, weighted by how rare they are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.onnx_nodes import Nodes

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["TermTable"]

_FEWEST_ROWS = 2
# A pair is one number, larger than any token id: sorting and searching need no tuples. Triples did
# not help (APGR on MMLU 0.684 against 0.685).
_PAIR = 1 << 32


@dataclass(frozen=True, eq=False)
class TermTable:
    """The vocabulary of terms, and their weights.

    The feature of a term that a query contains n times is (1 + ln n) * `weights`; all of a query's
    features are divided by their Euclidean norm (sublinear TF-IDF; Salton & Buckley 1988).

    Attributes
    ----------
    tokens : ndarray of int64, shape (m,)
        Token ids that are terms, ascending.
    pairs : ndarray of int64, shape (k, 2)
        Neighbouring token ids that are terms, ascending. Features of tokens come first.
    weights : ndarray of float32, shape (m + k,)
        Inverse document frequencies.
    """

    tokens: NDArray[np.int64]
    pairs: NDArray[np.int64]
    weights: NDArray[np.float32]

    @classmethod
    def fitted_to(cls, token_ids: Sequence[list[int]], limit: int = 20_000) -> Self:
        """Return the table of n > 0 queries, with the terms that at least two of them contain.

        Parameters
        ----------
        token_ids : sequence of list of int, length n
        limit : int
            Largest number of terms; the most frequent are kept.
        """
        rows = Counter(term for ids in token_ids for term in set(_terms(ids).tolist()))
        frequent = [(-count, term) for term, count in rows.items() if count >= _FEWEST_ROWS]
        terms = np.array(sorted(term for _, term in sorted(frequent)[:limit]), dtype=np.int64)
        counts = np.array([rows[term] for term in terms.tolist()], dtype=np.float64)
        weights = np.log((1 + len(token_ids)) / (1 + counts)) + 1
        pairs = terms[terms >= _PAIR]
        pairs = np.stack([pairs // _PAIR - 1, pairs % _PAIR], axis=1)
        return cls(terms[terms < _PAIR], pairs, weights.astype(np.float32))

    def features(self, token_ids: Sequence[list[int]]) -> "csr_matrix":
        """Return the features of n queries, sparse float32 of shape (n, m + k)."""
        from scipy.sparse import csr_matrix

        known = np.concatenate([self.tokens, (self.pairs[:, 0] + 1) * _PAIR + self.pairs[:, 1]])
        columns, values, ends = [], [], [0]
        for ids in token_ids:
            terms, counts = np.unique(_terms(ids), return_counts=True)
            places = np.searchsorted(known, terms)
            held = known[np.minimum(places, len(known) - 1)] == terms if len(known) else terms < 0
            places = places[held]
            weighted = (1 + np.log(counts[held])) * self.weights[places]
            columns.append(places)
            values.append(weighted / max(float(np.linalg.norm(weighted)), 1e-12))
            ends.append(ends[-1] + len(places))
        parts = (np.concatenate(values or [[]]), np.concatenate(columns or [[]]), ends)
        shape = (len(token_ids), len(self.weights))
        return csr_matrix((parts[0].astype(np.float32), parts[1], parts[2]), shape=shape)

    def add_to(self, nodes: Nodes, token_ids: str) -> str:
        """Add the features to a graph; return their name."""
        # No mode of the operator computes the logarithm of a count, so it only counts here.
        pool = np.concatenate([self.tokens, self.pairs.ravel()])
        counts = nodes.add(
            "TfIdfVectorizer",
            [token_ids],
            mode="TF",
            min_gram_length=1,
            max_gram_length=2,
            max_skip_count=0,
            ngram_counts=[0, len(self.tokens)],
            ngram_indexes=list(range(len(self.weights))),
            pool_int64s=pool.tolist(),
        )
        one = nodes.constant(1.0)
        at_least_one = nodes.add("Max", [counts, one])
        grown = nodes.add(
            "Add", [nodes.add("Log", [at_least_one]), nodes.add("Min", [counts, one])]
        )
        weighted = nodes.add("Mul", [grown, nodes.constant(self.weights)])
        norm = nodes.add("ReduceL2", [weighted, nodes.constant(np.array([1]))], keepdims=1)
        return nodes.add("Div", [weighted, nodes.add("Max", [norm, nodes.constant(1e-12)])])


def _terms(token_ids: Sequence[int]) -> NDArray[np.int64]:
    """Return tokens, then pairs of neighbouring tokens, as numbers."""
    ids = np.asarray(token_ids, dtype=np.int64)
    return np.concatenate([ids, (ids[:-1] + 1) * _PAIR + ids[1:]])
