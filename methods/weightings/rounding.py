"""What single precision leaves unknown of a Gramian: Jacobians, and the products of their rows, are float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from methods.weightings.simplex import Vector

FLOAT32_EPSILON = float(np.finfo(np.float32).eps)
"""1.2e-7, the spacing of float32 at 1. A cosine of two gradients, or a product relative to its terms, is known up to
about this; an eigenvalue of a Gramian (m, m), relative to the largest, up to m times this."""


def above_rounding(eigenvalues: Vector) -> NDArray[np.bool_]:
    """(m,) which of the eigenvalues (m,) of a Gramian, in ascending order, are more than the rounding of float32."""
    largest = max(float(eigenvalues[-1]), 0.0)
    return np.asarray(eigenvalues > len(eigenvalues) * FLOAT32_EPSILON * largest)
