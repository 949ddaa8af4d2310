"""The heads: linear layers over a query's features, one for the need, one for the gain."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GainHead", "Heads", "LinearHead"]

Features = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """sigmoid(features @ coefficients + intercept).

    Attributes
    ----------
    coefficients : ndarray of float64, shape (dimension,)
    intercept : float
    """

    coefficients: Floats
    intercept: float

    def logits(self, features: Features) -> Floats:
        """Return the log-odds of features of shape (n, dimension); shape (n,)."""
        return features.astype(np.float64) @ self.coefficients + self.intercept

    def p_frontier(self, features: Features) -> Floats:
        """Return probabilities in [0, 1] for features of shape (n, dimension); shape (n,)."""
        return np.asarray(1 / (1 + np.exp(-self.logits(features))))

    def calibrated(self, slope: float, offset: float) -> "LinearHead":
        """Return the head whose log-odds are slope * log-odds + offset.

        Examples
        --------
        >>> head = LinearHead(np.array([2.0]), 1.0).calibrated(0.5, 3.0)
        >>> head.coefficients.tolist(), head.intercept
        ([1.0], 3.5)
        """
        return LinearHead(self.coefficients * slope, self.intercept * slope + offset)


@dataclass(frozen=True, eq=False)
class GainHead:
    """P(frontier better) - P(cheap better), of a softmax over these two and a tie.

    Attributes
    ----------
    coefficients : ndarray of float64, shape (3, dimension)
        Of cheap better, tie, frontier better.
    intercepts : ndarray of float64, shape (3,)
    """

    coefficients: Floats
    intercepts: Floats

    def gain(self, features: Features) -> Floats:
        """Return the expected gain, in [-1, 1], of features of shape (n, dimension); shape (n,).

        Examples
        --------
        >>> head = GainHead(np.array([[0.0], [0.0], [1.0]]), np.zeros(3))
        >>> head.gain(np.array([[0.0]], np.float32)).tolist()
        [0.0]
        """
        logits = features.astype(np.float64) @ self.coefficients.T + self.intercepts
        parts = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = parts / parts.sum(axis=1, keepdims=True)
        return np.asarray(shares[:, 2] - shares[:, 0])


@dataclass(frozen=True, eq=False)
class Heads:
    """What a graph computes of a query's features.

    Attributes
    ----------
    need : LinearHead
        P(needs_frontier), calibration included.
    gain : GainHead or None
        What ranks queries, where there is one; else P(needs_frontier) does.
    """

    need: LinearHead
    gain: GainHead | None = None

    def decision_scores(self, features: Features) -> Floats:
        """Return what is compared with the threshold, shape (n,)."""
        if self.gain is not None:
            return self.gain.gain(features)
        return self.need.p_frontier(features)
