"""How typical a query is of the traffic that a classifier was trained on.

The squared Mahalanobis distance of its embedding to those of training queries (Lee et al. 2018),
with a shrunken covariance (Ledoit & Wolf 2004), becomes a conformal p-value (Bates et al. 2023) by
comparison with other queries of the same traffic: at most a share p of typical queries has a
typicality of p or less.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from querytier.classifier.model.nets import Linear
from querytier.classifier.model.onnx_nodes import Nodes
from querytier.data.arrays import Floats, Vectors

__all__ = ["FEWEST_TYPICAL", "Typicality"]


# With fewer, no query has a typicality of 1%, however far away it is.
FEWEST_TYPICAL = 99
# Enough for p-values in steps of 0.0005; every decision compares its distance with all of them.
_MOST_DISTANCES = 2000


@dataclass(frozen=True, eq=False)
class Typicality:
    """A fitted measure of typicality.

    Attributes
    ----------
    whitening : Linear
        Maps embeddings to vectors whose squared length is the distance.
    distances : ndarray of float64, shape (m,)
        Distances of typical queries, in ascending order.
    """

    whitening: Linear
    distances: Floats

    @classmethod
    def fitted_to(cls, training: Vectors, typical: Vectors) -> Self:
        """Fit to embeddings of one encoder.

        Parameters
        ----------
        training : ndarray of float32, shape (n, d)
            Embeddings whose mean and covariance define the distance.
        typical : ndarray of float32, shape (m, d)
            Embeddings of other queries of the same traffic; training queries are closer to their
            own mean than new ones. If there are more than 2,000 distances, evenly spaced ones are
            kept.
        """
        # The only one of seven detectors on MiniLM embeddings (nearest neighbours, centroids,
        # residuals of components) that works on every kind of other traffic: AUROC 0.93 to 0.99.
        from sklearn.covariance import LedoitWolf

        covariance = LedoitWolf().fit(training.astype(np.float64))
        values, vectors = np.linalg.eigh(covariance.covariance_)
        # Embeddings may leave dimensions unused; the floor keeps those from dominating the
        # distance.
        floor = max(float(values[-1]) * 1e-6, np.finfo(np.float64).tiny)
        weights = (vectors / np.sqrt(np.maximum(values, floor))).T
        whitening = Linear(weights, -weights @ covariance.location_)
        distances = np.sort(_squared_length(whitening.outputs(typical)))
        places = np.linspace(0, len(distances) - 1, min(len(distances), _MOST_DISTANCES))
        return cls(whitening, distances[np.round(places).astype(np.intp)])

    def of(self, embeddings: Vectors) -> Floats:
        """Return the typicality, in (0, 1], of embeddings of shape (n, d); shape (n,).

        Examples
        --------
        >>> one = Typicality(Linear(np.eye(1), np.zeros(1)), np.array([1.0, 4.0, 9.0]))
        >>> one.of(np.array([[0.5], [2.5], [7.0]], np.float32)).tolist()
        [1.0, 0.5, 0.25]
        """
        found = _squared_length(self.whitening.outputs(embeddings))
        beyond = len(self.distances) - np.searchsorted(self.distances, found, side="left")
        return np.asarray((1 + beyond) / (1 + len(self.distances)))

    def add_to(self, nodes: Nodes, embedding: str) -> str:
        """Add the computation to a graph; return the name of the typicality, of shape (batch,)."""
        whitened = self.whitening.add_to(nodes, embedding)
        last = nodes.constant(np.array([1]))
        found = nodes.add("ReduceSumSquare", [whitened, last], keepdims=1)
        beyond = nodes.add("GreaterOrEqual", [nodes.constant(self.distances[np.newaxis]), found])
        share = nodes.add("Cast", [beyond], to=1)
        count = nodes.add("ReduceSum", [share, last], keepdims=0)
        more = nodes.add("Add", [count, nodes.constant(1.0)])
        return nodes.add("Div", [more, nodes.constant(1.0 + len(self.distances))])


def _squared_length(vectors: Any) -> Floats:
    return np.asarray((vectors**2).sum(axis=1))
