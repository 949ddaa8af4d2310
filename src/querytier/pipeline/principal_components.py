"""Principal components of embeddings: fewer, uncorrelated directions for trees to split."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.model.nets import Linear

__all__ = ["principal_components"]

_MOST = 64


def principal_components(embeddings: NDArray[np.float32], most: int = _MOST) -> Linear:
    """Return the net that projects embeddings on their first principal components.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (n, d)
        n > 1.
    most : int
        How many components at most; there are never more than rows or dimensions.
    """
    from sklearn.decomposition import PCA

    count = min(most, *embeddings.shape)
    model: Any = PCA(count, svd_solver="covariance_eigh").fit(embeddings.astype(np.float64))
    return Linear(model.components_, -model.components_ @ model.mean_)
