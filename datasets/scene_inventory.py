"""What is in the folder of NYUv2, or of a data set in its layout, with all errors, before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from datasets.contract import Counts, DataError, DataSettings, FileGroup, Inventory
from datasets.decoding.rows import Attempt, FileRows, RowSource
from datasets.inventory import or_error, readable
from datasets.listing import entries, few
from datasets.nyuv2 import (
    COLUMNS,
    KINDS,
    absent_files,
    held_out_of,
    npy_size,
    numbered_files,
    packed_size,
    refuse_unused,
    scene_loader,
)
from datasets.parquet import list_rows
from datasets.scene_parts import PART_NAMES, is_packed, part_folder, part_shards
from datasets.scenes import SCENE_KINDS, SceneConversion, Size, final_size, resized

# The 13 classes of github.com/ankurhanda/nyuv2-meta-data, in its order.
SEGMENTS = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
    "window",
)  # fmt: skip


def nyuv2_inventory(root: Path, settings: DataSettings) -> Inventory:
    """Files of NYUv2, by part and kind. All must have the height and width of the first readable image."""
    refuse_unused(settings)
    if is_packed(root):
        return _packed_inventory(root, settings)
    errors: list[str] = []
    remarks: list[str] = []
    counts: dict[str, tuple[int, ...]] = {}
    files: dict[tuple[str, str], list[Path]] = {}
    for part in PART_NAMES:
        folder = or_error(partial(part_folder, root, part), None, errors)
        if folder is None:
            continue
        present = {kind: _npy_files(folder / kind, errors) for kind in KINDS}
        count = max(map(len, present.values()))
        counts[f"{part}: images"] = (count,)
        for kind, found in present.items():
            names = [f"{index}.npy" for index in range(count)]
            files[part, kind] = [folder / kind / name for name in names if name in found]
            if found:  # an empty folder is reported once
                errors += absent_files(folder / kind, found, count)
            remarks += _ignored_files(folder / kind, found)
    stored = _image_size([path for (_, kind), paths in files.items() if kind == "image" for path in paths])
    groups = [
        _group(f"{part}/{kind}", kind, FileRows(paths, scene_loader(SceneConversion(kind, stored))))
        for (part, kind), paths in files.items()
    ]
    size_errors, size_remarks = _size_sentences(root, stored, settings)
    _require_validation(root, counts, settings, errors)
    return Inventory(
        {**counts, **_size_count(stored)},
        groups,
        [*errors, *size_errors],
        [*remarks, *size_remarks],
        classes=SEGMENTS,
    )


def _group(key: str, kind: str, source: RowSource) -> FileGroup:
    rule = SCENE_KINDS[kind]

    def oddness(attempt: Attempt) -> str:
        return "" if isinstance(attempt.outcome, DataError) else rule.oddness(attempt.outcome)

    return FileGroup(key, source, rule.expected, ranged=True, oddness=oddness)


def _size_count(stored: Size | None) -> Counts:
    return {"height / width": stored} if stored else {}


def _require_validation(root: Path, counts: Counts, settings: DataSettings, errors: list[str]) -> None:
    """Adds an error if there are too few training images for a part of them to validate."""
    (images,) = counts.get("train: images", (0,))
    if images and settings.protocol == "heldout":
        or_error(partial(held_out_of, images, root), 0, errors)


def _size_sentences(root: Path, stored: Size | None, settings: DataSettings) -> tuple[list[str], list[str]]:
    """Errors and remarks on the size of the arrays."""
    try:
        size = final_size(stored, settings.image_size, root)
    except DataError as error:
        return [str(error)], []
    changed = resized(stored, size)
    return [], [f"{root}: arrays will be resized {changed} to {size[0]}×{size[1]}."] if size and changed else []


def _ignored_files(folder: Path, numbered: set[str]) -> list[str]:
    """A sentence on the .npy files of a folder that are no scenes by their names; none if there are none."""
    others = [entry.name for entry in entries(folder)] if numbered else []
    found = [name for name in others if name.endswith(".npy") and name not in numbered]
    return [f"{folder}: files whose names are no numbers ({few(found)}); runs ignore them."] if found else []


def _npy_files(folder: Path, errors: list[str]) -> set[str]:
    """The names of its .npy files that are numbers; if there are none, an error is added."""
    reported = len(errors)
    nothing: set[str] = set()
    found = or_error(lambda: numbered_files(folder), nothing, errors)
    if not found and len(errors) == reported:
        errors.append(f"{folder}: expected files 0.npy, 1.npy, ..., found none; copy them there.")
    return found


def _image_size(paths: Sequence[Path]) -> Size | None:
    """Height and width of the first readable file."""
    for path in paths:
        try:
            return npy_size(path)
        except DataError:  # reported when all files are read
            continue
    return None


def _packed_inventory(root: Path, settings: DataSettings) -> Inventory:
    """Of NYUv2 as .parquet files, whose rows have the channels first."""
    counts: dict[str, tuple[int, ...]] = {}
    errors: list[str] = []
    no_files: list[Path] = []
    tables = {
        part: readable(or_error(partial(part_shards, root, part), no_files, errors), errors) for part in PART_NAMES
    }
    try:
        stored = packed_size(tables["train"]) if tables["train"] else None
    except DataError:  # reported when all rows are read
        stored = None
    groups = []
    for part, files in tables.items():
        for kind in KINDS if files else ():
            rows = list_rows(files, COLUMNS[kind], SceneConversion(kind, stored, planar=True))
            groups.append(_group(f"{part}/{kind}", kind, rows))
            counts[f"{part}: images"] = (rows.count,)
    size_errors, remarks = _size_sentences(root, stored, settings)
    _require_validation(root, counts, settings, errors)
    return Inventory({**counts, **_size_count(stored)}, groups, [*errors, *size_errors], remarks, classes=SEGMENTS)
