"""The calibrator: from the log-odds of heads to calibrated ones."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.onnx_nodes import Nodes
from querytier.data.arrays import Floats

__all__ = ["Calibrator", "sigmoid"]


@dataclass(frozen=True, slots=True)
class Calibrator:
    """Beta calibration (Kull, Silva Filho & Flach 2017, EJS 11:5052), written on log-odds.

    With p = sigmoid(z), the calibrated log-odds are rising * ln p - falling * ln(1 - p) + offset.
    Platt scaling has rising == falling; temperature scaling also has an offset of 0.

    Parameters
    ----------
    rising, falling : float
        Slopes far below z = 0, where p is near 0, and far above it; at least 0.
    offset : float

    Raises
    ------
    ValueError
        If a slope is negative, which would reverse the ranking, or a number is not finite.

    Examples
    --------
    >>> Calibrator(2.0, 2.0, 1.0).logits(np.array([-3.0, 0.0, 3.0])).tolist()
    [-5.0, 1.0, 7.0]
    """

    rising: float
    falling: float
    offset: float

    def __post_init__(self) -> None:
        slopes = self.rising, self.falling
        if min(slopes) < 0 or not np.isfinite([*slopes, self.offset]).all():
            raise ValueError(
                f"rising {self.rising}, falling {self.falling} and offset {self.offset} are not a "
                "calibrator: give finite numbers, and slopes of at least 0"
            )

    @classmethod
    def identity(cls) -> Self:
        """Return the calibrator that does not change log-odds."""
        return cls(1.0, 1.0, 0.0)

    def logits(self, z: NDArray[np.floating]) -> Floats:
        """Return calibrated log-odds from log-odds of any shape, exact also for |z| of 10,000."""
        z = z.astype(np.float64)
        # ln(1 - p) = -softplus(z) and ln p = -softplus(-z): exp(z) would overflow, these do not.
        # softplus(z) is max(z, 0) + bend, and -softplus(-z) is min(z, 0) - bend.
        bend = np.log1p(np.exp(-np.abs(z)))
        straight = self.rising * np.minimum(z, 0) + self.falling * np.maximum(z, 0)
        return np.asarray(straight + (self.falling - self.rising) * bend + self.offset)

    def probabilities(self, z: NDArray[np.floating]) -> Floats:
        """Return calibrated probabilities, in [0, 1], from log-odds of any shape."""
        return sigmoid(self.logits(z))

    def add_to(self, nodes: Nodes, logits: str) -> str:
        """Add the calibrator to a graph, for log-odds of shape (n, 1); return the result's name."""
        # Part of the graph, so that a port cannot forget it.
        if self.rising == self.falling:
            return nodes.gemm(logits, np.array([[self.rising]]), np.array([self.offset]))
        zero = nodes.constant(0.0)
        bend = nodes.add("Softplus", [nodes.add("Neg", [nodes.add("Abs", [logits])])])
        straight = [nodes.add("Min", [logits, zero]), nodes.add("Max", [logits, zero])]
        parts = nodes.add("Concat", [*straight, bend], axis=1)
        weights = np.array([[self.rising, self.falling, self.falling - self.rising]])
        return nodes.gemm(parts, weights, np.array([self.offset]))


def sigmoid(z: NDArray[np.floating]) -> Floats:
    """Return probabilities from log-odds of any shape.

    Examples
    --------
    >>> sigmoid(np.array([-1e4, 0.0, 1e4])).tolist()
    [0.0, 0.5, 1.0]
    """
    # 1 / (1 + exp(-z)) overflows below z = -709.
    return np.asarray(np.exp(-np.logaddexp(0, -z.astype(np.float64))))
