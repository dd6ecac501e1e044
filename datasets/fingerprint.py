"""What a run saw of its data: a hash of the images and targets in each part.

Names, folders, times and the form of storage don't count, so a copied data set is the same data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.contract import IMAGES, Source, Split, Splits

PARTS = ("train", "validation", "test")
_ROWS_AT_ONCE = 256


def fingerprint(splits: Splits) -> dict[str, str]:
    """Of each part, by its name: 16 hexadecimal digits that change with any image, any target and their order."""
    return {part: _of_split(getattr(splits, part)) for part in PARTS}


def _of_split(split: Split) -> str:
    digest = hashlib.sha256()
    for source in split:
        arrays = {IMAGES: source.images, **source.targets}
        for key in sorted(arrays):
            digest.update(f"{key} {len(source)} {arrays[key].dtype} {tuple(arrays[key].shape[1:])}\n".encode())
            for content in _contents(source, arrays[key], source.digests.get(key)):
                digest.update(content)
    return digest.hexdigest()[:16]


def _contents(source: Source, array: Tensor, digests: NDArray[np.uint8] | None) -> Iterator[bytes]:
    """The rows of a source in order, or their hashes where these are known."""
    if digests is not None:
        yield digests[source.rows_at(torch.arange(len(source))).numpy()].tobytes()
        return
    for places in torch.arange(len(source)).split(_ROWS_AT_ONCE):
        yield array[source.rows_at(places)].cpu().contiguous().numpy().tobytes()
