"""What a run saw of its data: a hash of the images and targets in each part.

Names, folders, times and the form of storage don't count, so a copied data set is the same data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor

from datasets.contract import IMAGES, Source, Split, Splits

PARTS = ("train", "validation", "test")
WHOLE = "whole"
_ROWS_AT_ONCE = 256


def fingerprint(splits: Splits) -> dict[str, str]:
    """16 hexadecimal digits of each part, by its name, and of the whole.

    Those of a part change with any image, any target and their order. Those of the whole don't depend on which row is
    in which part: they are equal for partitions drawn with different seeds from the same data.
    """
    return {**{part: _of_split(getattr(splits, part)) for part in PARTS}, WHOLE: _of_whole(splits)}


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


def _of_whole(splits: Splits) -> str:
    digest = hashlib.sha256()
    for sources in zip(*(getattr(splits, part) for part in PARTS), strict=True):
        rows = sorted(row for source in sources for row in _row_digests(source))
        digest.update(f"{len(rows)}\n".encode())
        digest.update(b"".join(rows))
    return digest.hexdigest()[:16]


def _row_digests(source: Source) -> Iterator[bytes]:
    """Of each row, a digest of its image and targets."""
    arrays = {IMAGES: source.images, **source.targets}
    for places in torch.arange(len(source)).split(_ROWS_AT_ONCE) if len(source) else ():
        at = source.rows_at(places)
        columns = [
            source.digests[key][at.numpy()] if key in source.digests else _row_bytes(arrays[key][at])
            for key in sorted(arrays)
        ]
        for row in np.concatenate(columns, axis=1):
            yield xxhash.xxh3_128_digest(row.tobytes())


def _row_bytes(rows: Tensor) -> NDArray[np.uint8]:
    """The bytes of each row, (n, bytes)."""
    return np.ascontiguousarray(rows.cpu().numpy()).reshape(len(rows), -1).view(np.uint8)
