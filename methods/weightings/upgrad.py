"""UPGrad: every gradient projected onto the cone of directions without conflict, then the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.linalg.lapack import dposv
from scipy.optimize import nnls

from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.simplex import Matrix, Vector

# Tolerance of the optimality conditions of every projection, for unit gradients.
OPTIMALITY = 1e-8
_PRECISE = 1e-11
_ROUNDING = 1e-12
# Blocks settle within about ten steps; after that, least squares are more reliable.
_MAX_PIVOTS = 25
_PATIENCE = 3


def unconflicting_weights(gramian: Matrix) -> tuple[Vector, bool]:
    """Weights (m,) of the mean of the projections of all gradients onto {x : J x ≥ 0}.

    Gradients are scaled to unit norm first. A task without a gradient has weight 1/m, which has no effect. If gradients
    are linearly dependent, the weights are not unique, but their combination is.
    Returns also whether a projection misses its optimality conditions by more than 1e-8.

    Source: Quinton, Rey: Jacobian descent for multi-objective optimization (2024), Eq. (4) and Proposition 1.
    """
    m = len(gramian)
    norms = np.sqrt(np.maximum(gramian.diagonal(), 0.0))
    weights = np.full(m, 1 / m)
    present = np.flatnonzero(norms > 0)
    if not len(present):
        return weights, False
    local = norms[present]
    cosines = gramian[np.ix_(present, present)] / local[:, None] / local[None, :]
    additions = np.array([_settle_blocks(cosines, task) for task in range(len(present))])
    missed = ~(_violation(cosines, additions) <= _PRECISE)  # also where it is NaN
    if missed.any():
        eigenvalues, vectors = np.linalg.eigh(cosines)
        factor = np.sqrt(np.maximum(eigenvalues, 0.0))[:, None] * vectors.T  # factorᵀ factor = cosines
        for task in np.flatnonzero(missed):
            additions[task] = _nonnegative_least_squares(factor, int(task))
    combined = (local[:, None] * (additions + np.eye(len(present)))).sum(axis=0)
    weights[present] = combined / local / m
    return weights, bool((_violation(cosines, additions) > OPTIMALITY).any())


def _violation(cosines: Matrix, additions: Matrix) -> Vector:
    """(n,) by how much row i violates s ≥ 0, y = C (e_i + s) ≥ 0, s·y = 0: the conditions of projection i."""
    products = (additions + np.eye(len(cosines))) @ cosines
    slackness = np.abs(additions * products).max(axis=1)
    return np.asarray(np.maximum(slackness, np.maximum(-products, -additions).max(axis=1)), dtype=np.float64)


def _settle_blocks(cosines: Matrix, task: int) -> Vector:
    """s (n,) ≥ 0 that minimises ‖e_i + s‖ in the norm of C for i = task; NaN if blocks don't settle.

    Guesses which entries of s are positive, solves for them, and exchanges all entries of the wrong sign; only the last
    of them once their number has stopped decreasing.

    Source: Júdice, Pires, "A block principal pivoting algorithm", Computers & Operations Research 21 (1994).
    """
    n = len(cosines)
    positive = cosines[task] < 0
    fewest, patience = n + 1, _PATIENCE
    for _ in range(_MAX_PIVOTS):
        support = positive.nonzero()[0]
        columns = cosines[:, support]
        solution, singular = dposv(columns[support], -cosines[support, task])[1:] if len(support) else (support, 0)
        if singular:
            break
        values = columns @ solution + cosines[:, task]
        values[support] = solution
        wrong = (values < -_ROUNDING).nonzero()[0]
        if not len(wrong):
            additions = np.zeros(n)
            additions[support] = np.maximum(solution, 0.0)
            return additions
        patience = _PATIENCE if len(wrong) < fewest else patience - 1
        fewest = min(fewest, len(wrong))
        exchanged = wrong if patience >= 0 else wrong[-1:]
        positive[exchanged] = ~positive[exchanged]
    return np.full(n, np.nan)


def _nonnegative_least_squares(factor: Matrix, task: int) -> Vector:
    try:
        return np.asarray(nnls(factor, -factor[:, task], maxiter=30 * len(factor))[0], dtype=np.float64)
    except RuntimeError:  # too many iterations: the gradient isn't projected, and the violation is counted
        return np.zeros(len(factor))


@dataclass(frozen=True)
class UPGrad:
    """Jacobian descent with unconflicting projections: no task's loss rises to first order.

    Task-specific heads keep their plain gradients. Steps at which a projection violates its optimality conditions are
    counted.
    Deviations: projections are exact. The released code adds 1e-4 · trace G to the diagonal of G, so that losses may
    still rise a little, and takes the mean gradient where trace G < 1e-4, even under conflict.
    """

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "plain"

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        weights, missed = unconflicting_weights(signal.required_gramian().numpy())
        return Update(torch.from_numpy(weights), state, fallbacks=int(missed))
