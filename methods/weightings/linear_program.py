"""Small linear programs over the simplex, by the dual simplex method on a dense table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from methods.weightings.rounding import FLOAT32_EPSILON
from methods.weightings.simplex import Matrix, Vector

Indices = NDArray[np.intp]

# Below these, a weight and a pivot may be rounding of float64.
_NEGATIVE = 1e-12
_NEGLIGIBLE = 1e-11


def maximise_over_simplex(gain: Vector, rows: Matrix, bounds: Vector, scales: Vector) -> Vector | None:
    """argmax of w·gain (n,) over {w ≥ 0, Σw = 1, rows @ w ≥ bounds}, a vertex; None if the set is empty.

    rows: (k, n). bounds: (k,), −∞ for a row without a condition. A row may miss its bound by the rounding of float32.
    scales: (n,) ≥ 0, the size of what each weight multiplies: of weights times these, rounding is relative to the sum.

    Starts at the vertex of the largest gain, which no exchange improves, and exchanges conditions until all hold.

    Source: Lemke, "The dual method of solving the linear programming problem", Naval Research Logistics 1 (1954).
    """
    rows, bounds = rows[np.isfinite(bounds)], bounds[np.isfinite(bounds)]
    n, k = len(gain), len(rows)
    scales = np.where(scales > 0, scales, 1.0)
    magnitudes = np.abs(rows)
    # Of all variables, the n weights and the k distances to bounds: their sizes when weights times scales are 1.
    units = np.append(1 / scales, (magnitudes / scales).max(axis=1, initial=0.0))
    units[units == 0] = 1.0
    table, basic, free = _first_table(gain, rows, bounds)
    for pivot in range(20 * (n + k) + 50):
        values = np.zeros(n + k)
        values[basic] = table[:-1, 0]
        sizes = np.abs(values[:n])
        # Relative to its terms, a row's product with n weights is known up to n roundings of float32.
        allowed = np.append(
            _NEGATIVE * (sizes @ scales) / scales, n * FLOAT32_EPSILON * (magnitudes @ sizes + np.abs(bounds))
        )
        short = (values < -allowed)[basic]
        if not short.any():
            w = np.maximum(values[:n], 0.0)
            return np.asarray(w / w.sum(), dtype=np.float64)
        # The variable that falls short the most leaves. If that may cycle, the first of all that fall short leaves.
        hasty = pivot < 5 * (n + k)
        order = table[:-1, 0] / units[basic] if hasty else basic
        leaving = int(np.where(short, order, np.inf).argmin())
        row = table[leaving, 1:] * units[free]
        possible = row > _NEGLIGIBLE * np.abs(row).max(initial=0.0)
        if not possible.any():
            return None
        ratios = np.full(n - 1, np.inf)
        np.divide(np.maximum(-table[-1, 1:] * units[free], 0.0), row, out=ratios, where=possible)
        nearest = ratios <= ratios.min() * (1 + 1e-12)
        chosen = int(np.where(nearest, -row if hasty else free, np.inf).argmin())
        _exchange(table, leaving, chosen + 1)
        basic[leaving], free[chosen] = free[chosen], basic[leaving]
    return None


def _first_table(gain: Vector, rows: Matrix, bounds: Vector) -> tuple[Matrix, Indices, Indices]:
    """The table at the vertex of the largest gain, and the variables that are basic (k + 1) and free (n − 1).

    Variables 0 to n − 1 are the weights, and n + j is by how much row j exceeds its bound. A line of the table gives a
    basic variable, the last line the objective, as a constant and the factors of the free variables.
    """
    n, k = len(gain), len(rows)
    first = int(gain.argmax())
    others = np.delete(np.arange(n), first)
    table = np.empty((k + 2, n))
    table[0, 0], table[0, 1:] = 1.0, -1.0
    table[1:-1, 0], table[1:-1, 1:] = rows[:, first] - bounds, rows[:, others] - rows[:, [first]]
    table[-1, 0], table[-1, 1:] = gain[first], gain[others] - gain[first]
    return table, np.append(first, n + np.arange(k)), others


def _exchange(table: Matrix, line: int, column: int) -> None:
    """Makes the basic variable of a line free, and the free one of a column basic, in place."""
    entering = -table[line] / table[line, column]
    entering[column] = 1.0 / table[line, column]
    factors = table[:, column].copy()
    table[:, column] = 0.0
    table += np.outer(factors, entering)
    table[line] = entering
