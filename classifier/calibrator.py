"""Calibration."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.nodes import Nodes

__all__ = ["Calibrator"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibrator:
    """Placeholder until the real one is merged."""

    rising: float
    falling: float
    offset: float

    @classmethod
    def identity(cls) -> "Calibrator":
        """Return the calibrator that changes nothing."""
        return cls(1.0, 1.0, 0.0)

    def logits(self, logits: Floats) -> Floats:
        """Return calibrated log-odds."""
        rising = -np.logaddexp(0, -logits)
        falling = np.logaddexp(0, logits)
        return self.rising * rising + self.falling * falling + self.offset

    def add_to(self, nodes: Nodes, logits: str) -> str:
        """Add it to a graph; return the name of the calibrated log-odds."""
        parts = nodes.add("Concat", [logits, nodes.add("Neg", [logits])], axis=1)
        softplus = nodes.add("Softplus", [parts])
        weights = np.array([[self.falling, -self.rising]])
        return nodes.gemm(softplus, weights, np.array([self.offset]))
