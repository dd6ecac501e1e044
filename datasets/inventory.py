"""What is in the folder of a data set, with all its errors, before anything is decoded.

Readers stop at the first error. These lists are complete, for people who repair their data.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from datasets import celeba, office
from datasets.celeba import (
    ATTRIBUTE_FILES,
    IMAGE_FOLDERS,
    PARTITION_FILES,
    absent_images,
    existing,
    names_on_disk,
    read_attributes,
    read_partition,
)
from datasets.celeba_table import PACKED_PARTS, packed_attributes, packed_parts
from datasets.contract import Counts, DataError, DataSettings, FileGroup, Inventory
from datasets.decoding.rows import Attempt, FileRows
from datasets.decoding.table import shard
from datasets.listing import entries, few
from datasets.office import (
    Domain,
    Listing,
    domain_folders,
    list_classes,
    listed_domains,
    memberships,
    too_small,
)
from datasets.office_table import IMAGE, read_table
from datasets.parquet import image_rows, part_files
from datasets.pixels import image_loader
from datasets.split_lists import ItemOf, Parts, read_lists, unlisted_remarks

PARTS = "train / validation / test"
IMAGES = "readable images"
# Modes of Pillow that are seldom in these data sets. RGB and grey images are usual.
ODD_MODES = {
    "1": "black and white, without grey",
    "P": "a palette of at most 256 colours",
    "PA": "a palette of at most 256 colours",
    "CMYK": "four colours of print (CMYK), converted without their colour profile",
    "YCbCr": "YCbCr colours, converted to RGB",
    "LAB": "LAB colours, converted to RGB",
    "HSV": "HSV colours, converted to RGB",
}
# What Pillow raises for damaged frames and metadata, depending on the format.
_DAMAGED = (OSError, EOFError, SyntaxError, ValueError, LookupError, struct.error)
Result = TypeVar("Result")


def office_inventory(
    domains: Sequence[Domain], classes: int, item_of: ItemOf | None = None
) -> Callable[[Path, DataSettings], Inventory]:
    """The inventory of a data set with these domains and this number of classes. item_of: as of `office_reader`."""

    def take(root: Path, settings: DataSettings) -> Inventory:
        office.refuse_unused(settings)
        listings: dict[str, Listing] = {}
        places, errors = domain_folders(root, domains)
        if not places and item_of is None and part_files(root, "train"):
            return _table_inventory(root, domains, classes, settings)
        for key, place in places.items():
            try:
                listings[key] = list_classes(place)
            except DataError as error:
                errors.append(str(error))
        known = _class_names(list(listings.values()))
        for key, listing in listings.items():
            errors += _class_errors(places[key], listing, known, classes)
            errors += [] if settings.splits else too_small(places[key], listing, item_of)
        remarks = [remark for key in listings for remark in _ignored_files(key, places[key], listings[key])]
        if settings.splits:
            present = [domain for domain in domains if domain.key in listings]
            sizes = _by_lists(present, list(places.values()), listings, settings, errors, remarks, item_of)
        else:
            sizes = _drawn_sizes(listings, item_of)
        groups = [
            _image_group(key, [path for files in listing.values() for path in files])
            for key, listing in listings.items()
        ]
        return Inventory(_counts(listings, sizes), groups, errors, remarks, classes=known)

    return take


def _by_lists(
    domains: Sequence[Domain],
    places: Sequence[Path],
    listings: dict[str, Listing],
    settings: DataSettings,
    errors: list[str],
    remarks: list[str],
    item_of: ItemOf | None = None,
) -> dict[str, tuple[int, int, int]]:
    """The sizes of the parts of each domain as lists give them; adds what is wrong and what is odd about these."""
    listed = read_lists(*listed_domains(domains, places, list(listings.values()), settings), item_of)
    errors += listed.errors
    remarks += unlisted_remarks(dict(zip(listings, listed.unlisted, strict=True)))
    return dict(zip(listings, map(_sizes_of_parts, listed.parts), strict=True))


def _table_inventory(root: Path, domains: Sequence[Domain], classes: int, settings: DataSettings) -> Inventory:
    """Of parquet files. Their images are read even if the small columns are wrong."""
    errors: list[str] = []
    groups = _packed_images("images", readable(part_files(root, "train"), errors))
    try:
        table = read_table(root, [(*domain.folders, domain.key) for domain in domains])
    except DataError as error:
        return Inventory({}, groups, list(dict.fromkeys([*errors, str(error)])))
    listings = {domain.key: names for domain, names in zip(domains, table.names, strict=True)}
    known = _class_names(list(listings.values()))
    for key, listing in listings.items():
        errors += _class_errors(table.files[0].parent / key, listing, known, classes)
        errors += [] if settings.splits else too_small(table.files[0].parent / key, listing)
    remarks = [] if table.named else [f"{root}: images are in the order {office.NAMELESS}."]
    if settings.splits and table.named:
        places = [root / domain.folders[0] for domain in domains]
        sizes = _by_lists(domains, places, listings, settings, errors, remarks)
    else:
        errors += [office.nameless_lists(table)] if settings.splits else []
        sizes = _drawn_sizes(listings)
    return Inventory(_counts(listings, sizes), groups, errors, remarks, classes=known)


def _faces_table_inventory(root: Path) -> Inventory:
    """Of parquet files. Their images are read even if the attributes are wrong."""
    errors: list[str] = []
    groups = [
        group
        for part, names in zip(PARTS.split(" / "), PACKED_PARTS, strict=True)
        for group in _packed_images(part, readable([file for name in names for file in part_files(root, name)], errors))
    ]
    try:
        sizes = tuple(len(packed_attributes(files, celeba.ATTRIBUTES)) for files in packed_parts(root))
    except DataError as error:
        return Inventory({}, groups, list(dict.fromkeys([*errors, str(error)])))
    return Inventory({"images": (sum(sizes),), PARTS: sizes}, groups, errors)


def _image_group(key: str, paths: Sequence[Path]) -> FileGroup:
    return FileGroup(key, FileRows(paths, image_loader(None)), IMAGES, oddness=image_oddness)


def _packed_images(key: str, files: Sequence[Path]) -> list[FileGroup]:
    """The images in parquet files that can be opened, as a group; none if there are none."""
    if not any(shard(file).rows for file in files):
        return []
    return [FileGroup(key, image_rows(files, IMAGE, None), IMAGES, oddness=image_oddness)]


def readable(files: Sequence[Path], errors: list[str]) -> list[Path]:
    """Those parquet files that can be opened; an error is added for each other one."""
    return [file for file in files if or_error(partial(shard, file), None, errors) is not None]


def image_oddness(attempt: Attempt) -> str:
    """What is unusual about an image that can be read, and what is done about it. Reads its header."""
    content = attempt.content
    with Image.open(content if isinstance(content, Path) else io.BytesIO(bytes(content))) as image:
        mode, frames, turned = image.mode, _frames(image), _is_turned(image)
        transparent = mode.endswith(("A", "a")) or "transparency" in image.info
    found = [ODD_MODES[mode]] if mode in ODD_MODES else []
    found += ["16 or more bits per pixel; values above 255 become white"] if mode[0] in "IF" else []
    found += ["an alpha channel, which is dropped"] if transparent else []
    found += [f"{frames or 'damaged'} frames, of which the first is read"] if frames != 1 else []
    found += ["an EXIF orientation, which is ignored"] if turned else []
    return "; ".join(found)


def _frames(image: Image.Image) -> int:
    """The number of frames; 0 if those after the first are damaged."""
    try:
        return int(getattr(image, "n_frames", 1))
    except _DAMAGED:
        return 0


def _is_turned(image: Image.Image) -> bool:
    """Whether its metadata say that it should be turned for display. Readers don't, nor does torchvision."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except _DAMAGED:
        return False


def or_error(read: Callable[[], Result], otherwise: Result, errors: list[str]) -> Result:
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
    return errors


def _ignored_files(key: str, place: Path, listing: Listing) -> list[str]:
    """One sentence on the files in class folders that readers ignore because of their names; none if there are none."""
    taken = {path for files in listing.values() for path in files}
    found = [Path(entry) for name in listing for entry in entries(place / name) if Path(entry) not in taken]
    if not found:
        return []
    others = f" and {len(found) - 1} more of {key}" if len(found) > 1 else ""
    return [f"{found[0]}{others}: no image by name; runs ignore what has another ending."]


def office_counts(classes: int, **parts: tuple[int, int, int]) -> Counts:
    """What an inventory counts where every domain has so many classes, and so many images in its parts."""
    counts: dict[str, tuple[int, ...]] = {}
    for key, sizes in parts.items():
        counts[f"{key}: images"] = (sum(sizes),)
        counts[f"{key}: classes"] = (classes,)
        counts[f"{key}: {PARTS}"] = sizes
    counts["images"] = (sum(map(sum, parts.values())),)
    return counts


def _counts(listings: dict[str, Listing], sizes: dict[str, tuple[int, int, int]]) -> Counts:
    counts: dict[str, tuple[int, ...]] = {}
    for key, listing in listings.items():
        counts[f"{key}: images"] = (sum(map(len, listing.values())),)
        counts[f"{key}: classes"] = (len(listing),)
        counts[f"{key}: {PARTS}"] = sizes[key]
    counts["images"] = (sum(len(files) for listing in listings.values() for files in listing.values()),)
    return counts


def _sizes_of_parts(parts: dict[str, Parts]) -> tuple[int, int, int]:
    """Numbers of images of a domain in train, validation and test."""
    train, validation, test = (sum(len(of_class[part]) for of_class in parts.values()) for part in range(3))
    return train, validation, test


def _drawn_sizes(listings: dict[str, Listing], item_of: ItemOf | None = None) -> dict[str, tuple[int, int, int]]:
    """By domain, the numbers of images in train, validation and test for a seed of 0.

    They don't depend on the seed if all items have equally many images.
    """
    drawn = memberships(list(listings), list(listings.values()), 0, item_of)
    return dict(zip(listings, map(_sizes_of_parts, drawn), strict=True))


def celeba_inventory(root: Path, settings: DataSettings) -> Inventory:
    """Lists and images of CelebA."""
    celeba.refuse_unused(settings)
    if celeba.is_packed(root):
        return _faces_table_inventory(root)
    errors: list[str] = []
    no_names: list[str] = []
    no_parts: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    names = or_error(lambda: read_attributes(existing(root, ATTRIBUTE_FILES))[0], no_names, errors)
    parts = (
        or_error(lambda: read_partition(existing(root, PARTITION_FILES), names), no_parts, errors)
        if names
        else no_parts
    )
    no_images: tuple[Path, list[str], set[str]] = (root, [], set())
    folder, on_disk, present = or_error(lambda: names_on_disk(existing(root, IMAGE_FOLDERS), names), no_images, errors)
    absent = [name for name in on_disk if name not in present]
    errors += [absent_images(folder, absent, "the lists name")] if absent else []
    remarks = _unlisted_faces(folder, sorted(present - set(on_disk))) if on_disk else []
    listed = len(present & set(on_disk)) if on_disk else len(present)
    counts: dict[str, tuple[int, ...]] = {"images": (listed,)}
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
        _image_group(part, [folder / on_disk[row] for row in rows if on_disk and on_disk[row] in present])
        for part, rows in members.items()
    ]
    return Inventory(counts, groups, errors, remarks)


def _unlisted_faces(folder: Path, names: Sequence[str]) -> list[str]:
    """One sentence on the images that no list names; none if there are none."""
    if not names:
        return []
    count = f"{len(names):,} images" if len(names) > 1 else "1 image"
    return [f"{folder}: {count} that no list names ({few(names)}); runs ignore {'them' if len(names) > 1 else 'it'}."]
