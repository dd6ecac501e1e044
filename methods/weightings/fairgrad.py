"""FairGrad: the α-fair division of the descent of all tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.linalg.lapack import dgesv, dposv

from methods.checks import require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.simplex import Matrix, Vector

RESIDUAL = 1e-8
_MAX_NEWTON_STEPS = 200
# At a Pareto-stationary point there is no solution; this much is added to the squared unit norms instead.
_RIDGE = 1e-6
# Above this, a weight's own gradient is lost in rounding: the gradients cancel to the last digit.
_LARGEST = 1e14
_HALVINGS = 30
_LONGEST_LOGARITHM = 200.0


def fair_weights(gramian: Matrix, alpha: float) -> tuple[Vector, bool]:
    """Weights w (m,) > 0 with G w = w^(−1/α); for α = 1 they are Nash-MTL's.

    They are taken in units of those of orthogonal gradients, w_i = z_i ‖g_i‖^(−2α/(1+α)). A task without a gradient
    is left out and gets 0. Returns also whether a task was left out or no solution was found, as at Pareto-stationary
    points, where some combination of the gradients vanishes; then the cosines get a ridge of 1e-6.

    Source: Ban, Ji (ICML 2024), Eq. (6), solved there by nonlinear least squares.
    """
    norms = np.sqrt(np.maximum(gramian.diagonal(), 0.0))
    players = np.flatnonzero(norms > 0)
    weights = np.zeros(len(gramian))
    if not len(players):
        return weights, True
    local = norms[players]
    cosines = gramian[np.ix_(players, players)] / local[:, None] / local
    pulls = local / local.max()
    pulls = pulls ** ((1 - alpha) / (1 + alpha))
    solution, residual = _newton(cosines, pulls, alpha)
    regular = residual <= RESIDUAL
    if not regular:
        solution, _ = _newton(cosines + _RIDGE * np.eye(len(players)), pulls, alpha)
    weights[players] = solution * local ** (-2 * alpha / (1 + alpha))
    return weights, not regular or len(players) < len(gramian)


def _newton(cosines: Matrix, s: Vector, alpha: float) -> tuple[Vector, float]:
    """z (n,) > 0 with S⁻¹ C S z = z^(−1/α), and the remaining residual max |z_i^(1/α) (S⁻¹ C S z)_i − 1|.

    z is the minimum of a strictly convex function, ½ (Sz)ᵀC(Sz) − Σ s_i² z_i^(1−1/α)/(1−1/α), log z_i for α = 1.
    Newton's method on the logarithm of the equation is fast if it applies (every task gains, so the logarithm
    exists) and halves the residual; otherwise, a damped Newton step lowers the function.
    """
    z = np.ones(len(cosines))
    system = cosines / s[:, None] * s
    best, least, least_logarithm = z, np.inf, np.inf
    for _ in range(_MAX_NEWTON_STEPS):
        gains = system @ z
        product = z ** (1 / alpha) * gains
        residual = float(np.abs(product - 1).max())
        settled = least <= RESIDUAL and not residual < 0.5 * least  # to the last digit that rounding leaves
        if residual < least:
            best, least = z, residual
        if settled or residual <= RESIDUAL * 1e-4:
            break
        moved = None
        if gains.min() > 0:
            logarithms = np.log(product)
            size = float(np.abs(logarithms).max())
            if size < 0.5 * least_logarithm:
                least_logarithm = size
                moved = _logarithmic_step(system, z, gains, logarithms, alpha)
        if moved is None:
            moved = _convex_step(cosines, s, z, alpha)
        largest = float((z ** (1 + 1 / alpha)).max())
        if moved is None or not largest < _LARGEST or (moved == z).all():
            break
        z = moved
    return best, least


def _logarithmic_step(system: Matrix, z: Vector, gains: Vector, logarithms: Vector, alpha: float) -> Vector | None:
    """Newton on log (S⁻¹ C S z)_i + log z_i / α in log z; None if it overflows or a task would lose."""
    slope = system * z / gains[:, None]
    slope.ravel()[:: len(z) + 1] += 1 / alpha
    step, singular = dgesv(slope, logarithms)[2:]
    if singular or not np.abs(step).max() < _LONGEST_LOGARITHM:
        return None
    moved = z * np.exp(-step)
    return moved if (system @ moved).min() > 0 else None


def _convex_step(cosines: Matrix, s: Vector, z: Vector, alpha: float) -> Vector | None:
    """z (1 − t·step) for Newton's step on the function and the first t = 1, ½, ¼, ... that lowers it, or None."""
    power = 1 - 1 / alpha

    def objective(at: Vector) -> float:
        utility = np.log(at) if power == 0 else at**power / power
        return float(0.5 * (s * at) @ cosines @ (s * at) - (s**2 * utility).sum())

    right = s * z * (cosines @ (s * z)) - s**2 * z**power
    # Divided by s √(z^power) from both sides, the Hessian in units of z is a Gramian plus 1/α.
    root = s * z ** (power / 2)
    hessian = cosines * ((s * z / root)[:, None] * (s * z / root))
    hessian.ravel()[:: len(z) + 1] += 1 / alpha
    step, failed = dposv(hessian, right / root)[1:]
    if failed:
        return None
    step = step / root
    before, decrease = objective(z), float(step @ right)
    length = 1.0
    for _ in range(_HALVINGS):
        moved = z * (1 - length * step)
        if moved.min() > 0 and objective(moved) <= before - 1e-4 * length * decrease + 1e-13 * abs(before):
            return moved
        length /= 2
    return None


@dataclass(frozen=True)
class FairGrad:
    """Fair resource allocation in multi-task learning.

    alpha: α. 1 is proportional fairness, with the direction of Nash-MTL; ∞ favours the worst task; 0 is the sum of the
        losses.

    Task-specific heads get the gradients of their weighted losses. Deviations: solved exactly, while the released code
    uses nonlinear least squares; steps without an exact solution are counted.
    """

    alpha: float = 2.0

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_positive("alpha", self.alpha)

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        weights, fallback = fair_weights(signal.required_gramian().numpy(), self.alpha)
        return Update(torch.from_numpy(weights), state, fallbacks=int(fallback))
