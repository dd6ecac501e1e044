"""FairGrad: the α-fair division of the descent of all tasks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dgesv

from methods.checks import require_at_least, require_one_of, require_positive
from methods.contract import Bound, HeadRule, Needs, Signal, State, Update
from methods.weightings.bargaining import RESIDUAL, Bargain, bargain
from methods.weightings.clipping import clipped_weights
from methods.weightings.simplex import Matrix, Vector

Variant = Literal["released", "paper"]
Mask = NDArray[np.bool_]

_MAX_STEPS = 300
# A gain (Cu)_i is known up to this times Σ_j |C_ij| u_j: its terms may cancel.
_ROUNDING = 4 * float(np.finfo(np.float64).eps)
# In one step, a weight or a gain falls at most by _LIMIT and rises at most by _RISE times itself.
_LIMIT = 0.95
_RISE = 3.0
# If Newton's step would make it fall by more, its fall is set to this, and the other steps follow from that.
_FALL = 0.9
_ROUNDS = 4
# Weights whose part of every gain is at most this over the number of tasks may fall freely.
_NEGLIGIBLE = 0.02


def fair_weights(gramian: Matrix, alpha: float) -> tuple[Vector, bool]:
    """Weights w (m,) > 0 with G w = w^(−1/α); for α = 1 they are Nash-MTL's.

    They exist where the bargain of `bargain` does, which is the start of the search. A task without a gradient is left
    out and gets 0; weights below the least double are 0, too. Returns also whether a task was left out or no solution
    was found. That is so at Pareto-stationary points, where the cosines get a ridge of 1e-6. A solution has
    |log (w_i^(1/α) (Gw)_i)| ≤ 1e-8, or as much as rounding of the Gramian in float64 explains.

    Source: Ban, Ji (ICML 2024), Eq. (6), solved there by nonlinear least squares.
    """
    start = bargain(gramian)
    weights = np.zeros(len(gramian))
    if not len(start.players):
        return weights, True
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        solution = _solve(start, alpha)
        weights[start.players] = np.exp(solution.logarithms) / start.norms
    return weights, start.fallback or not solution.largest <= RESIDUAL


class _Problem(NamedTuple):
    """C u = t u^(−1/α) for u_i = w_i ‖g_i‖ and t_i = ‖g_i‖^(1/α − 1)."""

    cosines: Matrix
    magnitudes: Matrix
    log_targets: Vector
    exponent: float  # 1/α


class _Point(NamedTuple):
    """log u, u, Cu and the errors log (Cu)_i + log u_i / α − log t_i, all (n,).

    distance, largest: sum and maximum of their magnitudes beyond rounding.
    """

    logarithms: Vector
    u: Vector
    gains: Vector
    errors: Vector
    distance: float
    largest: float


def _solve(start: Bargain, alpha: float) -> _Point:
    """The solution, or the closest point found.

    Newton's method on the errors in log u, from the bargain, where all gains are positive. Errors of any size are
    those of another t, whose problem has one solution, too: so there is a path along which all errors shrink at one
    rate, and Newton's direction is its tangent. A step that follows it needs many steps if errors differ by
    magnitudes. So a faster one is tried first, and kept if it lowers the distance.
    """
    exponent = 1 / alpha
    log_norms = np.log(start.norms)
    logarithms = np.log(start.weights)
    errors = (exponent - 1) * (logarithms - log_norms)
    # u in the unit that centres the errors, so that the unit of the gradients has no effect.
    logarithms = logarithms - 0.5 * (errors.max() + errors.min()) / (1 + exponent)
    problem = _Problem(start.cosines, np.abs(start.cosines), (exponent - 1) * log_norms, exponent)
    point = best = _evaluate(problem, logarithms)
    for _ in range(_MAX_STEPS):
        if best.largest <= RESIDUAL * 1e-4 or not np.isfinite(point.distance):
            break
        before, point = point, _step(problem, point)
        if best.largest <= RESIDUAL and not point.distance < 0.5 * before.distance:  # to the last digit
            break
        if point.largest < best.largest:
            best = point
    return best


def _evaluate(problem: _Problem, logarithms: Vector) -> _Point:
    u = np.exp(logarithms)
    floor = np.maximum(_ROUNDING * (problem.magnitudes @ u), np.finfo(np.float64).tiny)
    gains = np.maximum(problem.cosines @ u, floor)
    errors = np.log(gains) - np.maximum(problem.log_targets - problem.exponent * logarithms, np.log(floor))
    excess = np.abs(errors) - 4 * floor / gains
    return _Point(logarithms, u, gains, errors, float(np.maximum(excess, 0.0).sum()), float(excess.max()))


def _step(problem: _Problem, point: _Point) -> _Point:
    """The next point: after the bounded step if that lowers the distance, else after Newton's, shortened.

    Row i of the linear system says how log (Cu)_i and log u_i change together. Weights that are too large, but
    negligible in all gains, fall exponentially, without an effect on gains.
    """
    n = len(point.u)
    changes = problem.cosines * (point.u / point.gains[:, None])  # of log gain i with log u_j
    free = point.errors > problem.exponent
    if free.any():
        free &= np.abs(changes).max(axis=0) <= _NEGLIGIBLE / n
        changes[:, free] = 0.0
    system = changes.copy()
    system.ravel()[:: n + 1] += problem.exponent
    newton = dgesv(system, -point.errors)[2]
    bounded = _bounded(system, -point.errors, changes, newton, free, problem.exponent)
    moved = _move(problem, point, free, bounded, changes @ bounded)
    if bounded is newton or moved.distance < point.distance:
        return moved
    return _move(problem, point, free, newton, changes @ newton)


def _bounded(system: Matrix, right: Vector, changes: Matrix, newton: Vector, free: Mask, exponent: float) -> Vector:
    """Newton's direction, where a weight or a gain that would fall too far falls by _FALL, whatever its error."""
    direction, identity = newton, np.eye(len(newton))
    for _ in range(_ROUNDS):
        u_falls = ~free & (direction < -_LIMIT)
        gain_falls = ~u_falls & (changes @ direction < -_LIMIT)
        falls = u_falls | gain_falls
        if not falls.any():
            break
        right = np.where(falls, -_FALL, right)
        system[u_falls] = identity[u_falls]
        # A little of the term of u stays, as gains alone need not determine u.
        system[gain_falls] = changes[gain_falls] + 1e-3 * exponent * identity[gain_falls]
        direction = dgesv(system, right)[2]
    return direction


def _move(problem: _Problem, point: _Point, free: Mask, direction: Vector, gain_direction: Vector) -> _Point:
    """Along the direction, as far as no weight or gain changes by more than _LIMIT and _RISE allow.

    u changes linearly, so that gains change as predicted even where they are small differences of large u.
    """
    linear = np.where(free, 0.0, direction)
    fall = -min(float(linear.min()), float(gain_direction.min())) / _LIMIT
    rise = max(float(linear.max()), float(gain_direction.max())) / _RISE
    length = 1 / max(1.0, fall, rise)
    change = np.log1p(length * linear) + np.where(free, length * np.minimum(direction, 0.0), 0.0)
    return _evaluate(problem, point.logarithms + change)


@dataclass(frozen=True)
class FairGrad:
    """Fair resource allocation in multi-task learning.

    alpha: α. 1 is proportional fairness, with the direction of Nash-MTL; ∞ favours the worst task; 0 is the sum of the
        losses.
    variant: "released": the shared gradient is m Σ w_i g_i, clipped to `max_norm`, and task-specific heads keep their
        plain gradients. "paper": it is Σ w_i g_i (Algorithm 1), and heads get the gradients of their weighted losses.
    max_norm: of the released variant, to which a longer shared gradient is clipped; 0 or ∞: no clipping.

    Deviations: solved exactly, while the released code uses nonlinear least squares; steps without an exact solution
    are counted.
    """

    alpha: float = 2.0
    variant: Variant = "released"
    max_norm: Bound = 1.0

    needs: ClassVar[Needs] = "gramian"

    def __post_init__(self) -> None:
        require_positive("alpha", self.alpha)
        require_one_of("variant", self.variant, get_args(Variant))
        require_at_least("max_norm", self.max_norm, 0)
        if self.variant == "paper" and self.max_norm != 1.0:
            raise ValueError(f'`max_norm` belongs to `variant="released"`, found {self.max_norm} with "paper"')

    @property
    def heads(self) -> HeadRule:
        return "plain" if self.variant == "released" else "weighted"

    @property
    def clips_to(self) -> float:
        return (self.max_norm or math.inf) if self.variant == "released" else math.inf

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        gramian = signal.required_gramian().numpy()
        weights, fallback = fair_weights(gramian, self.alpha)
        if self.variant == "paper":
            return Update(torch.from_numpy(weights), state, fallbacks=int(fallback))
        unclipped = len(weights) * weights
        weights = clipped_weights(unclipped, gramian, self.max_norm, cancelling=fallback)
        return Update(torch.from_numpy(weights), state, fallbacks=int(fallback), unclipped=torch.from_numpy(unclipped))
