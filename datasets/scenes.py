"""What NYUv2's files must hold, and their conversion to what is stored.

The reader and `python -m bench.data check` both use `SceneConversion`, so they accept the same files. Imports no torch,
since decoding needs none.

Images and labels are stored as bytes. Depth and normals stay float32: float16 would take half the space, but change
depth by up to 2 mm at 4 m, and results would depend on the storage format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.decoding.prepared import Array
from datasets.errors import DataError

CLASSES = 13
UNLABELLED = -1
DEEPEST = 20  # metres; the sensor's range is half of it, and other units give more
MILLIMETRES = 1500  # more than the sensor's range in centimetres, and less than the depth of a room in millimetres
LENGTH_TOLERANCE, FEW = 0.05, 0.01
ROUNDING = 1e-4  # by which interpolation may leave [0, 1]; a step of a byte is 40 times as large
# Part of the keys of decoded arrays. Raise it with every change of a check or conversion in this module, so that
# arrays which were decoded by other rules aren't used.
RULES = 3

Size = tuple[int, int]  # height, width


def to_uint8(image: Array) -> Array:
    """An image in [0, 1], as uint8.

    Raises:
        ValueError: it isn't in [0, 1].
    """
    values = image.astype(np.float32)
    low, high = values.min(), values.max()
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        advice = " (stored as 0 to 255? divide by 255)" if low >= 0 and 1 < high <= 255 else ""
        raise ValueError(f"expected image values in [0, 1], found {low:g} to {high:g}{advice}")
    return np.round(values.clip(0, 1) * 255).astype(np.uint8)


def to_labels(labels: Array) -> Array:
    """Labels as int8.

    Raises:
        ValueError: one is not a class nor UNLABELLED.
    """
    odd = labels[~np.isin(labels, np.arange(UNLABELLED, CLASSES))]
    if odd.size:
        advice = " (255 for pixels without a label? store -1)" if (odd == 255).all() else ""
        if (odd == CLASSES).all() and labels.min() >= 0:
            advice = " (classes numbered from 1? subtract 1)"
        raise ValueError(f"expected whole labels from {UNLABELLED} to {CLASSES - 1}, found {odd[0]:g}{advice}")
    return labels.astype(np.int8)


def to_depth(depth: Array) -> Array:
    """Depths in metres (H, W, 1), as (1, H, W) in float32; 0 where unknown.

    Raises:
        ValueError: one is not finite, negative, or larger than DEEPEST.
    """
    values = channels_first(depth)
    low, high = values.min(), values.max()
    if low < 0:
        advice = " (negative where unknown? store 0)"
    elif high > MILLIMETRES:
        advice = " (in millimetres? divide by 1000)"
    else:
        advice = " (in centimetres, or scaled to 0 to 255? store metres)"
    if low < 0 or high > DEEPEST:
        raise ValueError(f"expected depths from 0 to {DEEPEST} m, found {low:g} to {high:g}{advice}")
    return values


def to_normals(normals: Array) -> Array:
    """Normals (H, W, 3), as (3, H, W) in float32; 0 where unknown.

    Components must be coded as -1 to 1. They are taken as coded as 0 to 1, or as 0 to 255, if none is negative and most
    of the known normals have length 1 after decoding, and more of them than before. A wall seen straight on may have no
    negative component either; its normals have length 1 as they are.

    Raises:
        ValueError: a component is not finite or beyond 1, or normals are coded as 0 to 1 or 0 to 255.
    """
    values = channels_first(normals)
    low, high = values.min(), values.max()
    top, formula = (255, "2·x / 255 - 1") if high > 1 else (1, "2·x - 1")
    if low >= 0 and _unit_share(np.multiply(values, np.float32(2 / top)) - 1) > max(0.5, _unit_share(values)):
        raise ValueError(
            f"expected unit normals with components from -1 to 1, found them coded as 0 to {top} "
            f"(decode them: {formula})"
        )
    if max(high, -low) > 1 + LENGTH_TOLERANCE:
        raise ValueError(f"expected unit normals with components from -1 to 1, found {low:g} to {high:g}")
    return values


def _unit_share(normals: Array) -> float:
    """The share of the known normals (3, H, W) that have length 1."""
    lengths = np.linalg.norm(normals, axis=-3)
    known = lengths[lengths > LENGTH_TOLERANCE]
    return float(np.mean(np.abs(known - 1) <= LENGTH_TOLERANCE)) if len(known) else 0.0


def channels_first(array: Array) -> Array:
    """(H, W, C) as (C, H, W) in float32.

    Raises:
        ValueError: a value is not finite.
    """
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"expected finite values, found {values[~np.isfinite(values)][0]} (unknown? store 0)")
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


def smooth(image: Array, size: Size) -> Array:
    """An image (H, W, 3) in uint8 in another size: bilinear, with antialiasing where it shrinks."""
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def nearest(values: Array, size: Size) -> Array:
    """Values (..., H, W) in another size, each that of the nearest pixel.

    Averages would be no measurements: of two labels, of depths on both sides of an edge, or of a known and an unknown
    depth or normal.
    """
    rows, columns = (
        np.floor((np.arange(wanted) + 0.5) * found / wanted).astype(int)
        for wanted, found in zip(size, values.shape[-2:], strict=True)
    )
    return np.ascontiguousarray(values[..., rows[:, None], columns])


def label_oddness(labels: Array) -> str:
    return "no pixel has a label" if (labels == UNLABELLED).all() else ""


def depth_oddness(depth: Array) -> str:
    if not depth.any():
        return "no pixel has a depth"
    return "no depth is above 1 m, as if scaled to 0 to 1" if depth.max() <= 1 else ""


def normal_oddness(normals: Array) -> str:
    """normals: (3, H, W) or (N, 3, H, W)"""
    lengths = np.linalg.norm(normals.astype(np.float64), axis=-3)
    known = lengths[lengths > 0]
    if not len(known):
        return "no pixel has a normal"
    share = float(np.mean(np.abs(known - 1) > LENGTH_TOLERANCE))
    return f"{share:.0%} of the normals are not of length 1" if share > FEW else ""


@dataclass(frozen=True)
class SceneKind:
    """What files of a kind hold.

    channels: extents after height and width.
    convert: from an array with channels last to what is stored; raises ValueError, "expected ..., found ...".
    resize: brings what `convert` returns to another size.
    expected: the values, in words.
    oddness: what is unusual about what `convert` returns; "" for nothing.
    """

    channels: tuple[int, ...]
    convert: Callable[[Array], Array]
    resize: Callable[[Array, Size], Array]
    expected: str
    oddness: Callable[[Array], str] = lambda array: ""


SCENE_KINDS = {
    "image": SceneKind((3,), to_uint8, smooth, "0 to 1, stored as 0 to 255"),
    "label": SceneKind((), to_labels, nearest, f"whole, {UNLABELLED} to {CLASSES - 1}", label_oddness),
    "depth": SceneKind((1,), to_depth, nearest, f"0 to {DEEPEST} m", depth_oddness),
    "normal": SceneKind((3,), to_normals, nearest, "-1 to 1, of length 1 or 0", normal_oddness),
}


@dataclass(frozen=True)
class SceneConversion:
    """Checks an array of a kind as it is in a file, and converts it to what is stored. Picklable.

    kind: a key of SCENE_KINDS.
    stored: the height and width that arrays must have in the files; None for any.
    size: the height and width to bring them to; None for the stored ones.
    planar: whether the channels come first in the files.
    """

    kind: str
    stored: Size | None = None
    size: Size | None = None
    planar: bool = False

    def __call__(self, array: Array) -> Array:
        """Raises ValueError, "expected ..., found ...", if the array is invalid."""
        rule = SCENE_KINDS[self.kind]
        if array.dtype.kind not in "iuf":  # numpy would convert complex numbers, truth values and strings silently
            raise ValueError(f"expected whole or floating-point numbers, found the type {array.dtype}")
        found = np.moveaxis(array, 0, -1) if self.planar and array.ndim == 3 else array
        wanted = (*(self.stored or found.shape[:2]), *rule.channels)
        if found.shape != wanted or not found.size:
            expected = "×".join(map(str, wanted)) if self.stored else "×".join(["any", "any", *map(str, rule.channels)])
            raise ValueError(
                f"expected height, width and channels {expected}, found {'×'.join(map(str, found.shape))} (all kinds "
                "of all scenes must have the height and width of the first image)"
            )
        values = rule.convert(found)
        return values if self.size in (None, self.stored) else rule.resize(values, self.size)

    @property
    def recipe(self) -> str:
        """Describes what it does, for the keys of decoded arrays."""
        return f"{self.kind} {self.stored} to {self.size or self.stored}, rules {RULES}"


def final_size(stored: Size | None, wanted: Size | None, place: Path) -> Size | None:
    """The size that arrays of the size `stored` are brought to: `wanted`, if it is given.

    Raises:
        DataError: they have different aspect ratios, so that scenes would be distorted. It names `place`.
    """
    if stored is None or wanted is None:
        return stored
    (height, width), (rows, columns) = stored, wanted
    if abs(height * columns - width * rows) >= max(stored):  # more than the rounding of one side to whole pixels
        raise DataError(
            f"{place}: expected height and width in the ratio of {rows} to {columns}, found {height}×{width}; crop all "
            f"kinds of all scenes alike, or run with `--set data.image_size=[{height},{width}]`."
        )
    return wanted


def resized(stored: Size | None, size: Size | None) -> str:
    """ "from 480×640" if arrays of the size `stored` are brought to another size; else ""."""
    return "" if stored is None or size in (None, stored) else f"from {stored[0]}×{stored[1]}"
