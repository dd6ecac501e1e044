"""UPGrad: every gradient projected onto the cone of directions without conflict, then the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv, dpotrf

from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.rounding import FLOAT32_EPSILON
from methods.weightings.simplex import Matrix, Vector

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]

# Tolerance of the optimality conditions of the projection of every unit gradient.
OPTIMALITY = 1e-8
_ROUNDING = 1e-12
# Signs are exchanged while at most this share of the wrong ones is left by each step, but for _PATIENCE steps. After
# that, least squares are more reliable.
_LEFT, _PATIENCE = 0.75, 1
# Times m: single exchanges end after far fewer, unless rounding makes them cycle.
_EXCHANGES = 10
# Up to this many tasks, one call for all projections is faster than a smaller system for each.
_TOGETHER = 24


def unconflicting_weights(gramian: Matrix) -> tuple[Vector, bool]:
    """Weights (m,) of the mean of the projections of all gradients onto {x : J x ≥ 0}.

    Gradients are scaled to unit norm first. A task without a gradient has weight 1/m, which has no effect. If single
    precision can't tell gradients from dependent ones (an eigenvalue up to m·1.2e-7), weights are not unique, and
    m·1.2e-7 is added to the diagonal.
    Returns also whether the projection of a unit gradient misses its optimality conditions by more than 1e-8, or is
    longer than 1 in single precision.

    Source: Quinton, Rey: Jacobian descent for multi-objective optimization (2024), Eq. (4) and Proposition 1.
    """
    m = len(gramian)
    norms = np.sqrt(np.maximum(gramian.diagonal(), 0.0))
    present = norms.nonzero()[0]
    if len(present) < m:
        weights, missed = np.full(m, 1 / m), False
        if len(present):
            inner, missed = unconflicting_weights(gramian[present[:, None], present])
            weights[present] = inner * (len(present) / m)
        return weights, missed
    cosines = gramian / norms[:, None] / norms
    cosines = (cosines + cosines.T) / 2  # a product in single precision need not be symmetric
    if cosines.min() >= 0:
        return np.full(m, 1 / m), False
    identity, rounding = np.eye(m), m * FLOAT32_EPSILON
    dependent = bool(dpotrf(cosines - rounding * identity)[1])
    system = cosines + rounding * identity if dependent else cosines
    additions = _additions(system)
    coefficients = identity + additions
    lengths = ((coefficients @ system) * coefficients).sum(axis=1)  # squared
    missed = not (_gaps(system, additions).max() <= OPTIMALITY and lengths.max() <= 1 + 2 * rounding)
    return norms @ coefficients / norms / m, missed


def _gaps(system: Matrix, additions: Matrix) -> Vector:
    """(m,) max |min(s, y)| of each row s, with y = C (e_i + s): 0 where a projection is optimal."""
    wrong: Matrix = np.abs(np.minimum(additions, system + additions @ system))
    return wrong.max(axis=1)


def _additions(system: Matrix) -> Matrix:
    """(m, m) row i: s ≥ 0 that minimises ‖e_i + s‖ in the norm of C = system.

    For all i at once, guesses which entries of s are positive, solves for them, and exchanges those of the wrong sign:
    of s where it is positive, and of y = C (e_i + s) elsewhere. Where that doesn't settle, least squares guess, and
    signs are exchanged one by one. A row without a solution is 0.

    Source: Júdice, Pires, "A block principal pivoting algorithm", Computers & Operations Research 21 (1994).
    """
    m = len(system)
    inverse = None if m <= _TOGETHER else np.asarray(np.linalg.inv(system), dtype=np.float64)
    inside, unsettled = system < 0, np.arange(m)
    values: Matrix = np.zeros((m, m))
    fewest, patience = np.full(m, m + 1), np.full(m, _PATIENCE)
    while len(unsettled):
        if inverse is None:
            values = _solve_together(system, inside)
        else:
            _solve_one_by_one(system, inverse, inside, unsettled, values)
        wrong = values < -_ROUNDING
        count = wrong.sum(axis=1)
        patience = np.where(count <= _LEFT * fewest, _PATIENCE, patience - 1)
        fewest = np.minimum(count, fewest)
        unsettled = ((count > 0) & (patience >= 0)).nonzero()[0]
        inside[unsettled] ^= wrong[unsettled]
    additions = np.where(inside, np.maximum(values, 0.0), 0.0)
    inexact = (_gaps(system, additions) > OPTIMALITY).nonzero()[0]
    if len(inexact):
        additions[inexact] = 0.0
        factor, indefinite = dpotrf(system)  # factorᵀ factor = C
        for task in inexact.tolist() if not indefinite else ():
            start = _least_squares_support(factor, task) if count[task] else inside[task]
            additions[task] = _single_exchanges(system, task, start)
    return additions


def _solve_together(system: Matrix, inside: Mask) -> Matrix:
    """(m, m) row i: s where inside[i], and y elsewhere, if s vanishes there."""
    systems = np.where(inside[:, :, None] & inside[:, None, :], system, np.eye(len(system)))
    additions = np.linalg.solve(systems, np.where(inside, -system, 0.0)[:, :, None])[:, :, 0]
    return np.where(inside, additions, system + additions @ system)


def _solve_one_by_one(system: Matrix, inverse: Matrix, inside: Mask, tasks: Indices, values: Matrix) -> None:
    """Writes the rows of these tasks, each by the smaller of two systems: of s inside, or of y outside."""
    for task in tasks:
        row, support = values[task], inside[task].nonzero()[0]
        if 2 * len(support) <= len(system):
            row[:] = _solve_inside(system, task, support)
        else:
            # y is 0 inside, and e_i + s = C⁻¹ y is e_i outside.
            outside = (~inside[task]).nonzero()[0]
            columns = inverse[outside]
            products = dposv(columns[:, outside], (outside == task).astype(np.float64))[1]
            row[:] = products @ columns
            row[task] -= 1.0
            row[outside] = products


def _solve_inside(system: Matrix, task: int, support: Indices) -> Vector:
    row = system[task].copy()
    if len(support):
        columns = system[support]
        additions = dposv(columns[:, support], -system[task, support])[1]
        row += additions @ columns
        row[support] = additions
    return row


def _least_squares_support(factor: Matrix, task: int) -> Mask:
    """(m,) where s is positive by least squares, which may be wrong without an error."""
    from scipy.optimize import nnls  # slow to import, for all processes that train

    m = len(factor)
    try:
        return np.asarray(nnls(factor, -factor[:, task], maxiter=30 * m)[0] > 0)
    except RuntimeError:  # too many iterations
        return np.zeros(m, dtype=np.bool_)


def _single_exchanges(system: Matrix, task: int, start: Mask) -> Vector:
    """(m,) s, by exchanges of the last wrong sign only, which can't cycle but for rounding; 0 if they do.

    Source: Murty, "Note on a Bard-type scheme for solving the complementarity problem", Opsearch 11 (1974).
    """
    inside = start.copy()
    for _ in range(_EXCHANGES * len(system)):
        values = _solve_inside(system, task, inside.nonzero()[0])
        wrong = (values < -_ROUNDING).nonzero()[0]
        if not len(wrong):
            return np.where(inside, np.maximum(values, 0.0), 0.0)
        inside[wrong[-1]] ^= True
    return np.zeros(len(system))


@dataclass(frozen=True)
class UPGrad:
    """Jacobian descent with unconflicting projections: no task's loss rises to first order.

    Task-specific heads keep their plain gradients. Steps at which a projection misses its optimality conditions are
    counted.
    Deviations: projections are exact, up to m·1.2e-7 on the diagonal for dependent gradients. The released code adds
    1e-4 · trace G to the diagonal of G, so that losses may still rise a little, and takes the mean gradient where
    trace G < 1e-4, even under conflict.
    """

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "plain"

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        weights, missed = unconflicting_weights(signal.required_gramian().numpy())
        return Update(torch.from_numpy(weights), state, fallbacks=int(missed))
