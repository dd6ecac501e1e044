"""Where the two parts of NYUv2 lie: folders of .npy files or parquet files, named train, and val or test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datasets.archives import packed_files, unpacking
from datasets.errors import DataError
from datasets.parquet import part_files, shards
from datasets.scenes import SCENE_KINDS

PART_NAMES = {"train": ("train",), "val": ("val", "test")}


def is_packed(root: Path) -> bool:
    """Whether the scenes are read from .parquet files."""
    return not (root / "train").is_dir() and bool(part_files(root, "train"))


def part_folder(root: Path, part: str) -> Path:
    """The folder of a part, "train" or "val".

    Raises:
        DataError: it is absent, or there are two.
    """
    found = [name for name in PART_NAMES[part] if any((root / name / kind).is_dir() for kind in SCENE_KINDS)]
    archives = [(archive, root) for archive in packed_files(root, PART_NAMES[part])]
    return root / _only_one(root, part, "a folder {}", found, unpacking(archives, "copy it there."))


def part_shards(root: Path, part: str) -> list[Path]:
    """The parquet files of a part, "train" or "val".

    Raises:
        DataError: they are absent, incomplete, or those of two parts.
    """
    found = {name: files for name in PART_NAMES[part] if (files := shards(root, name))}
    return found[_only_one(root, part, "files {}-*.parquet", list(found), "download them as well.")]


def _only_one(root: Path, part: str, kind: str, found: Sequence[str], if_absent: str) -> str:
    """The name that a part has. kind: what is named so, for errors. if_absent: what to do if there is none."""
    if len(found) == 1:
        return found[0]
    names = " or ".join(kind.format(name) for name in PART_NAMES[part])
    if found:
        raise DataError(f"{root}: expected {names}, found both; keep those with the official test images, 654 of them.")
    beside = "" if part == "train" else " beside the training part"
    raise DataError(f"{root}: expected {names}{beside}, found none; {if_absent}")
