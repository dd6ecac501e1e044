"""NYUv2 as preprocessed for MTAN: three dense tasks on one input.

Two layouts are read: {train,val}/{image,label,depth,normal}/<i>.npy, channels last; and the public parquet files
{train,val}-*.parquet with columns image, segmentation, depth and normal, channels first. "test" may stand for "val".
Arrays of another size than `data.image_size` are resized, if their aspect ratio is the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tokenize import TokenError

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
from datasets.parquet import decoded_column, first_row
from datasets.pixels import Array, Stored, decoded, npy_loader
from datasets.scene_parts import PART_NAMES, is_packed, part_folder, part_shards
from datasets.scenes import CLASSES, SCENE_KINDS, SceneConversion, Size, final_size, resized

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

Stack = Callable[[str], Stored]


def read_nyuv2(root: Path, settings: DataSettings) -> Splits:
    """Training and validation images from "train"; the test set is the official "val".

    "heldout": a fifth of the training images, drawn by seed, is the validation set.
    "published": all images of "train" are training images, and the validation set is empty.
    """
    refuse_unused(settings)
    if is_packed(root):
        shards = {part: part_shards(root, part) for part in PART_NAMES}
        stored: Size | None = packed_size(shards["train"])
        size = final_size(stored, settings.image_size, root)
        stacks = [_parquet_stack(root, part, files, stored, size) for part, files in shards.items()]
    else:
        folders = [part_folder(root, part) for part in PART_NAMES]
        stored = _first_size(folders[0])
        size = final_size(stored, settings.image_size, root)
        stacks = [_npy_stack(root, folder, stored, size) for folder in folders]
    everything, test = map(_read_part, stacks)
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
            **({"resized": changed} if (changed := resized(stored, size)) else {}),
        },
    )


def refuse_unused(settings: DataSettings) -> None:
    """Raises DataError if a setting is given that has no use for data sets of the NYUv2 kind."""
    refuse(settings, ("splits",), "data sets of the NYUv2 kind")
    if settings.protocol == "published":
        refuse(settings, ("split_per_seed",), "the published protocol")


def _members(source: Source, indices: list[int]) -> Source:
    return replace(source, rows=torch.tensor(indices, dtype=torch.long))


def _read_part(stack: Stack) -> Source:
    arrays = {key: stack(kind) for key, kind in zip((IMAGES, *range(len(TASKS))), KINDS, strict=True)}
    digests = {key: array.digests for key, array in arrays.items()}
    return Source(arrays[IMAGES].values, {key: arrays[key].values for key in range(len(TASKS))}, digests=digests)


def npy_size(path: Path) -> Size:
    """Height and width of an image file (H, W, 3), from its header.

    Raises:
        DataError: it can't be read, or holds no image.
    """
    try:
        shape = np.lib.format.open_memmap(path, mode="r").shape
    except (OSError, ValueError, TokenError):  # the loader finds the words for it
        shape = ()
    if shape[2:] != (3,):
        shape = scene_loader(SceneConversion("image"))(path).shape
    return shape[0], shape[1]


def packed_size(files: Sequence[Path]) -> Size:
    """Height and width of the first image in .parquet files.

    Raises:
        DataError: it can't be read, or is no image.
    """
    height, width, _ = first_row(files, COLUMNS["image"], SceneConversion("image", planar=True)).shape
    return height, width


def scene_loader(conversion: SceneConversion) -> Callable[[Path], Array]:
    """A function from a .npy file to the array that is stored; it raises DataError if the file is invalid."""
    return npy_loader(conversion, (None, None, *SCENE_KINDS[conversion.kind].channels))


def _first_size(train: Path) -> Size | None:
    """Height and width of the first image; None if it is absent, which is reported when all are read."""
    first = train / "image" / "0.npy"
    return npy_size(first) if first.is_file() else None


def numbered_files(folder: Path) -> set[str]:
    """The names of the .npy files in a folder that are numbers; none if there is no such folder."""
    names = {entry.name for entry in entries(folder)} if folder.is_dir() else set()
    return {name for name in names if re.fullmatch("[0-9]+[.]npy", name)}


def absent_files(folder: Path, found: set[str], count: int) -> list[str]:
    """An error for each of the files 0.npy to <count - 1>.npy that is not found."""
    wanted = [f"{index}.npy" for index in range(count)]
    spare = sorted(found.difference(wanted))
    todo = (
        f", but {spare[0]}; number the files from 0 to {count - 1}, without leading zeros."
        if spare
        else "; copy it there."
    )
    return [f"{folder / name}: expected a file, found none{todo}" for name in wanted if name not in found]


def _npy_stack(root: Path, folder: Path, stored: Size | None, size: Size | None) -> Stack:
    """A function from a kind to all its files in the folder of a part as one array."""
    # The largest count of any kind, so that a file that only one kind lacks is noticed.
    present = {kind: numbered_files(folder / kind) for kind in KINDS}
    count = max(map(len, present.values()))
    if count == 0:
        raise DataError(f"{folder / 'image'}: expected files 0.npy, 1.npy, ..., found none; unpack them there.")
    absent = [error for kind, names in present.items() for error in absent_files(folder / kind, names, count)]
    if absent:
        raise DataError(absent[0])

    def stack(kind: str) -> Stored:
        paths = [folder / kind / f"{index}.npy" for index in range(count)]
        conversion = SceneConversion(kind, stored, size)
        return decoded(root, paths, scene_loader(conversion), conversion.recipe, f"{folder.name}/{kind}")

    return stack


def _parquet_stack(root: Path, part: str, files: Sequence[Path], stored: Size | None, size: Size | None) -> Stack:
    """A function from a kind to its column of all files as one array."""

    def stack(kind: str) -> Stored:
        conversion = SceneConversion(kind, stored, size, planar=True)
        return decoded_column(root, files, COLUMNS[kind], conversion, conversion.recipe, f"{part}/{kind}")

    return stack
