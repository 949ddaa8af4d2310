"""Nets: functions from features to outputs, in numpy and as nodes of a graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.onnx_nodes import ML_DOMAIN, Nodes
from querytier.data.arrays import Floats

__all__ = ["NETS", "Linear", "Mlp", "Net", "Trees"]


class Net(Protocol):
    """A function from n rows of d features to n rows of k outputs; a dataclass of its arrays."""

    kind: ClassVar[str]

    def outputs(self, features: Any) -> Floats:
        """Return the outputs of features of shape (n, d); shape (n, k)."""

    def add_to(self, nodes: Nodes, features: str) -> str:
        """Add the same computation to a graph; return the name of the outputs."""


@dataclass(frozen=True, eq=False)
class Linear:
    """features @ weights.T + bias.

    Attributes
    ----------
    weights : ndarray of float64, shape (k, d)
    bias : ndarray of float64, shape (k,)
    """

    weights: Floats
    bias: Floats
    kind: ClassVar[str] = "linear"

    def outputs(self, features: Any) -> Floats:
        """Return the outputs of features, dense or sparse, of shape (n, d); shape (n, k).

        Examples
        --------
        >>> Linear(np.array([[2.0, 0.0]]), np.array([1.0])).outputs(np.eye(2)).tolist()
        [[3.0], [1.0]]
        """
        return np.asarray(features.astype(np.float64) @ self.weights.T + self.bias)

    def add_to(self, nodes: Nodes, features: str) -> str:
        """Add the net to a graph; return the name of the outputs."""
        return nodes.gemm(features, self.weights, self.bias)


@dataclass(frozen=True, eq=False)
class Mlp:
    """Two linear layers with rectified units between them.

    Attributes
    ----------
    hidden_weights : ndarray of float64, shape (h, d)
    hidden_bias : ndarray of float64, shape (h,)
    weights : ndarray of float64, shape (k, h)
    bias : ndarray of float64, shape (k,)
    """

    hidden_weights: Floats
    hidden_bias: Floats
    weights: Floats
    bias: Floats
    kind: ClassVar[str] = "mlp"

    def outputs(self, features: Any) -> Floats:
        """Return the outputs of features of shape (n, d); shape (n, k)."""
        hidden = Linear(self.hidden_weights, self.hidden_bias).outputs(features)
        return Linear(self.weights, self.bias).outputs(np.maximum(hidden, 0))

    def add_to(self, nodes: Nodes, features: str) -> str:
        """Add the net to a graph; return the name of the outputs."""
        hidden = nodes.gemm(features, self.hidden_weights, self.hidden_bias)
        return nodes.gemm(nodes.add("Relu", [hidden]), self.weights, self.bias)


@dataclass(frozen=True, eq=False)
class Trees:
    """A sum of regression trees.

    A row goes left at a split if its feature is at most the threshold.

    Attributes
    ----------
    tree, node : ndarray of int64, shape (m,)
        The tree of a node, and its number in the tree; number 0 is the root.
    feature : ndarray of int64, shape (m,)
        The feature that a split compares; -1 for leaves.
    threshold : ndarray of float32, shape (m,)
        As features are float32, the graph makes the same comparisons.
    left, right : ndarray of int64, shape (m,)
        The next node, by number in the tree.
    value : ndarray of float64, shape (m,)
        The output of a leaf.
    bias : ndarray of float64, shape (1,)
        Added to the sum.
    """

    tree: NDArray[np.int64]
    node: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: Floats
    bias: Floats
    kind: ClassVar[str] = "trees"

    def outputs(self, features: Any) -> Floats:
        """Return the outputs of features of shape (n, d); shape (n, 1)."""
        rows = np.arange(len(features))
        total = np.full(len(features), self.bias[0])
        starts = np.searchsorted(self.tree, np.unique(self.tree))
        for start in starts:
            at = np.full(len(features), start)
            while (split := self.feature[at] >= 0).any():
                goes_left = features[rows, self.feature[at]] <= self.threshold[at]
                following = start + np.where(goes_left, self.left[at], self.right[at])
                at = np.where(split, following, at)
            total += self.value[at]
        return total[:, np.newaxis]

    def add_to(self, nodes: Nodes, features: str) -> str:
        """Add the net to a graph; return the name of the outputs."""
        leaf = self.feature < 0
        # The -1 of a leaf is ours; in ONNX its feature is 0.
        return nodes.add(
            "TreeEnsembleRegressor",
            [features],
            ML_DOMAIN,
            n_targets=1,
            base_values=self.bias.tolist(),
            nodes_treeids=self.tree.tolist(),
            nodes_nodeids=self.node.tolist(),
            nodes_featureids=np.maximum(self.feature, 0).tolist(),
            nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
            nodes_values=self.threshold.tolist(),
            nodes_truenodeids=self.left.tolist(),
            nodes_falsenodeids=self.right.tolist(),
            target_treeids=self.tree[leaf].tolist(),
            target_nodeids=self.node[leaf].tolist(),
            target_ids=np.zeros(int(leaf.sum()), dtype=np.int64).tolist(),
            target_weights=self.value[leaf].tolist(),
        )


NETS: Mapping[str, type[Linear] | type[Mlp] | type[Trees]] = {
    net.kind: net for net in (Linear, Mlp, Trees)
}
