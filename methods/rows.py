"""Arithmetic on the rows of a Jacobian (m, P), which is larger than any cache: a block of columns at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# So many columns are multiplied at a time, and so many entries looked at: as much as stays in a core's cache.
_COLUMNS = 4096
_ENTRIES = 2**18


def gramian_of(rows: Tensor) -> Tensor:
    """J Jᵀ (m, m) of rows (m, P), in float64 as far as sums of products over _COLUMNS columns go."""
    m, size = rows.shape
    whole = size - size % _COLUMNS
    blocks = rows[:, :whole].view(m, -1, _COLUMNS).transpose(0, 1)
    rest = rows[:, whole:]
    return torch.bmm(blocks, blocks.transpose(1, 2)).sum(dim=0, dtype=torch.float64) + (rest @ rest.T).double()


def column_blocks(rows: Tensor) -> Iterator[slice]:
    """Slices that together are all columns of rows (m, P), for work that looks at each entry several times."""
    width = max(_ENTRIES // len(rows), 1)
    return (slice(start, start + width) for start in range(0, rows.shape[1], width))
