"""UPGrad: every gradient projected onto the cone of directions without conflict, then the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv, dpotrf
from scipy.optimize import nnls

from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.simplex import Matrix, Vector

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]

# Tolerance of the optimality conditions of every projection, for independent gradients.
OPTIMALITY = 1e-8
# Times m: what single precision can't tell from 0 in the Gramian of unit gradients.
SINGLE = float(np.finfo(np.float32).eps)
_ROUNDING = 1e-12
# Signs are exchanged while at most this share of the wrong ones is left by each step, but for _PATIENCE steps. After
# that, least squares are more reliable.
_LEFT, _PATIENCE = 0.75, 1
# Up to this many tasks, one call for all projections is faster than a smaller system for each.
_TOGETHER = 24


def unconflicting_weights(gramian: Matrix) -> tuple[Vector, bool]:
    """Weights (m,) of the mean of the projections of all gradients onto {x : J x ≥ 0}.

    Gradients are scaled to unit norm first. A task without a gradient has weight 1/m, which has no effect. If single
    precision can't tell gradients from dependent ones (an eigenvalue up to m·1.2e-7), weights are not unique, and
    m·1.2e-7 is added to the diagonal.
    Returns also whether a projection misses its optimality conditions by more than 1e-8, or m·1.2e-7 if gradients are
    dependent, relative to the sum of its weights.

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
    identity, rounding = np.eye(m), m * SINGLE
    dependent = bool(dpotrf(cosines - rounding * identity)[1])
    coefficients = identity + _additions(cosines, rounding if dependent else 0.0)
    # Both are ≥ 0, and one of each pair is 0, where a projection is optimal.
    wrong = np.abs(np.minimum(coefficients - identity, coefficients @ cosines))
    gap = float((wrong.max(axis=1) / coefficients.sum(axis=1)).max())
    return norms @ coefficients / norms / m, not gap <= (rounding if dependent else OPTIMALITY)


def _additions(cosines: Matrix, ridge: float) -> Matrix:
    """(m, m) row i: s ≥ 0 that minimises ‖e_i + s‖ in the norm of C = cosines + ridge·I.

    For all i at once, guesses which entries of s are positive, solves for them, and exchanges those of the wrong sign:
    of s where it is positive, and of y = C (e_i + s) elsewhere.

    Source: Júdice, Pires, "A block principal pivoting algorithm", Computers & Operations Research 21 (1994).
    """
    m = len(cosines)
    system: Matrix = cosines + ridge * np.eye(m)
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
    given_up = count.nonzero()[0]
    if len(given_up):
        eigenvalues, vectors = np.linalg.eigh(system)
        kept = eigenvalues > 1.5 * ridge  # the others are rounding, and fewer rows are faster
        factor = np.sqrt(eigenvalues[kept])[:, None] * vectors[:, kept].T  # factorᵀ factor = C
        for task in given_up:
            additions[task] = _nonnegative_least_squares(factor, int(task))
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
        if not len(support):
            row[:] = system[task]
        elif 2 * len(support) <= len(system):
            columns = system[support]
            additions = dposv(columns[:, support], -system[task, support])[1]
            row[:] = additions @ columns + system[task]
            row[support] = additions
        else:
            # y is 0 inside, and e_i + s = C⁻¹ y is e_i outside.
            outside = (~inside[task]).nonzero()[0]
            columns = inverse[outside]
            products = dposv(columns[:, outside], (outside == task).astype(np.float64))[1]
            row[:] = products @ columns
            row[task] -= 1.0
            row[outside] = products


def _nonnegative_least_squares(factor: Matrix, task: int) -> Vector:
    m = factor.shape[1]
    try:
        return np.asarray(nnls(factor, -factor[:, task], maxiter=30 * m)[0], dtype=np.float64)
    except RuntimeError:  # too many iterations: the gradient isn't projected, and the violation is counted
        return np.zeros(m)


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
