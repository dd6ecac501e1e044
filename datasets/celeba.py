"""CelebA: aligned face images, 40 attributes, the official partition; one binary task per attribute.

Three layouts are read: as distributed (Anno, Eval, Img), flat as in torchvision, and re-packed with .csv tables and
with the folder of images inside a folder of the same name.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.archives import packed_files, unpacking
from datasets.celeba_table import packed_attributes, packed_order, packed_parts
from datasets.contract import IMAGES, DataError, DataSettings, Source, Splits, Task, refuse
from datasets.errors import forbidden
from datasets.listing import IMAGE_ENDINGS, entries, few
from datasets.losses import attribute_prior, binary_cross_entropy
from datasets.metrics import ATTRIBUTE
from datasets.parquet import decoded_images, part_files
from datasets.pixels import decoded, image_loader
from datasets.pooling import drawn_parts, members_of

ATTRIBUTES = [
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
]

TASKS = tuple(
    Task(name.lower(), name.replace("_", " "), 1, binary_cross_entropy, ATTRIBUTE, attribute_prior)
    for name in ATTRIBUTES
)

ATTRIBUTE_FILES = tuple(f"{folder}list_attr_celeba.{ending}" for ending in ("txt", "csv") for folder in ("Anno/", ""))
PARTITION_FILES = tuple(
    f"{folder}list_eval_partition.{ending}" for ending in ("txt", "csv") for folder in ("Eval/", "")
)
PACKED_IMAGES = ("img_align_celeba", "img_align_celeba_png")
IMAGE_FOLDERS = ("Img/img_align_celeba", "img_align_celeba", "Img/img_align_celeba_png", "img_align_celeba_png")


def read_celeba(root: Path, settings: DataSettings) -> Splits:
    """The official partition: 0 is training, 1 validation, 2 test; or one of all images, drawn by seed."""
    refuse_unused(settings)
    if is_packed(root):
        return _read_packed(root, settings)
    names, attributes = read_attributes(existing(root, ATTRIBUTE_FILES))
    partition = existing(root, PARTITION_FILES)
    parts = read_partition(partition, names)
    paths = _image_paths(existing(root, IMAGE_FOLDERS), names, partition)
    sizes = [int((parts == part).sum()) for part in range(3)]
    if 0 in sizes:
        raise DataError(
            f"{root}: expected images in part {sizes.index(0)} of {partition.name}, found none; download that file "
            "again."
        )

    def source(members: NDArray[np.intp]) -> Source:
        chosen = [paths[index] for index in members]
        images, digests = decoded(
            root, chosen, image_loader(settings.image_size), f"image {settings.image_size}", "images"
        )
        return _source(images, attributes[members], digests)

    if settings.split_per_seed:
        parts = drawn_parts(sizes, settings.split_seed)
        return _splits(members_of(source(np.arange(len(parts))), parts), parts, settings)
    return _splits([source(np.flatnonzero(parts == part)) for part in range(3)], parts, settings)


def _source(images: Tensor, attributes: NDArray[np.uint8], digests: NDArray[np.uint8]) -> Source:
    """Images with their attributes (N, 40)."""
    values = torch.from_numpy(np.ascontiguousarray(attributes.T))
    return Source(images, dict(enumerate(values)), digests={IMAGES: digests})


def is_packed(root: Path) -> bool:
    """Whether the images and attributes are read from parquet files; lists come first."""
    return not any((root / name).exists() for name in ATTRIBUTE_FILES) and bool(part_files(root, "train"))


def _read_packed(root: Path, settings: DataSettings) -> Splits:
    """The splits from parquet files; the same as from lists, if images have names."""
    packed = [(files, packed_attributes(files, ATTRIBUTES)) for files in packed_parts(root)]
    sizes = [len(attributes) for _, attributes in packed]
    parts = np.repeat([0, 1, 2], sizes)
    order = packed_order([files for files, _ in packed], len(parts))

    def source(files: Sequence[Path], attributes: NDArray[np.uint8]) -> Source:
        images, digests = decoded_images(root, files, "image", settings.image_size)
        return _source(images, attributes, digests)

    if settings.split_per_seed:
        everything = source([file for files, _ in packed for file in files], np.concatenate([a for _, a in packed]))
        drawn = drawn_parts(sizes, settings.split_seed)
        return _splits(members_of(replace(everything, rows=torch.from_numpy(order)), drawn), drawn, settings)
    starts = np.cumsum([0, *sizes])
    rows = [torch.from_numpy(order[parts[order] == part] - starts[part]) for part in range(3)]
    sources = [replace(source(*of_part), rows=own) for of_part, own in zip(packed, rows, strict=True)]
    return _splits(sources, parts[order], settings)


def _splits(sources: Sequence[Source], parts: NDArray[np.int64], settings: DataSettings) -> Splits:
    train, validation, test = sources
    rule: dict[str, object] = {"rule": "official partition"}
    if settings.split_per_seed:
        rule = {
            "rule": "pooled: all images, a random partition of the official sizes; images of the official test set are "
            "in every part, and identities overlap between parts",
            "seed": settings.split_seed,
        }
    return Splits(
        (train,),
        (validation,),
        (test,),
        {
            **rule,
            "counts": {"train": len(train), "validation": len(validation), "test": len(test)},
            "digest": hashlib.sha256(parts.tobytes()).hexdigest()[:16],
        },
    )


def refuse_unused(settings: DataSettings) -> None:
    """Raises DataError if a setting is given that has no use for CelebA."""
    refuse(settings, ("splits", "protocol", "metrics_batch"), "data sets of the CelebA kind")


def existing(root: Path, candidates: tuple[str, ...]) -> Path:
    """The one of these files or folders that is there; an error names what else of CelebA is.

    Raises:
        DataError: none is there, or two files that should be copies of each other aren't.
    """
    here = [root / candidate for candidate in candidates if (root / candidate).exists()]
    if here:
        _require_copies([path for path in here if path.is_file() and path.suffix == here[0].suffix])
        return here[0]
    groups = (ATTRIBUTE_FILES, PARTITION_FILES, IMAGE_FOLDERS)
    present = [next((name for name in group if (root / name).exists()), "") for group in groups]
    found = f"only {' and '.join(filter(None, present))}" if any(present) else "none of them"
    places = (root, root / "Img") if candidates == IMAGE_FOLDERS else ()
    archives = [archive for place in places for archive in packed_files(place, PACKED_IMAGES)]
    todo = unpacking([(archive, archive.parent) for archive in archives], "copy it there.")
    raise DataError(f"{root}: expected {' or '.join(candidates)}, found {found}; {todo}")


def _require_copies(paths: Sequence[Path]) -> None:
    for path in paths[1:]:
        if path.read_bytes() != paths[0].read_bytes():
            raise DataError(f"{path}: expected a copy of {paths[0]}, found other content; remove the wrong one.")


def _image_paths(folder: Path, names: list[str], partition: Path) -> list[Path]:
    """The file of each of `names`. The names end in .jpg even if the images are stored as .png.

    Raises:
        DataError: some are missing.
    """
    folder, names, present = names_on_disk(folder, names)
    absent = [name for name in names if name not in present]
    if absent:
        raise DataError(absent_images(folder, absent, f"{partition.name} names"))
    return [folder / name for name in names]


def absent_images(folder: Path, absent: Sequence[str], lists: str) -> str:
    """The error for images that lists name and that are missing. lists: like "list.txt names"."""
    others = f" ({len(absent) - 1:,} more are missing: {few(absent[1:])})" if len(absent) > 1 else ""
    return f"{folder / absent[0]}: expected a file, found none, though {lists} it{others}; unpack the images again."


def names_on_disk(folder: Path, names: list[str]) -> tuple[Path, list[str], set[str]]:
    """The folder with the images, the names that they should have there, and the names of all files there.

    The ending of the names is that of most of the images, as they may have been converted.
    """
    if (folder / folder.name).is_dir():
        folder = folder / folder.name
    present = {entry.name for entry in entries(folder)}
    expected = set(names)
    stems = {Path(name).stem for name in names}
    endings = Counter(Path(name).suffix for name in present - expected if Path(name).stem in stems)
    ending, count = endings.most_common(1)[0] if endings else ("", 0)
    if folder.name.endswith("_png"):
        ending, count = ".png", len(present) + 1
    if ending.lower() in IMAGE_ENDINGS and count > len(present & expected):
        names = [str(Path(name).with_suffix(ending)) for name in names]
    return folder, names, present


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except PermissionError as error:
        raise forbidden(path) from error
    except OSError as error:
        raise DataError(f"{path}: expected a text file, found none ({error.strerror}); download it again.") from error


def _fields(line: str, path: Path) -> list[str]:
    if path.suffix != ".csv":
        return line.split()
    # Quotes are rare, and splitting is quicker.
    fields = next(csv.reader([line])) if '"' in line else line.split(",")
    return [field.strip() for field in fields]


def _attribute_order(header: Sequence[str], where: str, path: Path) -> list[int]:
    """Where each of `ATTRIBUTES` is in the header.

    Raises:
        DataError: one is missing, unknown, or there twice.
    """
    unknown = [name for name in header if name not in ATTRIBUTES]
    missing = [name for name in ATTRIBUTES if name not in header]
    twice = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    odd = [
        *(f"{name!r}, which is none of them" for name in unknown[:1]),
        *(f"no {name!r}" for name in missing[:1]),
        *(f"{name!r} twice" for name in twice[:1]),
    ]
    if odd:
        raise DataError(
            f"{path}: expected the 40 attribute names of CelebA {where}, found {' and '.join(odd)}; download the file "
            "again."
        )
    return [header.index(name) for name in ATTRIBUTES]


def read_attributes(path: Path) -> tuple[list[str], NDArray[np.uint8]]:
    """File names and attributes (N, 40) as 0 and 1, in the order of `ATTRIBUTES`, whatever that of the file.

    "No" is -1 in the official file. Copies have 0 instead, in all rows.
    """
    lines = _lines(path)
    names_at = 0 if path.suffix == ".csv" else 1  # the .txt file begins with the number of rows
    header = _fields("".join(lines[names_at : names_at + 1]), path)[1 - names_at :]
    order = _attribute_order(header, f"in line {names_at + 1}", path)
    no = _negative(lines[names_at + 1 :], path)
    values: dict[str, bytes] = {}  # 0 and 1 as bytes; lists of strings would take half a gigabyte
    for number, line in enumerate(lines[names_at + 1 :], names_at + 2):
        row = _fields(line, path)
        if not line.strip():
            continue
        if len(row) != 41 or not set(row[1:]) <= {"1", no}:
            found = next((repr(value) for value in row[1:] if value not in ("1", no)), f"{len(row)} fields")
            raise DataError(
                f"{path}:{number}: expected a file name and 40 values of 1 or {no}, found {found}; "
                "download the file again."
            )
        if row[0] in values:
            raise DataError(
                f"{path}:{number}: expected each image once, found {row[0]} again; download the file again."
            )
        values[row[0]] = bytes(row[1 + column] == "1" for column in order)
    if names_at == 1 and lines[0].strip() != str(len(values)):
        raise DataError(
            f"{path}: expected {lines[0].strip()} rows as line 1 says, found {len(values)}; download the file again."
        )
    return list(values), np.frombuffer(b"".join(values.values()), dtype=np.uint8).reshape(len(values), len(ATTRIBUTES))


def _negative(rows: Sequence[str], path: Path) -> str:
    """How the file says no: "0" if the first "no" is 0, else "-1"."""
    return next((value for row in rows for value in _fields(row, path)[1:] if value in ("0", "-1")), "-1")


def read_partition(path: Path, names: list[str]) -> NDArray[np.int64]:
    """The part (N,) of each of `names`."""
    part: dict[str, int] = {}
    for number, line in enumerate(_lines(path), 1):
        row = _fields(line, path)
        if not line.strip() or (path.suffix == ".csv" and number == 1):  # the names of the columns
            continue
        if len(row) != 2 or row[1] not in ("0", "1", "2"):
            raise DataError(
                f"{path}:{number}: expected a file name and 0, 1 or 2, found {line.strip()!r}; download the file again."
            )
        if row[0] in part:
            raise DataError(
                f"{path}:{number}: expected each image once, found {row[0]} again; download the file again."
            )
        part[row[0]] = int(row[1])
    missing = next((name for name in names if name not in part), None)
    if missing is not None:
        raise DataError(f"{path}: expected a row for {missing}, found none; download the file again.")
    known = set(names)
    odd = next((name for name in part if name not in known), None)
    if odd is not None:
        raise DataError(
            f"{path}: expected only images that list_attr_celeba{path.suffix} names, found {odd}; "
            "download both files again."
        )
    return np.array([part[name] for name in names])
