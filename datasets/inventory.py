"""What is in the folder of a data set, with all its errors, before anything is decoded.

Readers stop at the first error. These lists are complete, for people who repair their data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets.celeba import (
    ATTRIBUTE_FILES,
    IMAGE_FOLDERS,
    PARTITION_FILES,
    existing,
    names_on_disk,
    read_attributes,
    read_partition,
)
from datasets.contract import Counts, DataError, FileGroup, Inventory
from datasets.listing import entries
from datasets.nyuv2 import COLUMNS, KINDS
from datasets.office import LEAST_FILES, Domain, Listing, domain_folders, list_classes, partition
from datasets.parquet import converted, row_count
from datasets.pixels import Array, image_loader, npy_loader
from datasets.scene_parts import is_packed, part_folder, part_shards
from datasets.scenes import CLASSES, UNLABELLED, channels_first, to_labels, to_uint8

PARTS = "train / validation / test"
IMAGES = "readable images"
SCENE_PARTS = ("train", "val")
# The 13 classes of github.com/ankurhanda/nyuv2-meta-data, in its order.
SEGMENTS = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
    "window",
)  # fmt: skip
Result = TypeVar("Result")

DEEPEST = 20  # metres; the sensor's range is half of it, and other units give thousands
LENGTH_TOLERANCE, FEW = 0.05, 0.01


def office_inventory(domains: Sequence[Domain], classes: int) -> Callable[[Path], Inventory]:
    """The inventory of a data set with these domains and this number of classes."""

    def take(root: Path) -> Inventory:
        listings: dict[str, Listing] = {}
        places, errors = domain_folders(root, domains)
        for key, place in places.items():
            try:
                listings[key] = list_classes(place)
            except DataError as error:
                errors.append(str(error))
        known = _class_names(list(listings.values()))
        for key, listing in listings.items():
            errors += _class_errors(places[key], listing, known, classes)
        sizes = {key: _part_sizes(key, listing) for key, listing in listings.items()}
        counts = {**office_counts(classes, **sizes), **{f"{key}: classes": (len(listings[key]),) for key in listings}}
        groups = [
            FileGroup(key, [path for files in listing.values() for path in files], image_loader(None), IMAGES)
            for key, listing in listings.items()
        ]
        return Inventory(counts, groups, errors, classes=known)

    return take


def _or_error(read: Callable[[], Result], otherwise: Result, errors: list[str]) -> Result:
    """The result of `read`; if it fails, its message is added to the errors and `otherwise` is returned."""
    try:
        return read()
    except DataError as error:
        errors.append(str(error))
    except OSError as error:
        errors.append(f"{error.filename}: expected permission to read it, found {error.strerror}.")
    return otherwise


def _class_names(listings: Sequence[Listing]) -> list[str]:
    """Those that at least half of the domains have, so that an error in one domain isn't reported for the others."""
    names = sorted(set().union(*listings))
    return [name for name in names if 2 * sum(name in listing for listing in listings) >= len(listings)]


def _class_errors(place: Path, listing: Listing, known: Sequence[str], classes: int) -> list[str]:
    if not listing:
        return [f"{place}: expected {classes} class folders, found none; unpack that domain again."]
    errors = [
        f"{place / name}: expected a class folder, as in the other domains, found none; unpack that domain again."
        for name in known
        if name not in listing
    ]
    errors += [
        f"{place / name}: expected only classes that other domains have too, found this one; rename or remove it."
        for name in listing
        if name not in known
    ]
    if not errors and len(listing) != classes:
        errors.append(f"{place}: expected {classes} class folders, found {len(listing)}; unpack that domain again.")
    errors += [
        f"{place / name}: expected at least {LEAST_FILES} images to split, found {len(files)}; add the missing ones."
        for name, files in listing.items()
        if len(files) < LEAST_FILES
    ]
    return errors


def office_counts(classes: int, **parts: tuple[int, int, int]) -> Counts:
    """What an inventory counts where every domain has so many classes, and so many images in its parts."""
    counts: dict[str, tuple[int, ...]] = {}
    for key, sizes in parts.items():
        counts[f"{key}: images"] = (sum(sizes),)
        counts[f"{key}: classes"] = (classes,)
        counts[f"{key}: {PARTS}"] = sizes
    counts["images"] = (sum(map(sum, parts.values())),)
    return counts


def _part_sizes(key: str, listing: Listing) -> tuple[int, int, int]:
    """Numbers of images of a domain in train, validation and test; they don't depend on the seed."""
    sizes = [[len(part) for part in partition(len(files), 0, key, name)] for name, files in listing.items()]
    train, validation, test = np.sum(sizes, axis=0, dtype=int).tolist() if sizes else (0, 0, 0)
    return train, validation, test


def celeba_inventory(root: Path) -> Inventory:
    """Lists and images of CelebA."""
    errors: list[str] = []
    no_names: list[str] = []
    no_parts: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    names = _or_error(lambda: read_attributes(existing(root, ATTRIBUTE_FILES))[0], no_names, errors)
    parts = (
        _or_error(lambda: read_partition(existing(root, PARTITION_FILES), names), no_parts, errors)
        if names
        else no_parts
    )
    no_images: tuple[Path, list[str], set[str]] = (root, [], set())
    folder, on_disk, present = _or_error(lambda: names_on_disk(existing(root, IMAGE_FOLDERS), names), no_images, errors)
    errors += [
        f"{folder / name}: expected a file, found none; unpack it again." for name in on_disk if name not in present
    ]
    remarks = [
        f"{folder / name}: not named by any list; runs ignore it." for name in sorted(present - set(on_disk)) if on_disk
    ]
    counts: dict[str, tuple[int, ...]] = {"images": (len(present) - len(remarks),)}
    members = {"images": list(range(len(on_disk)))}
    if len(parts):
        members = {part: np.flatnonzero(parts == number).tolist() for number, part in enumerate(PARTS.split(" / "))}
        counts[PARTS] = tuple(map(len, members.values()))
        errors += [
            f"{root}: expected images in the part {part}, found none; download the partition again."
            for part in members
            if not members[part]
        ]
    groups = [
        FileGroup(
            part,
            [folder / on_disk[row] for row in rows if on_disk and on_disk[row] in present],
            image_loader(None),
            IMAGES,
        )
        for part, rows in members.items()
    ]
    return Inventory(counts, groups, errors, remarks)


def nyuv2_inventory(root: Path) -> Inventory:
    """Files of NYUv2, by part and kind. All must have the height and width of the first readable image."""
    errors: list[str] = []
    if is_packed(root):
        return _table_inventory(root, errors)
    counts: dict[str, tuple[int, ...]] = {}
    files: dict[tuple[str, str], list[Path]] = {}
    for part, folder in _scene_folders(root, errors).items():
        present = {kind: _npy_files(folder / kind, errors) for kind in KINDS}
        count = max(map(len, present.values()))
        counts[f"{part}: images"] = (count,)
        for kind, found in present.items():
            wanted = [folder / kind / f"{index}.npy" for index in range(count)]
            files[part, kind] = [path for path in wanted if path in found]
            if found:  # an empty folder is reported once
                errors += [
                    f"{path}: expected a file, found none; copy it there." for path in wanted if path not in found
                ]
    size = _image_size([path for (_, kind), paths in files.items() if kind == "image" for path in paths])
    if size is not None:
        counts["height / width"] = size
    height, width = size or (None, None)
    groups = [
        FileGroup(
            f"{part}/{kind}",
            paths,
            npy_loader(SCENE_KINDS[kind].convert, (height, width, *SCENE_KINDS[kind].channels)),
            SCENE_KINDS[kind].expected,
            ranged=True,
            oddness=SCENE_KINDS[kind].oddness,
        )
        for (part, kind), paths in files.items()
    ]
    return Inventory(counts, groups, errors, classes=SEGMENTS)


def _scene_folders(root: Path, errors: list[str]) -> dict[str, Path]:
    """The folder of each part; for one that is absent or there twice, an error is added."""
    found = {}
    for part in SCENE_PARTS:
        try:
            found[part] = part_folder(root, part)
        except DataError as error:
            errors.append(str(error))
    return found


def _npy_files(folder: Path, errors: list[str]) -> set[Path]:
    """Its .npy files; if there are none, an error is added."""
    reported = len(errors)
    nothing: list[os.DirEntry[str]] = []
    listed = _or_error(lambda: entries(folder), nothing, errors)
    found = {Path(entry) for entry in listed if entry.name.endswith(".npy")}
    if not found and len(errors) == reported:
        errors.append(f"{folder}: expected files 0.npy, 1.npy, ..., found none; copy them there.")
    return found


def _image_size(paths: Sequence[Path]) -> tuple[int, int] | None:
    """Height and width of the first readable file."""
    load = npy_loader(to_uint8, (None, None, 3))
    for path in paths:
        try:
            height, width, _ = load(path).shape
        except DataError:
            continue
        return height, width
    return None


def _table_inventory(root: Path, errors: list[str]) -> Inventory:
    """Of NYUv2 as .parquet files, whose rows have the channels first."""
    counts: dict[str, tuple[int, ...]] = {}
    no_files: list[Path] = []
    tables = {part: _or_error(partial(part_shards, root, part), no_files, errors) for part in SCENE_PARTS}
    for part, files in tables.items():
        try:
            counts[f"{part}: images"] = (sum(map(row_count, files)),)
        except DataError as error:
            errors.append(str(error))
    for file in tables["train"][:1]:
        try:
            counts["height / width"] = _load_column("label", file).shape[1:]
        except DataError:  # reported when all files are read
            continue
    groups = [
        FileGroup(
            f"{part}/{kind}",
            files,
            partial(_load_column, kind),
            SCENE_KINDS[kind].expected,
            ranged=True,
            oddness=SCENE_KINDS[kind].oddness,
        )
        for part, files in tables.items()
        for kind in KINDS
    ]
    return Inventory(counts, groups, errors, classes=SEGMENTS)


def _load_column(kind: str, path: Path) -> Array:
    """(N, ...) all rows of a kind in one file.

    Raises:
        DataError: they can't be read, are invalid, or differ in shape.
    """
    rule = SCENE_KINDS[kind]

    def checked(row: Array) -> Array:
        found = np.moveaxis(row, 0, -1) if row.ndim == 3 else row
        if found.shape[2:] != rule.channels:
            raise ValueError(f"expected {rule.channels or 'no'} channels, found {found.shape[2:] or 'none'}")
        return rule.convert(found)

    rows = [row for _, row in converted([path], COLUMNS[kind], checked)]
    shapes = sorted({row.shape for row in rows})
    if len(shapes) != 1:
        raise DataError(
            f"{path}: expected rows of one shape in {COLUMNS[kind]}, found {shapes}; download the file again."
        )
    return np.stack(rows)


def _plausible_depth(array: Array) -> Array:
    values = channels_first(array)
    if values.min() < 0 or values.max() > DEEPEST:
        raise ValueError(f"expected depths from 0 to {DEEPEST} m, found {values.min():g} to {values.max():g}")
    return values


def _label_oddness(labels: Array) -> str:
    return "no pixel has a label" if (labels == UNLABELLED).all() else ""


def _depth_oddness(depth: Array) -> str:
    return "" if depth.any() else "no pixel has a depth"


def _normal_oddness(normals: Array) -> str:
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
    convert: checks the values and converts them as the reader does.
    expected: the values, in words.
    oddness: as in `FileGroup`.
    """

    channels: tuple[int, ...]
    convert: Callable[[Array], Array]
    expected: str
    oddness: Callable[[Array], str] = lambda array: ""


SCENE_KINDS = {
    "image": SceneKind((3,), to_uint8, "0 to 1, stored as 0 to 255"),
    "label": SceneKind((), to_labels, f"whole, {UNLABELLED} to {CLASSES - 1}", _label_oddness),
    "depth": SceneKind((1,), _plausible_depth, f"0 to {DEEPEST} m", _depth_oddness),
    "normal": SceneKind((3,), channels_first, "-1 to 1, of length 1 or 0", _normal_oddness),
}
