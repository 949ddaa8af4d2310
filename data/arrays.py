"""The array types used in signatures; docstrings state the shapes."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Hashes", "Indices", "Integers", "Mask", "Strings", "Vectors"]

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Integers = NDArray[np.int64]
Indices = NDArray[np.intp]
Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Strings = NDArray[np.object_]
