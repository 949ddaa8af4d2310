"""The head: a linear layer and a sigmoid over a sentence embedding."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LinearHead"]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """sigmoid(embedding @ coefficients + intercept).

    Attributes
    ----------
    coefficients : ndarray of float64, shape (dimension,)
    intercept : float
    """

    coefficients: NDArray[np.float64]
    intercept: float

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the log-odds of embeddings of shape (n, dimension); shape (n,)."""
        return embeddings.astype(np.float64) @ self.coefficients + self.intercept

    def p_frontier(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return probabilities in [0, 1] for embeddings of shape (n, dimension); shape (n,)."""
        return np.asarray(1 / (1 + np.exp(-self.logits(embeddings))))

    def calibrated(self, slope: float, offset: float) -> "LinearHead":
        """Return the head whose log-odds are slope * log-odds + offset.

        Examples
        --------
        >>> head = LinearHead(np.array([2.0]), 1.0).calibrated(0.5, 3.0)
        >>> head.coefficients.tolist(), head.intercept
        ([1.0], 3.5)
        """
        return LinearHead(self.coefficients * slope, self.intercept * slope + offset)
