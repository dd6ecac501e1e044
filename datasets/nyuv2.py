"""NYUv2 as preprocessed for MTAN: three dense tasks on one input.

Two layouts are read: {train,val}/{image,label,depth,normal}/<i>.npy, channels last; and the public parquet files
{train,val}-*.parquet with columns image, segmentation, depth and normal, channels first. "test" may stand for "val".
Arrays of another size than `data.image_size` are resized, if their aspect ratio is the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from datasets.parquet import decoded_column, first_row, row_count
from datasets.pixels import Array, Stored, decoded, npy_loader
from datasets.pooling import drawn_parts, members_of
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


@dataclass(frozen=True)
class Stack:
    """The scenes of one or more of the parts on disk, one part after the other.

    sizes: how many scenes each part has.
    read(kind): what all of them have of a kind, as one array.
    """

    sizes: Sequence[int]
    read: Callable[[str], Stored]


OpenParts = Callable[[Sequence[str]], Stack]  # from "train" and "val"


def read_nyuv2(root: Path, settings: DataSettings) -> Splits:
    """Training and validation images from "train"; the test set is the official "val".

    "heldout": a fifth of the training images, drawn by seed, is the validation set. With `split_per_seed`, the images
        of "train" and "val" are pooled, and three parts of the same sizes drawn by seed.
    "published": all images of "train" are training images, and the validation set is empty.
    """
    refuse_unused(settings)
    if is_packed(root):
        shards = {part: part_shards(root, part) for part in PART_NAMES}
        stored: Size | None = packed_size(shards["train"])
        size = final_size(stored, settings.image_size, root)
        stack = partial(_parquet_stack, root, shards, stored, size)
    else:
        folders = {part: part_folder(root, part) for part in PART_NAMES}
        stored = _first_size(folders["train"])
        size = final_size(stored, settings.image_size, root)
        stack = partial(_npy_stack, root, folders, stored, size)
    rule, parts = _pooled(root, stack, settings) if settings.split_per_seed else _official(root, stack, settings)
    train, validation, test = parts
    counts = {"train": len(train), "validation": len(validation), "test": len(test)}
    remark = {"resized": changed} if (changed := resized(stored, size)) else {}
    digest = rule.pop("digest")
    return Splits((train,), (validation,), (test,), {**rule, "counts": counts, "digest": digest, **remark})


def _official(root: Path, stack: OpenParts, settings: DataSettings) -> tuple[dict[str, object], list[Source]]:
    """The rule with its digest, and the three parts: test is "val"."""
    stacks = [stack(["train"]), stack(["val"])]  # what is missing of either is found before anything is decoded
    everything, test = map(_read_part, stacks)
    if settings.protocol == "published":
        rule: dict[str, object] = {"rule": "published: all training images train, none validates, val is the test set"}
        validation: list[int] = []
        parts = [everything, _members(everything, validation), test]
    else:
        rule = {
            "rule": "heldout: 20 % of the training images validate, val is the test set",
            "seed": settings.split_seed,
        }
        order = np.random.default_rng([settings.split_seed, 795]).permutation(len(everything))
        held_out = held_out_of(len(everything), root)
        validation, train = sorted(order[:held_out].tolist()), sorted(order[held_out:].tolist())
        parts = [_members(everything, train), _members(everything, validation), test]
    return {**rule, "digest": hashlib.sha256(str(validation).encode()).hexdigest()[:16]}, parts


def _pooled(root: Path, stack: OpenParts, settings: DataSettings) -> tuple[dict[str, object], list[Source]]:
    """The same for parts drawn from all images, of the sizes that they have otherwise."""
    both = stack(["train", "val"])
    training, test = both.sizes
    held_out = held_out_of(training, root)
    parts = drawn_parts((training - held_out, held_out, test), settings.split_seed)
    rule = {
        "rule": "pooled: all images of train and val, a random partition of the sizes of heldout; images of val, the "
        "official test set, are in every part",
        "seed": settings.split_seed,
        "digest": hashlib.sha256(parts.tobytes()).hexdigest()[:16],
    }
    return rule, members_of(_read_part(both), parts)


def held_out_of(images: int, root: Path) -> int:
    """How many of so many training images validate.

    Raises:
        DataError: none.
    """
    held_out = round(VALIDATION_SHARE * images)
    if not held_out:
        raise DataError(
            f"{root}: expected at least 3 training images, a fifth of which validates, found {images}; add the missing "
            "ones, or train without validation with `--set data.protocol=published`."
        )
    return held_out


def refuse_unused(settings: DataSettings) -> None:
    """Raises DataError if a setting is given that has no use for data sets of the NYUv2 kind."""
    refuse(settings, ("splits",), "data sets of the NYUv2 kind")
    if settings.protocol == "published":
        refuse(settings, ("split_per_seed",), "the published protocol")


def _members(source: Source, indices: list[int]) -> Source:
    return replace(source, rows=torch.tensor(indices, dtype=torch.long))


def _read_part(stack: Stack) -> Source:
    arrays = {key: stack.read(kind) for key, kind in zip((IMAGES, *range(len(TASKS))), KINDS, strict=True)}
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


def _npy_stack(
    root: Path, folders: Mapping[str, Path], stored: Size | None, size: Size | None, parts: Sequence[str]
) -> Stack:
    """The scenes of these parts from their folders."""
    chosen = [folders[part] for part in parts]
    sizes = [_scene_count(folder) for folder in chosen]

    def read(kind: str) -> Stored:
        paths = [
            folder / kind / f"{index}.npy"
            for folder, count in zip(chosen, sizes, strict=True)
            for index in range(count)
        ]
        conversion = SceneConversion(kind, stored, size)
        what = f"{' and '.join(folder.name for folder in chosen)}/{kind}"
        return decoded(root, paths, scene_loader(conversion), conversion.recipe, what)

    return Stack(sizes, read)


def _scene_count(folder: Path) -> int:
    """How many scenes the folder of a part has.

    Raises:
        DataError: it has none, or one lacks a file.
    """
    # The largest count of any kind, so that a file that only one kind lacks is noticed.
    present = {kind: numbered_files(folder / kind) for kind in KINDS}
    count = max(map(len, present.values()))
    if count == 0:
        raise DataError(f"{folder / 'image'}: expected files 0.npy, 1.npy, ..., found none; unpack them there.")
    absent = [error for kind, names in present.items() for error in absent_files(folder / kind, names, count)]
    if absent:
        raise DataError(absent[0])
    return count


def _parquet_stack(
    root: Path, shards: Mapping[str, Sequence[Path]], stored: Size | None, size: Size | None, parts: Sequence[str]
) -> Stack:
    """The scenes of these parts from their .parquet files."""
    files = [file for part in parts for file in shards[part]]

    def read(kind: str) -> Stored:
        conversion = SceneConversion(kind, stored, size, planar=True)
        what = f"{' and '.join(parts)}/{kind}"
        return decoded_column(root, files, COLUMNS[kind], conversion, conversion.recipe, what)

    return Stack([row_count(shards[part]) for part in parts], read)
