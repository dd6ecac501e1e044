"""NYUv2 as preprocessed for MTAN: three dense tasks on one input.

Two layouts are read: {train,val}/{image,label,depth,normal}/<i>.npy, channels last; and the public parquet files
{train,val}-*.parquet with columns image, segmentation, depth and normal, channels first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from datasets.contract import IMAGES, DataError, DataSettings, Source, Splits, Task, refuse
from datasets.listing import entries
from datasets.losses import (
    class_prior,
    cross_entropy,
    depth_loss,
    mean_depth,
    mean_normal,
    normal_loss,
)
from datasets.metrics import DEPTH, NORMALS, SEGMENTATION, averaged
from datasets.parquet import decoded_column, shards
from datasets.pixels import Array, Stored, decoded, npy_loader
from datasets.scenes import CLASSES, channels_first, to_labels, to_uint8

KINDS = ("image", "label", "depth", "normal")
COLUMNS = {"image": "image", "label": "segmentation", "depth": "depth", "normal": "normal"}
VALIDATION_SHARE = 0.2

TASKS = (
    Task(
        "segmentation",
        "Segmentation",
        CLASSES,
        cross_entropy,
        SEGMENTATION,
        lambda batches: class_prior(batches, CLASSES),
    ),
    Task("depth", "Depth", 1, depth_loss, DEPTH, mean_depth, partial(averaged, DEPTH)),
    Task("normal", "Surface normal", 3, normal_loss, NORMALS, mean_normal, partial(averaged, NORMALS)),
)

Shape = tuple[int | None, ...]
Stack = Callable[[str, Shape, Callable[[Array], Array]], Stored]


def read_nyuv2(root: Path, settings: DataSettings) -> Splits:
    """Training and validation images from "train"; the test set is the official "val".

    "heldout": a fifth of the training images, drawn by seed, is the validation set.
    "published": all images of "train" are training images, and the validation set is empty.
    """
    refuse(settings, ("splits",), "NYUv2")
    everything = _read_part(root, "train", settings)
    test = _read_part(root, "val", settings)
    if settings.protocol == "published":
        rule: dict[str, object] = {"rule": "published: all training images train, none validates, val is the test set"}
        validation: list[int] = []
        train = list(range(len(everything)))
        parts = everything, _members(everything, validation)
    else:
        rule = {
            "rule": "heldout: 20 % of the training images validate, val is the test set",
            "seed": settings.split_seed,
        }
        order = np.random.default_rng([settings.split_seed, 795]).permutation(len(everything))
        held_out = round(VALIDATION_SHARE * len(everything))
        validation, train = sorted(order[:held_out].tolist()), sorted(order[held_out:].tolist())
        parts = _members(everything, train), _members(everything, validation)
    return Splits(
        (parts[0],),
        (parts[1],),
        (test,),
        {
            **rule,
            "counts": {"train": len(train), "validation": len(validation), "test": len(test)},
            "digest": hashlib.sha256(str(validation).encode()).hexdigest()[:16],
        },
    )


def _members(source: Source, indices: list[int]) -> Source:
    return replace(source, rows=torch.tensor(indices, dtype=torch.long))


def _read_part(root: Path, part: str, settings: DataSettings) -> Source:
    packed = not (root / "train").is_dir() and bool(shards(root, "train"))
    stack = _parquet_stack(root, part) if packed else _npy_stack(root / part)
    images = stack("image", (*(settings.image_size or (None, None)), 3), to_uint8)
    height, width = images.values.shape[1:3]
    labels = stack("label", (height, width), to_labels)
    depth = stack("depth", (height, width, 1), channels_first)
    normals = stack("normal", (height, width, 3), channels_first)
    arrays = {IMAGES: images, 0: labels, 1: depth, 2: normals}
    digests = {key: array.digests for key, array in arrays.items()}
    return Source(images.values, {key: arrays[key].values for key in range(len(TASKS))}, digests=digests)


def _npy_stack(folder: Path) -> Stack:
    """A function from a kind to all its files as one array."""
    # The largest count of any kind, so that a file that only one kind lacks is noticed.
    present = [folder / kind for kind in KINDS if (folder / kind).is_dir()]
    count = max((sum(entry.name.endswith(".npy") for entry in entries(kind)) for kind in present), default=0)
    if count == 0:
        raise DataError(f"{folder / 'image'}: expected files 0.npy, 1.npy, ..., found none; unpack them there.")

    def stack(kind: str, shape: Shape, convert: Callable[[Array], Array]) -> Stored:
        paths = [folder / kind / f"{index}.npy" for index in range(count)]
        return decoded(folder, paths, npy_loader(convert, shape), f"{kind} {shape}", f"{folder.name}/{kind}")

    return stack


def _parquet_stack(root: Path, part: str) -> Stack:
    """A function from a kind to its column of all files as one array."""
    files = shards(root, part)
    if not files:
        raise DataError(
            f"{root}: expected files {part}-*.parquet beside train-*.parquet, found none; download them as well."
        )

    def stack(kind: str, shape: Shape, convert: Callable[[Array], Array]) -> Stored:
        def checked(row: Array) -> Array:
            found = np.moveaxis(row, 0, -1) if row.ndim == 3 else row  # (C, H, W) to (H, W, C)
            extents = zip(found.shape, shape, strict=False)
            if found.ndim != len(shape) or not all(wanted in (None, extent) for extent, wanted in extents):
                expected = f"height, width and channels {_extents(shape)}"
                raise ValueError(f"expected {expected}, found {_extents(found.shape)}")
            return convert(found)

        return decoded_column(root, files, COLUMNS[kind], checked, f"{kind} {shape}")

    return stack


def _extents(shape: Shape) -> str:
    return "×".join("any" if extent is None else str(extent) for extent in shape)
