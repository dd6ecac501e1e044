"""A zoo of Gramians: the shapes that a weighting meets in training, easy and hard ones, exact and as training has them.

Import families and Jacobians from here, too: tests and the benchmark of solvers share them.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bench.profiling.gradients import DEPENDENT, FAMILIES, NEARLY_DEPENDENT, REGULAR, jacobian
from methods.rows import gramian_of

__all__ = [
    "DEGENERATE",
    "DEPENDENT",
    "FAMILIES",
    "NEARLY_DEPENDENT",
    "REGULAR",
    "SIZES",
    "gramian",
    "jacobian",
    "least_eigenvalue",
]

# "single": of a float32 Jacobian, as in training. "double": exact up to the rounding of float64.
Precision = Literal["single", "double"]

# Of these, neither precision has independent gradients (with at least two tasks).
DEGENERATE = ("collinear", *DEPENDENT)
SIZES = (1, 2, 3, 5, 13, 40, 100)


def gramian(family: str, m: int, precision: Precision = "double", seed: int = 0) -> Tensor:
    """G (m, m) in float64, from a Jacobian of this precision."""
    return _gramian(family, m, precision, seed).clone()


@functools.cache
def _gramian(family: str, m: int, precision: Precision, seed: int) -> Tensor:
    rows = torch.from_numpy(jacobian(family, m, seed))
    return gramian_of(rows.float()) if precision == "single" else rows @ rows.T


def least_eigenvalue(gram: np.ndarray) -> float:
    """Of the cosines of the gradients that aren't zero; 1 if all are."""
    present = gram.diagonal() > 0
    if not present.any():
        return 1.0
    norms = np.sqrt(gram.diagonal()[present])
    return float(np.linalg.eigvalsh(gram[np.ix_(present, present)] / np.outer(norms, norms)).min())
