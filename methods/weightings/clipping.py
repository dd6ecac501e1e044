"""Clipping the shared gradient, which a weighting can do by its weights alone."""

from __future__ import annotations

from math import sqrt

from methods.weightings.simplex import Matrix, Vector


def clipped_weights(weights: Vector, gramian: Matrix, max_norm: float) -> Vector:
    """The weights (m,), scaled down so that ‖Σ w_i g_i‖ = √(wᵀGw) is at most max_norm; 0 means no clipping.

    The norm is that in the parameters of the Gramian: with `weighting.grad_space`, in fewer than all shared ones.
    """
    norm = sqrt(max(float(weights @ gramian @ weights), 0.0))
    return weights * (max_norm / norm) if 0 < max_norm < norm else weights
