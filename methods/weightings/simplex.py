"""Exact minimisation over the simplex by active sets, for convex objectives solvable on affine hulls.

After a few single vertices, blocks are exchanged, which solves most problems in a few steps; otherwise, one vertex at a
time.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dgesv

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# The optimality gap may be this large relative to the gradient, or as large as the rounding of the gradient's terms.
OPTIMALITY = 1e-12
_ROUNDING = 64 * float(np.finfo(np.float64).eps)

# So many vertices are tried one at a time before blocks of them: a solution may have few.
_FIRST_STEPS = 3
# Blocks settle within about six steps; after that, one vertex at a time is more reliable.
_MAX_PIVOTS = 10
_UNIT_SUM = 1e-10

Gradient = Callable[[Vector], tuple[Vector, float]]
AffineMinimiser = Callable[[NDArray[np.intp], Vector], Vector]


def minimise_over_simplex(gradient: Gradient, affine_minimiser: AffineMinimiser, start: int, n: int) -> Vector:
    """The minimiser (n,) of a convex function over {w ≥ 0, Σw = 1}.

    gradient(w): the gradient (n,), and the size of the terms that it is a sum of.
    affine_minimiser(support, w[support]): the minimiser over all w with Σw = 1 that vanish outside `support`, with
        entries of any sign; if there is none, a point beyond the boundary in a direction of descent.
    start: the first vertex of the search that exchanges one vertex at a time.

    Ends when no vertex improves w, or when rounding prevents further progress.

    Source: Wolfe, "Finding the nearest point in a polytope", Math. Programming 11 (1976).
    """
    w = np.zeros(n)
    w[start] = 1.0
    support = np.array([start])
    for step in range(10 * n + 50):
        if step == _FIRST_STEPS:
            settled = _settle_blocks(gradient, affine_minimiser, n)
            if settled is not None:
                return settled
        slope, terms = gradient(w)
        entering = int(slope.argmin())
        if w @ slope - slope[entering] <= _allowed(slope, terms) or (support == entering).any():
            break
        before = w
        w, support = _descend(affine_minimiser, w, np.append(support, entering))
        if (w == before).all():  # the vertex left at once, and would enter again forever
            break
    return w


def _allowed(slope: Vector, terms: float) -> float:
    return OPTIMALITY * float(np.abs(slope).max()) + _ROUNDING * terms


def _settle_blocks(gradient: Gradient, affine_minimiser: AffineMinimiser, n: int) -> Vector | None:
    """The minimiser, or None if the blocks don't settle at a point that is optimal up to rounding.

    Starts with all vertices. All vertices of negative weight leave, and all that would improve enter, at once.

    Source: Júdice, Pires, "A block principal pivoting algorithm", Computers & Operations Research 21 (1994).
    """
    inside = np.ones(n, dtype=bool)
    for _ in range(_MAX_PIVOTS):
        support = inside.nonzero()[0]
        if not len(support):
            break
        w = np.zeros(n)
        w[support] = affine_minimiser(support, np.full(len(support), 1 / len(support)))
        slope, terms = gradient(w)
        allowed = _allowed(slope, terms)
        wrong = np.where(inside, w < 0, slope < w @ slope - allowed)
        if not wrong.any():
            return w if w @ slope - slope.min() <= allowed and abs(w.sum() - 1) <= _UNIT_SUM else None
        inside ^= wrong
    return None


def _descend(
    affine_minimiser: AffineMinimiser, w: Vector, support: NDArray[np.intp]
) -> tuple[Vector, NDArray[np.intp]]:
    """Moves to the minimiser over the support's hull, dropping vertices where the path leaves the simplex."""
    inside = w[support]
    while True:
        target = affine_minimiser(support, inside)
        if (target > 0).all():
            break
        leaving = target <= 0
        # The vertex that has just entered has weight 0; if it should stay 0, a step of length 0 drops it.
        distance = inside[leaving] - target[leaving]
        ratios = np.divide(inside[leaving], distance, out=np.zeros_like(distance), where=distance > 0)
        length = ratios.min()
        inside = inside + length * (target - inside)
        keep = np.ones(len(support), dtype=bool)
        keep[np.flatnonzero(leaving)[ratios <= length]] = False
        support, inside = support[keep], inside[keep]
        inside = inside / inside.sum()
        if len(support) == 1:
            target = np.ones(1)
            break
    moved = np.zeros_like(w)
    moved[support] = target
    return moved, support


def solve_with_unit_sum(gram: Matrix, right: Matrix) -> Matrix:
    """Solves gram·x + ν1 = right[:-1] with Σx = right[-1], column by column; by least squares if it is singular."""
    n = len(gram)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = gram
    system[n, n] = 0.0
    solution, singular = dgesv(system, right)[2:]
    if singular or not isfinite(solution.sum()):
        solution = np.linalg.lstsq(system, right, rcond=None)[0]
    return np.asarray(solution[:n], dtype=np.float64)


def project_onto_simplex(point: Vector) -> Vector:
    """The point of {w ≥ 0, Σw = 1} nearest to `point`, (n,).

    Source: Held, Wolfe, Crowder, "Validation of subgradient optimization", Math. Programming 6 (1974).
    """
    shifted = point - point.max()  # the result is the same, with less cancellation in the sums
    descending = np.sort(shifted)[::-1]
    thresholds = (descending.cumsum() - 1) / np.arange(1, len(point) + 1)
    last = (descending > thresholds).nonzero()[0][-1]
    return np.asarray(np.maximum(shifted - thresholds[last], 0.0), dtype=np.float64)
