"""Exact minimisation over the simplex by active sets (Wolfe 1976), for objectives solvable on affine hulls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

# Relative to the size of the gradient; two digits above the rounding of a product of vectors.
OPTIMALITY = 1e-12


def minimise_over_simplex(
    gradient: Callable[[Vector], Vector],
    affine_minimiser: Callable[[NDArray[np.intp], Vector], Vector],
    start: int,
    n: int,
) -> Vector:
    """The minimiser (n,) of a convex function over {w ≥ 0, Σw = 1}.

    gradient(w) -> (n,). affine_minimiser(support, w[support]) -> the minimiser over all w with Σw = 1 that vanish
    outside `support`, entries of any sign; where there is none, a point beyond the boundary in a direction of descent.
    start: the vertex to begin at. Ends when no vertex improves on w, or when rounding lets none enter any more.

    Source: Wolfe, "Finding the nearest point in a polytope", Math. Programming 11 (1976).
    """
    w = np.zeros(n)
    w[start] = 1.0
    support = np.array([start])
    for _ in range(10 * n + 50):
        slope = gradient(w)
        entering = int(np.argmin(slope))
        gap = w @ slope - slope[entering]
        if gap <= OPTIMALITY * np.abs(slope).max() or entering in support:
            break
        support = np.append(support, entering)
        w, support = _descend(affine_minimiser, w, support)
    return w


def _descend(
    affine_minimiser: Callable[[NDArray[np.intp], Vector], Vector], w: Vector, support: NDArray[np.intp]
) -> tuple[Vector, NDArray[np.intp]]:
    """Moves to the minimiser over the support's hull, dropping vertices where the way there leaves the simplex."""
    inside = w[support]
    while True:
        target = affine_minimiser(support, inside)
        if (target > 0).all():
            break
        leaving = target <= 0
        # The vertex that has just entered has weight 0; where it should stay there, a step of length 0 drops it.
        distance = inside[leaving] - target[leaving]
        way = np.divide(inside[leaving], distance, out=np.zeros_like(distance), where=distance > 0)
        length = way.min()
        inside = inside + length * (target - inside)
        keep = np.ones(len(support), dtype=bool)
        keep[np.flatnonzero(leaving)[way <= length]] = False
        support, inside = support[keep], inside[keep]
        inside = inside / inside.sum()
        if len(support) == 1:
            target = np.ones(1)
            break
    moved = np.zeros_like(w)
    moved[support] = target
    return moved, support


def solve_with_unit_sum(gram: Matrix, right: Matrix) -> Matrix:
    """Solves gram·x + ν1 = right[:-1] with Σx = right[-1], column by column; least squares where it is singular."""
    n = len(gram)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = gram
    system[n, n] = 0.0
    try:
        solution = np.linalg.solve(system, right)
        if np.isfinite(solution).all():
            return np.asarray(solution[:n], dtype=np.float64)
    except np.linalg.LinAlgError:
        pass
    return np.asarray(np.linalg.lstsq(system, right, rcond=None)[0][:n], dtype=np.float64)
