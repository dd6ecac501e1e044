"""Nash's bargain between unit gradients, from which Nash-MTL and FairGrad start; where it exists, both are solvable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

from methods.weightings.rounding import FLOAT32_EPSILON
from methods.weightings.simplex import Matrix, Vector

RESIDUAL = 1e-8
# The others cancel a unit gradient of weight β up to β⁻² of its length. Jacobians and their products are float32: if
# less than two units of its rounding are left, which is β > 2048, it is not known whether anything is.
STATIONARY = 2 * FLOAT32_EPSILON
_RIDGE = 1e-6
_MAX_NEWTON_STEPS = 200
# After so many steps that don't halve the residual, it is rounding.
_PATIENCE = 10
# Close to the solution, full Newton steps are taken.
_FULL_STEP = 0.25
# Weights beyond this only grow: there is no solution, and β² is still far from the rounding of float64.
_LARGEST = 1e5


@dataclass(frozen=True)
class Bargain:
    """β > 0 with C β = 1/β for the n tasks that have a gradient.

    players: their indices (n,). norms: those of their gradients (n,). cosines: C (n, n), with a ridge if the tasks are
    Pareto-stationary. weights: β (n,). fallback: whether C has the ridge, or a task has no gradient.
    """

    players: NDArray[np.intp]
    norms: Vector
    cosines: Matrix
    weights: Vector
    fallback: bool


def bargain(gramian: Matrix) -> Bargain:
    """The bargain between the unit gradients of a Gramian (m, m).

    It exists unless some combination with weights ≥ 0 vanishes, as at Pareto-stationary points. If that is so up to
    the rounding of float32, that is, if a weight β has β⁻² < 2.4e-7, a ridge of 1e-6 is added to the cosines.
    """
    norms = np.sqrt(np.maximum(gramian.diagonal(), 0.0))
    players = norms.nonzero()[0]
    missing = len(players) < len(gramian)
    if missing:
        norms, gramian = norms[players], gramian[players[:, None], players]
    inverse_norms = 1 / norms
    cosines = gramian * (inverse_norms[:, None] * inverse_norms)
    if not len(players):
        return Bargain(players, norms, cosines, np.zeros(0), True)
    weights, residual = _newton(cosines)
    stationary = not (residual <= RESIDUAL and float(weights.max()) ** -2 >= STATIONARY)
    if stationary:
        cosines = cosines + _RIDGE * np.eye(len(players))
        weights, _ = _newton(cosines)
    return Bargain(players, norms, cosines, weights, stationary or missing)


def _newton(cosines: Matrix) -> tuple[Vector, float]:
    """β (n,) and the remaining residual max |β_i (Cβ)_i − 1|.

    β is the minimum of the strictly convex ½βᵀCβ − Σ log β_i. Starts at the best point of the ray through 1. Along a
    step that takes β to β(1 − t s), the curvature at t is at most that at 0 over (1 − t max s)²: a length of
    1/(1 + max s) stays positive and descends.
    """
    n = len(cosines)
    beta = np.full(n, np.sqrt(n / max(float(cosines.sum()), _RIDGE * n)))
    best, least, idle = beta, np.inf, 0
    for _ in range(_MAX_NEWTON_STEPS):
        right = beta * (cosines @ beta) - 1
        residual = float(np.abs(right).max())
        idle = 0 if residual < 0.5 * least else idle + 1
        if residual < least:
            best, least = beta, residual
        # Converged, or as far as rounding allows.
        if residual <= RESIDUAL * 1e-4 or (least <= RESIDUAL and idle >= _PATIENCE):
            break
        # In the variables log β the Hessian is β C β + I: well conditioned even if β spans many magnitudes.
        scaled = cosines * (beta[:, None] * beta)
        scaled.ravel()[:: n + 1] += 1.0
        step, failed = dposv(scaled, right)[1:]
        longest = float(step.max())
        length = 1.0 if longest < _FULL_STEP else 1 / (1 + longest)
        moved = beta * (1 - length * step)
        if failed or not moved.max() < _LARGEST or (length == 1.0 and (moved == beta).all()):
            break
        beta = moved
    return best, least
