"""CelebA: aligned face images, 40 attributes, the official partition; one binary task per attribute."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.contract import DataError, DataSettings, Source, Splits, Task
from datasets.losses import attribute_prior, binary_cross_entropy
from datasets.metrics import ATTRIBUTE
from datasets.pixels import decoded, image_loader

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

ATTRIBUTE_FILE = "list_attr_celeba.txt"
PARTITION_FILE = "list_eval_partition.txt"
IMAGE_FOLDERS = ("Img/img_align_celeba", "img_align_celeba", "Img/img_align_celeba_png")


def read_celeba(root: Path, settings: DataSettings) -> Splits:
    """The official partition: 0 trains, 1 validates, 2 tests."""
    names, attributes = _read_attributes(_existing(root, (f"Anno/{ATTRIBUTE_FILE}", ATTRIBUTE_FILE)))
    parts = _read_partition(_existing(root, (f"Eval/{PARTITION_FILE}", PARTITION_FILE)), names)
    folder = _existing(root, IMAGE_FOLDERS)
    ending = ".png" if folder.name.endswith("_png") else ".jpg"
    sources = []
    for part in range(3):
        members = np.flatnonzero(parts == part)
        if not len(members):
            raise DataError(f"{root}: expected images in part {part} of {PARTITION_FILE}, found none.")
        paths = [folder / Path(names[index]).with_suffix(ending) for index in members]
        images = decoded(root, paths, image_loader(settings.image_size), f"image {settings.image_size}")
        values = torch.from_numpy(np.ascontiguousarray(attributes[members].T))  # (40, N)
        sources.append(Source(images, dict(enumerate(values))))
    train, validation, test = sources
    return Splits(
        (train,),
        (validation,),
        (test,),
        {
            "rule": "official partition",
            "counts": {"train": len(train), "validation": len(validation), "test": len(test)},
            "digest": hashlib.sha256(parts.tobytes()).hexdigest()[:16],
        },
    )


def _existing(root: Path, candidates: tuple[str, ...]) -> Path:
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    raise DataError(f"{root}: expected {' or '.join(candidates)}, found none of them.")


def _read_attributes(path: Path) -> tuple[list[str], NDArray[np.uint8]]:
    """File names and attributes (N, 40) as 0 and 1, in the order of `ATTRIBUTES`."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        count, header = lines.readline().strip(), lines.readline().split()
        rows = [line.split() for line in lines if line.strip()]
    if header != list(ATTRIBUTES):
        odd = next((a for a, b in zip(header, ATTRIBUTES, strict=False) if a != b), f"{len(header)} names")
        raise DataError(f"{path}: expected the 40 attribute names of CelebA in line 2, found {odd!r}.")
    if count != str(len(rows)):
        raise DataError(f"{path}: expected {count} rows as line 1 says, found {len(rows)}.")
    for number, row in enumerate(rows, 3):
        if len(row) != 41 or not set(row[1:]) <= {"1", "-1"}:
            found = next((repr(value) for value in row[1:] if value not in ("1", "-1")), f"{len(row)} fields")
            raise DataError(f"{path}:{number}: expected a file name and 40 values of 1 or -1, found {found}.")
    values = np.array([[value == "1" for value in row[1:]] for row in rows], dtype=np.uint8)
    return [row[0] for row in rows], values


def _read_partition(path: Path, names: list[str]) -> NDArray[np.int64]:
    """The part (N,) of each of `names`."""
    part: dict[str, int] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, row in enumerate(map(str.split, lines), 1):
            if not row:
                continue
            if len(row) != 2 or row[1] not in ("0", "1", "2"):
                raise DataError(f"{path}:{number}: expected a file name and 0, 1 or 2, found {' '.join(row)!r}.")
            part[row[0]] = int(row[1])
    missing = next((name for name in names if name not in part), None)
    if missing is not None:
        raise DataError(f"{path}: expected a row for {missing}, found none.")
    known = set(names)
    odd = next((name for name in part if name not in known), None)
    if odd is not None:
        raise DataError(f"{path}: expected only images that {ATTRIBUTE_FILE} names, found {odd}.")
    return np.array([part[name] for name in names])
