"""The features of a query: its sentence embedding, and surface features beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.encoder import Encoder
from querytier.classifier.surface import SurfaceTable

__all__ = ["Features"]


@dataclass(frozen=True, eq=False)
class Features:
    """What the heads read.

    Attributes
    ----------
    encoder : Encoder
    surface : SurfaceTable or None
        Fitted to training queries; None leaves surface features out.
    """

    encoder: Encoder
    surface: SurfaceTable | None = None

    def of(self, views: Sequence[str], *, progress: bool = True) -> NDArray[np.float32]:
        """Return the features of text views, shape (n, dimension): the embedding comes first."""
        embeddings = self.encoder.encode(views, progress=progress)
        if self.surface is None:
            return embeddings
        token_ids = [self.encoder.tokenizer.token_ids(view) for view in views]
        return np.hstack([embeddings, self.surface.features(token_ids)])
