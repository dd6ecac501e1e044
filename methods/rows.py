"""Arithmetic on the rows of a Jacobian (m, P), one block of columns at a time, since J is larger than any cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Columns of a block in products, and entries of a block elsewhere: as much as fits in a core's cache.
_COLUMNS = 4096
_ENTRIES = 2**18


def gramian_of(rows: Tensor) -> Tensor:
    """J Jᵀ (m, m) of rows (m, P), symmetric, where sums over blocks of _COLUMNS columns are added in float64."""
    products = cross_gramian_of(rows, rows)
    return (products + products.T) / 2  # single precision may round both halves differently


def cross_gramian_of(first: Tensor, second: Tensor) -> Tensor:
    """J₁ J₂ᵀ (m, m) of rows (m, P) each, summed as in `gramian_of`."""
    m, size = first.shape
    whole = size - size % _COLUMNS
    blocks, others = (rows[:, :whole].view(m, -1, _COLUMNS).transpose(0, 1) for rows in (first, second))
    rest = first[:, whole:] @ second[:, whole:].T
    return torch.bmm(blocks, others.transpose(1, 2)).sum(dim=0, dtype=torch.float64) + rest.double()


def column_blocks(rows: Tensor) -> Iterator[slice]:
    """Slices that together cover all columns of rows (m, P), for work that reads each entry several times."""
    width = max(_ENTRIES // len(rows), 1)
    return (slice(start, start + width) for start in range(0, rows.shape[1], width))
