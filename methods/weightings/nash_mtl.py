"""Nash-MTL: the update as the Nash bargaining solution between tasks."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np
import torch
from scipy.linalg.lapack import dposv

from methods.checks import require_at_least
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.simplex import Matrix, Vector

RESIDUAL = 1e-8
_MAX_NEWTON_STEPS = 200
_LARGEST = 1e7
# After so many steps that don't halve the residual, it is rounding.
_PATIENCE = 10
# Close to the solution, full Newton steps are taken.
_FULL_STEP = 0.25
# At a Pareto-stationary point the bargain has no solution; this much is added to the squared unit norms instead.
_RIDGE = 1e-6


def bargaining_weights(gramian: Matrix) -> tuple[Vector, bool]:
    """Weights α (m,) > 0 with G α = 1/α, from which ‖Σ α_i g_i‖ = √m.

    They are the stationary point of the strictly convex ½αᵀGα − Σ log α_i, found by damped Newton after scaling every
    gradient to unit norm (α_i = β_i/‖g_i‖ with C β = 1/β for the cosines C). A task without a gradient is left out
    and gets 0. Returns also whether a task was left out or there is no exact solution (Pareto-stationary: some
    combination of the gradients vanishes); then the cosines get a ridge of 1e-6.

    Source: Navon et al. (ICML 2022), Eq. (2) and Claim 3.1; the convex-concave procedure there is not needed.
    """
    norms = np.sqrt(np.maximum(gramian.diagonal(), 0.0))
    players = np.flatnonzero(norms > 0)
    weights = np.zeros(len(gramian))
    if not len(players):
        return weights, True
    inverse_norms = 1 / norms[players]
    among = gramian if len(players) == len(gramian) else gramian[players[:, None], players]
    cosines = among * (inverse_norms[:, None] * inverse_norms)
    solution, residual = _newton(cosines)
    regular = residual <= RESIDUAL
    if not regular:
        solution, _ = _newton(cosines + _RIDGE * np.eye(len(players)))
    weights[players] = solution * inverse_norms
    return weights, not regular or len(players) < len(gramian)


def _newton(cosines: Matrix) -> tuple[Vector, float]:
    """β (n,) with C β = 1/β and the remaining residual max |β_i (Cβ)_i − 1|.

    Starts at the best point of the ray through 1. Along a step that takes β to β(1 − t s), the curvature at t is at
    most that at 0 over (1 − t max s)²: a length of 1/(1 + max s) stays positive and descends.
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
        step = dposv(scaled, right)[1]
        longest = float(step.max())
        length = 1.0 if longest < _FULL_STEP else 1 / (1 + longest)
        moved = beta * (1 - length * step)
        # Above this, the identity is lost in rounding beside β C β: the gradients cancel to the last digit.
        if not moved.max() < _LARGEST or (length == 1.0 and (moved == beta).all()):
            break
        beta = moved
    return best, least


@dataclass(frozen=True)
class NashMTL:
    """Multi-task learning as a bargaining game.

    max_norm: the shared gradient is clipped to this norm (0: no clipping), as in the released code. Unclipped, its
        norm is √m.

    Task-specific heads get their gradients times α, unclipped.
    Deviations: solved exactly; the released code's convex-concave procedure may stop far from the solution.
    """

    max_norm: float = 1.0

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "own"

    def __post_init__(self) -> None:
        require_at_least("max_norm", self.max_norm, 0)

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        gramian = signal.required_gramian().numpy()
        alpha, fallback = bargaining_weights(gramian)
        norm = sqrt(max(float(alpha @ gramian @ alpha), 0.0))
        clip = self.max_norm / norm if 0 < self.max_norm < norm else 1.0
        unclipped = torch.from_numpy(alpha)
        return Update(unclipped * clip, state, head_weights=unclipped, fallbacks=int(fallback))
