"""Conversion of NYUv2's arrays, channels last, to what is stored. Imports no torch, since decoding needs none.

Images and labels are stored as bytes. Depth and normals stay float32: float16 would take half the space, but change
depth by up to 2 mm at 4 m, and results would depend on the storage format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datasets.decoding.prepared import Array

Shape = tuple[int | None, ...]

CLASSES = 13
UNLABELLED = -1


def to_uint8(image: Array) -> Array:
    """An image in [0, 1], as uint8.

    Raises:
        ValueError: it isn't in [0, 1].
    """
    values = image.astype(np.float32)
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"expected image values in [0, 1], found {values.min():g} to {values.max():g}")
    return np.round(values * 255).astype(np.uint8)


def to_labels(labels: Array) -> Array:
    """Labels as int8.

    Raises:
        ValueError: one is not a class nor UNLABELLED.
    """
    odd = labels[~np.isin(labels, np.arange(UNLABELLED, CLASSES))]
    if odd.size:
        raise ValueError(f"expected whole labels from {UNLABELLED} to {CLASSES - 1}, found {odd[0]}")
    return labels.astype(np.int8)


def channels_first(array: Array) -> Array:
    """(H, W, C) as (C, H, W) in float32.

    Raises:
        ValueError: a value is not finite.
    """
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"expected finite values, found {values[~np.isfinite(values)][0]}")
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


@dataclass(frozen=True)
class FromChannelsFirst:
    """A function from an array, channels first, of `shape` (channels last; None: any extent) to what is stored."""

    shape: Shape
    convert: Callable[[Array], Array]

    def __call__(self, row: Array) -> Array:
        found = np.moveaxis(row, 0, -1) if row.ndim == 3 else row  # (C, H, W) to (H, W, C)
        extents = zip(found.shape, self.shape, strict=False)
        if found.ndim != len(self.shape) or not all(wanted in (None, extent) for extent, wanted in extents):
            expected = f"height, width and channels {_extents(self.shape)}"
            raise ValueError(f"expected {expected}, found {_extents(found.shape)}")
        return self.convert(found)


def _extents(shape: Shape) -> str:
    return "×".join("any" if extent is None else str(extent) for extent in shape)
