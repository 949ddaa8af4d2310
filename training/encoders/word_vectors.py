"""Word vectors from a teacher's embeddings: projection and refinement."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from querytier.data.arrays import Vectors

if TYPE_CHECKING:
    import torch

__all__ = ["Projection", "refine", "word_projection"]

Rows = NDArray[np.intp]

_HELD_OUT = 0.1
_RIDGE_PENALTIES = (0.1, 1.0, 10.0)
_STEP = 1.5e-3
_WEIGHT_STEP = 1.5e-2
_BATCHES = 20
_SMALLEST_BATCH, _LARGEST_BATCH = 8, 256
_PATIENCE = 3


@dataclass(frozen=True, eq=False)
class Projection:
    """A projection of the teacher's embeddings of words and of views to fewer dimensions.

    Attributes
    ----------
    word_mean, view_mean : ndarray of float32, shape (teacher's dimension,)
    axes : ndarray of float32, shape (teacher's dimension, dimension)
        Orthonormal.
    """

    word_mean: Vectors
    view_mean: Vectors
    axes: Vectors

    def words(self, embeddings: Vectors) -> Vectors:
        """Return the vectors of words; shape (n, dimension)."""
        return np.asarray((embeddings - self.word_mean) @ self.axes)

    def views(self, embeddings: Vectors) -> Vectors:
        """Return the directions in which sums of words should point; shape (n, dimension)."""
        return np.asarray((embeddings - self.view_mean) @ self.axes)


def word_projection(words: Vectors, views: Vectors, dimension: int) -> Projection:
    """Fit a projection: PCA on the sum of the covariances of words and of views.

    Parameters
    ----------
    words, views : ndarray of float32, shape (n, teacher's dimension)
        The teacher's embeddings.
    dimension : int
        Number of axes.
    """
    # Words and views have separate means: features that all single words share, such as being
    # short, say nothing about a query.
    means = words.mean(axis=0), views.mean(axis=0)
    covariance = np.cov(words.T.astype(np.float64)) + np.cov(views.T.astype(np.float64))
    _, axes = np.linalg.eigh(covariance)
    return Projection(*means, np.ascontiguousarray(axes[:, ::-1][:, :dimension], dtype=np.float32))


def refine(
    table: Vectors,
    token_ids: Sequence[Sequence[int]],
    targets: Vectors,
    *,
    epochs: int,
    seed: int,
) -> Vectors:
    """Refine word vectors so that the sum over the words of a row points in its target's direction.

    First comes one linear map for all words, by ridge regression, which also improves words that
    occur in no row; then a weight and a vector for each word that occurs, by Adam on the cosine. A
    tenth of the rows is held out: they choose the ridge penalty and stop Adam.

    Parameters
    ----------
    table : ndarray of float32, shape (words, dimension)
    token_ids : sequence of sequences of int, length n
    targets : ndarray of float32, shape (n, dimension)
    epochs : int
    seed : int

    Returns
    -------
    ndarray of float32, shape (words, dimension)
        Multiplied by the weights.
    """
    import torch

    rows = np.random.default_rng(seed).permutation(len(token_ids))
    held_out, fitted = np.split(rows, [max(1, round(_HELD_OUT * len(rows)))])
    ids = [torch.tensor(of_row, dtype=torch.int64) for of_row in token_ids]
    task = _Task(ids, _units(targets), fitted, held_out)
    return _descend(_map(table, task), task, epochs, seed)


@dataclass(frozen=True, eq=False)
class _Task:
    token_ids: "list[torch.Tensor]"
    targets: Vectors
    fitted: Rows
    held_out: Rows

    def sums(self, table: "torch.Tensor", weights: "torch.Tensor", rows: Rows) -> "torch.Tensor":
        import torch

        flat = torch.cat([self.token_ids[row] for row in rows])
        lengths = [len(self.token_ids[row]) for row in rows]
        offsets = torch.tensor([0, *np.cumsum(lengths)[:-1]])
        return torch.nn.functional.embedding_bag(
            flat, table, offsets, mode="sum", per_sample_weights=weights[flat]
        )

    def cosine(self, table: "torch.Tensor", weights: "torch.Tensor", rows: Rows) -> "torch.Tensor":
        import torch

        sums = self.sums(table, weights, rows)
        return torch.cosine_similarity(sums, torch.from_numpy(self.targets[rows])).mean()

    def held_out_cosine(self, table: "torch.Tensor", weights: "torch.Tensor") -> float:
        import torch

        with torch.no_grad():
            return float(self.cosine(table, weights, self.held_out))


def _map(table: Vectors, task: _Task) -> Vectors:
    """Return the table mapped by the best ridge map, or unchanged if none improves it."""
    import torch

    weights, targets = torch.ones(len(table)), task.targets[task.fitted]
    sums = _units(task.sums(torch.from_numpy(table), weights, task.fitted).numpy())
    tables = [table, *(table @ _ridge_map(sums, targets, each) for each in _RIDGE_PENALTIES)]
    return max(tables, key=lambda one: task.held_out_cosine(torch.from_numpy(one), weights))


def _ridge_map(sums: Vectors, targets: Vectors, penalty: float) -> Vectors:
    """Return the map from sums to targets, shrunk towards the identity by the penalty."""
    identity = np.eye(sums.shape[1]) * penalty * len(sums) / sums.shape[1]
    inputs, outputs = sums.astype(np.float64), targets.astype(np.float64)
    solved = np.linalg.solve(inputs.T @ inputs + identity, inputs.T @ outputs + identity)
    return np.asarray(solved, dtype=np.float32)


def _descend(table: Vectors, task: _Task, epochs: int, seed: int) -> Vectors:
    """Return the table of the epoch with the highest cosine on held-out rows."""
    import torch

    vectors = torch.tensor(table, requires_grad=True)
    logs = torch.zeros(len(table), requires_grad=True)
    # Steps in units of the mean length: the scale of the table depends on the teacher.
    length = float(np.linalg.norm(table, axis=1).mean())
    optimizer = torch.optim.Adam(
        [{"params": [vectors], "lr": _STEP * length}, {"params": [logs], "lr": _WEIGHT_STEP}]
    )
    generator = np.random.default_rng(seed)
    best, best_table, since = task.held_out_cosine(vectors, logs.exp()), table, 0
    for _ in range(epochs):
        for rows in _batches(generator.permutation(task.fitted)):
            optimizer.zero_grad()
            torch.autograd.backward(-task.cosine(vectors, logs.exp(), rows))
            optimizer.step()
        cosine, since = task.held_out_cosine(vectors, logs.exp()), since + 1
        if cosine > best:
            best, since = cosine, 0
            best_table = (vectors * logs.exp().unsqueeze(1)).detach().numpy()
        if since == _PATIENCE:
            break
    return best_table


def _batches(rows: Rows) -> Iterator[Rows]:
    size = min(max(len(rows) // _BATCHES, _SMALLEST_BATCH), _LARGEST_BATCH)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _units(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)
