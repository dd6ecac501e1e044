"""A partition of all images of a data set that has an official one: each seed of a study draws its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.contract import Source

_STREAM = 1449  # no other random stream begins with the seed of a partition and this number


def drawn_parts(sizes: Sequence[int], seed: int) -> NDArray[np.int64]:
    """The part (N,) of each image: 0, 1, ..., each as often as `sizes` says, in random order."""
    return np.random.default_rng([seed, _STREAM]).permutation(np.repeat(np.arange(len(sizes)), sizes))


def members_of(source: Source, parts: NDArray[np.int64]) -> list[Source]:
    """The images of each part, 0 to the last, in their order. All share the arrays of the source.

    parts: (N,) of each image of the source.
    """
    places = [torch.from_numpy(np.flatnonzero(parts == part)) for part in range(int(parts.max()) + 1)]
    return [replace(source, rows=source.rows_at(of_part)) for of_part in places]
