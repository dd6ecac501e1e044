"""NYUv2 as preprocessed for MTAN: {train,val}/{image,label,depth,normal}/<i>.npy; three dense tasks on one input."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.contract import DataError, DataSettings, Source, Splits, Task
from datasets.losses import (
    UNLABELLED,
    class_prior,
    cross_entropy,
    depth_loss,
    mean_depth,
    mean_normal,
    normal_loss,
)
from datasets.metrics import DEPTH, NORMALS, SEGMENTATION
from datasets.pixels import Array, decoded, npy_loader

KINDS = ("image", "label", "depth", "normal")
CLASSES = 13
VALIDATION_SHARE = 0.2

TASKS = (
    Task(
        "segmentation",
        "Segmentation",
        CLASSES,
        cross_entropy,
        SEGMENTATION,
        lambda labels: class_prior(labels, CLASSES),
    ),
    Task("depth", "Depth", 1, depth_loss, DEPTH, mean_depth),
    Task("normal", "Surface normal", 3, normal_loss, NORMALS, mean_normal),
)


def read_nyuv2(root: Path, settings: DataSettings) -> Splits:
    """The heldout protocol: a fifth of the training images, drawn by seed, validates; "val" is the test set."""
    everything = _read_part(root / "train", settings)
    order = np.random.default_rng([settings.split_seed, 795]).permutation(len(everything))
    held_out = round(VALIDATION_SHARE * len(everything))
    validation, train = sorted(order[:held_out].tolist()), sorted(order[held_out:].tolist())
    test = _read_part(root / "val", settings)
    return Splits(
        (_members(everything, train),),
        (_members(everything, validation),),
        (test,),
        {
            "rule": "heldout: 20 % of the training images validate, val is the test set",
            "seed": settings.split_seed,
            "counts": {"train": len(train), "validation": len(validation), "test": len(test)},
            "digest": hashlib.sha256(str(validation).encode()).hexdigest()[:16],
        },
    )


def _members(source: Source, indices: list[int]) -> Source:
    chosen = torch.tensor(indices)
    return Source(source.images[chosen], {task: target[chosen] for task, target in source.targets.items()})


def _read_part(folder: Path, settings: DataSettings) -> Source:
    # The most of any kind, so that a file which only one kind lacks is missed.
    count = max(len(list((folder / kind).glob("*.npy"))) for kind in KINDS)
    if count == 0:
        raise DataError(f"{folder / 'image'}: expected files 0.npy, 1.npy, ..., found none.")

    def stack(kind: str, shape: tuple[int | None, ...], convert: Callable[[Array], Array]) -> Tensor:
        paths = [folder / kind / f"{index}.npy" for index in range(count)]
        return decoded(folder, paths, npy_loader(convert, shape), f"{kind} {shape}")

    images = stack("image", (*(settings.image_size or (None, None)), 3), _to_uint8)
    height, width = images.shape[1:3]
    labels = stack("label", (height, width), _to_labels)
    depth = stack("depth", (height, width, 1), _channels_first)
    normals = stack("normal", (height, width, 3), _channels_first)
    return Source(images, {0: labels, 1: depth, 2: normals})


def _to_uint8(image: Array) -> Array:
    values = image.astype(np.float32)
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"expected image values in [0, 1], found {values.min():g} to {values.max():g}")
    return np.round(values * 255).astype(np.uint8)


def _to_labels(labels: Array) -> Array:
    odd = labels[~np.isin(labels, np.arange(UNLABELLED, CLASSES))]
    if odd.size:
        raise ValueError(f"expected whole labels from {UNLABELLED} to {CLASSES - 1}, found {odd[0]}")
    return labels.astype(np.int64)


def _channels_first(array: Array) -> Array:
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"expected finite values, found {values[~np.isfinite(values)][0]}")
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))
