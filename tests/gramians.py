"""A zoo of Gramians: the shapes that a weighting meets in training, the easy and the degenerate ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def jacobian(kind: str, m: int) -> np.ndarray:
    """A float64 Jacobian (m, P) of this kind."""
    rng = np.random.default_rng([m, len(kind)])
    rows = rng.normal(size=(m, 3 * m + 5))
    if kind == "aligned":
        return rows + 2.0
    if kind == "spread":
        return rows * 10 ** rng.uniform(-6, 6, size=(m, 1))
    if kind == "opposed":
        rows[1::2] = -rows[::2][: len(rows[1::2])] + 0.05 * rows[1::2]
        return rows
    if kind == "duplicated":
        rows[m // 2 :] = rows[: m - m // 2]
        return rows
    if kind == "low rank":
        return rng.normal(size=(m, max(1, m // 2))) @ rng.normal(size=(max(1, m // 2), 50))
    if kind == "zero row":
        rows[0] = 0
        return rows
    if kind == "zero":
        return 0 * rows
    return rows


REGULAR = ("random", "aligned", "spread", "opposed")
DEGENERATE = ("duplicated", "low rank", "zero row", "zero")
SIZES = (1, 2, 3, 11, 40, 100)


def gramian(kind: str, m: int) -> Tensor:
    rows = jacobian(kind, m)
    return torch.from_numpy(rows @ rows.T)
