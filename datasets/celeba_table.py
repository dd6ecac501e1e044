"""CelebA as parquet files: a part each, one row per image, with a column for every attribute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.listing import plain
from datasets.parquet import column_names, image_names, scalar_columns, shards

PACKED_PARTS = (("train",), ("valid", "validation"), ("test",))


def packed_parts(root: Path) -> list[list[Path]]:
    """The parquet files of each of the three parts.

    Raises:
        DataError: a part is missing, or there under two names.
    """
    found = []
    for names in PACKED_PARTS:
        present = [files for name in names if (files := shards(root, name))]
        if len(present) != 1:
            wanted = " or ".join(f"{name}-*.parquet" for name in names)
            raise DataError(
                f"{root}: expected files {wanted}, found {'both' if present else 'none'}; keep one file of each part, "
                "and download those that are missing."
            )
        found += present
    return found


def packed_order(parts: Sequence[Sequence[Path]], rows: int) -> NDArray[np.int64]:
    """The rows (N,) of all parts, one part after the other, by the names of their images, as official lists are sorted.

    Without names, or with one twice, as they are stored.
    """
    paths = image_names([file for files in parts for file in files], "image")
    names = [PurePosixPath(path).name for path in paths or ()]
    if len(set(names)) < rows:
        return np.arange(rows)
    return np.array(sorted(range(rows), key=names.__getitem__))


def packed_attributes(files: Sequence[Path], attributes: Sequence[str]) -> NDArray[np.uint8]:
    """The attributes (N, 40) as 0 and 1. Files may have them as -1 and 1, 0 and 1, or truth values, in any order.

    Raises:
        DataError: one is missing, or has another value, or "no" is 0 in one place and -1 in another.
    """
    columns = {plain(name): name for name in column_names(files[0])}
    missing = [name for name in attributes if plain(name) not in columns]
    if missing:
        raise DataError(
            f"{files[0]}: expected a column for each of the 40 attributes of CelebA, found no {missing[0]!r}; download "
            "the file again."
        )
    values = scalar_columns(files, [columns[plain(name)] for name in attributes])
    negative: set[object] = set()
    for name, column in values.items():
        found = set(np.unique(column).tolist())
        negative |= found & {0, -1}
        odd = sorted(found - {-1, 0, 1}, key=str)
        if odd or len(negative) > 1:
            what = str(odd[0]) if odd else "both"
            raise DataError(f"{files[0]}, {name}: expected 1 and either 0 or -1, found {what}; download it again.")
    return np.stack([column == 1 for column in values.values()], axis=1).astype(np.uint8)
