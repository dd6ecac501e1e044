"""Clipping the shared gradient, which a weighting can do by its weights alone."""

from __future__ import annotations

from math import sqrt

import numpy as np

from methods.weightings.bargaining import STATIONARY
from methods.weightings.simplex import Matrix, Vector


def clipped_weights(weights: Vector, gramian: Matrix, max_norm: float, *, cancelling: bool = False) -> Vector:
    """The weights (m,), scaled down so that ‖Σ w_i g_i‖ = √(wᵀGw) is at most max_norm; 0 and ∞ mean no clipping.

    The norm is that in the parameters of the Gramian: with `weighting.grad_space`, in fewer than all shared ones.

    weights: not negative.
    cancelling: whether the gradients may cancel up to the rounding of the Gramian, which hides their norm. Then it is
        clipped as if it were as long as rounding allows.
    """
    squared = max(float(weights @ gramian @ weights), 0.0)
    if cancelling:
        squared += STATIONARY * float(weights @ np.sqrt(np.maximum(gramian.diagonal(), 0.0))) ** 2
    norm = sqrt(squared)
    return weights * (max_norm / norm) if 0 < max_norm < norm else weights
