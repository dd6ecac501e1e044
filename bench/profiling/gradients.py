"""Families of task gradients, easy and hard ones, for the benchmark of solvers and for tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

# 1 + cosine of the pairs in each family of opposed gradients.
OPPOSED = {"opposed": 1e-3, "opposed 1e-4": 1e-4, "opposed 1e-6": 1e-6, "opposed 1e-8": 1e-8}
# Linearly independent, and so they are in single precision.
REGULAR = ("random", "aligned", "spread", "opposed", "opposed 1e-4")
# Linearly independent, but a Gramian from single precision can't show it, at least for many tasks.
NEARLY_DEPENDENT = ("opposed 1e-6", "opposed 1e-8", "collinear")
DEPENDENT = ("duplicated", "sums", "low rank", "rank 1", "stationary", "zero row", "zero", "sparse")
FAMILIES = REGULAR + NEARLY_DEPENDENT + DEPENDENT

# Norms of "spread" range from 10^-4 to 10^4.
_MAGNITUDES = 4.0
# The relative difference between the directions of a pair in "collinear".
_DIFFERENCE = 1e-7
# The units that each task of "sparse" reads.
_READ = 3


def jacobian(family: str, m: int, seed: int = 0) -> Rows:
    """The gradients (m, 3m + 5) of a family, the same at every call.

    random: independent entries. aligned: the same with mean 2, so products are positive. spread: norms over 8 orders of
    magnitude. opposed: pairs with 1 + cosine as in `OPPOSED`. collinear: pairs of one direction up to 1e-7, of
    different norms. duplicated: pairs of equal gradients. sums: the last is the sum of the others. low rank: rank m/2.
    rank 1: multiples of one gradient, of both signs. stationary: a sum with positive factors is 0. zero row: the first
    is 0. zero: all are 0. sparse: of the weights of a layer with m/2 units, where each task reads three of them.

    A pair is one gradient of the first half and one of the second; with odd m, one gradient has no partner.
    """
    rng = np.random.default_rng([seed, m, FAMILIES.index(family)])
    rows = rng.normal(size=(m, 3 * m + 5))
    first, last = rows[: m // 2], rows[m - m // 2 :]  # views of both halves
    if family == "aligned":
        rows += 2.0
    elif family == "spread":
        magnitudes = np.linspace(-_MAGNITUDES, _MAGNITUDES, m) if m > 1 else np.zeros(1)
        rows *= 10 ** rng.permutation(magnitudes)[:, None] / _norms(rows)
    elif family in OPPOSED:
        last[:] = _norms(last) * _turned(first, last, OPPOSED[family] - 1)
    elif family == "collinear":
        last[:] = rng.uniform(0.5, 2.0, size=(m // 2, 1)) * (first + _DIFFERENCE * last)
    elif family == "duplicated":
        last[:] = first
    elif family == "sums" and m > 1:
        rows[-1] = rows[:-1].sum(axis=0)
    elif family in ("low rank", "rank 1"):
        rank = 1 if family == "rank 1" else max(m // 2, 1)
        rows = rng.normal(size=(m, rank)) @ rows[:rank]
    elif family == "stationary":
        rows[-1] = -rng.uniform(0.5, 2.0, size=m - 1) @ rows[:-1]
    elif family == "zero row":
        rows[0] = 0.0
    elif family == "zero":
        rows[:] = 0.0
    elif family == "sparse":
        units = max(m // 2, 1)
        own = np.arange(rows.shape[1]) % units == np.arange(units)[:, None]  # each unit has weights of its own
        read = rng.random((m, units)).argsort(axis=1).argsort(axis=1) < _READ
        rows = (rng.normal(size=(m, units)) * read) @ (rows[:units] * own)
    return rows


def _norms(rows: Rows) -> Rows:
    return np.linalg.norm(rows, axis=1, keepdims=True)


def _turned(axes: Rows, rows: Rows, cosine: float) -> Rows:
    """Unit vectors in the planes of each axis and row, with this cosine to the axis."""
    units = axes / _norms(axes)
    normals = rows - (rows * units).sum(axis=1, keepdims=True) * units
    return cosine * units + np.sqrt(1 - cosine**2) * normals / _norms(normals)
