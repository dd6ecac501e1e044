"""Parquet files: columns decoded once into arrays on disk, as single files are, and small columns read into memory."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.contract import DataError
from datasets.decoding.loaders import image_content_loader
from datasets.decoding.rows import valid_rows
from datasets.decoding.table import Convert, Shard, TableRows, opened_parquet, shard
from datasets.pixels import Array, Stored, stored

_OF = re.compile(r"-of-(\d+)")


def part_files(root: Path, part: str) -> list[Path]:
    """The files that are there of a part, complete or not."""
    return sorted(root.glob(f"data/{part}-*.parquet")) or sorted(root.glob(f"{part}-*.parquet"))


def shards(root: Path, part: str) -> list[Path]:
    """The files of a part, <part>-00000-of-00010-<hash>.parquet and the like, in `data` or in the root itself.

    Raises:
        DataError: fewer files than their names count.
    """
    found = part_files(root, part)
    if not found:
        return []
    counted = _OF.search(found[0].name)
    wanted = int(counted[1]) if counted else len(found)
    if len(found) != wanted:
        raise DataError(
            f"{found[0].parent}: expected {wanted} files {part}-*.parquet as their names say, found {len(found)}; "
            "download the missing ones, and remove duplicates."
        )
    return found


def decoded_column(
    root: Path, files: Sequence[Path], column: str, convert: Convert, recipe: str, what: str = "rows"
) -> Stored:
    """A column of nested lists, of all files, as one array (N, ...), memory-mapped.

    convert: from a row, as an array, to what is stored; raises ValueError, "expected ..., found ...". Picklable, and
        of a module that imports no torch, since other processes may call it.
    recipe: describes what `convert` does; part of the cache's key.
    what: what the rows are, for the progress that a user sees.

    Only rows of files that changed in size or time are decoded again. After an interruption the next call continues.

    Raises:
        NotPrepared: the array isn't up to date, and nothing may be decoded.
        DataError: a file can't be read, a row is invalid, or pyarrow is not installed.
    """
    return _decoded(root, files, list_rows(files, column, convert), recipe, what)


def decoded_images(
    root: Path, files: Sequence[Path], column: str, size: tuple[int, int] | None, what: str = "images"
) -> Stored:
    """A column of encoded images, as Hugging Face stores them, as one array (N, H, W, 3) uint8, memory-mapped.

    Cells are the bytes of an image file, or structs with a field `bytes`. Images are decoded as those in files are.

    Raises:
        The same as decoded_column.
    """
    return _decoded(root, files, image_rows(files, column, size), f"image {size}", what)


def list_rows(files: Sequence[Path], column: str, convert: Convert) -> TableRows:
    """The rows of a column of nested lists, of all files.

    Raises:
        DataError: a file can't be read, there are no rows, or pyarrow is not installed.
    """
    return TableRows(_shards(files), column, "lists", convert)


def image_rows(files: Sequence[Path], column: str, size: tuple[int, int] | None) -> TableRows:
    """The rows of a column of encoded images, of all files.

    Raises:
        The same as list_rows.
    """
    return TableRows(_shards(files), column, "bytes", image_content_loader(size))


def first_row(files: Sequence[Path], column: str, convert: Convert) -> Array:
    """The first row of a column of nested lists.

    Raises:
        DataError: it can't be read or is invalid.
    """
    (chunk,) = list_rows(files, column, convert).chunks(np.array([0]))
    ((_, row),) = valid_rows(chunk)
    return row


def row_count(files: Sequence[Path]) -> int:
    """How many rows the files have together.

    Raises:
        DataError: a file can't be read, there are no rows, or pyarrow is not installed.
    """
    return sum(one.rows for one in _shards(files))


def column_names(file: Path) -> list[str]:
    """The names of the columns of a file."""
    with opened_parquet(file) as opened:
        names: list[str] = opened.schema_arrow.names
        return names


def _decoded(root: Path, files: Sequence[Path], source: TableRows, recipe: str, what: str) -> Stored:
    # The numbers of rows are part of the key: a row of an array must always be the same row of the same file.
    names = "".join(
        f"{file.relative_to(root)} {shard.rows}\n" for file, shard in zip(files, source.shards, strict=True)
    )
    return stored(root, source, f"{source.column} {recipe}{names}", what)


def _shards(files: Sequence[Path]) -> list[Shard]:
    found = [shard(file) for file in files]
    if not any(one.rows for one in found):
        raise DataError(f"{files[0]}: expected rows, found none in any file of its part; download the files again.")
    return found


def scalar_columns(files: Sequence[Path], columns: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Small columns of all files, read into memory: each (N,) of int64, bool or str.

    Raises:
        DataError: a file can't be read, a column is missing or of another kind, or a value is missing.
    """
    parts: dict[str, list[NDArray[Any]]] = {column: [] for column in columns}
    for path in files:
        with opened_parquet(path, *columns) as file:
            table = file.read(columns=list(columns), use_threads=False)
            for column in columns if len(table) else ():  # without rows, a column has no type
                parts[column].append(_scalars(table[column], f"{path}, {column}"))
    for column, arrays in parts.items():
        if not arrays:
            raise DataError(f"{files[0]}: expected rows, found none in any file of its part; download the files again.")
        if len({array.dtype.kind for array in arrays}) > 1:
            raise DataError(f"{files[0]}, {column}: expected one type in all files, found others; download them again.")
    return {column: np.concatenate(arrays) for column, arrays in parts.items()}


def image_names(files: Sequence[Path], column: str) -> list[str] | None:
    """The field `path` of a column of images, of all files; None if a row has none."""
    names: list[str | None] = []
    for path in files:
        with opened_parquet(path, column) as file:
            kind = file.schema_arrow.field(column).type
            # A column of mere bytes has no fields.
            if "path" not in [kind.field(index).name for index in range(kind.num_fields)]:
                return None
            table = file.read(columns=[f"{column}.path"], use_threads=False)
            names += [cell and cell["path"] for cell in table[column].to_pylist()]
    found = [name for name in names if name]
    return found if len(found) == len(names) else None


def label_names(files: Sequence[Path], column: str) -> list[str]:
    """The names of the labels of a column, which Hugging Face stores beside the schema; none if no file has them.

    Raises:
        DataError: files have different names, so that a number means another class in each.
    """
    first: tuple[str, ...] = ()
    for path in files:
        with opened_parquet(path, column) as opened:
            names = _label_names(opened.schema_arrow.metadata or {}, column)
        first = first or names
        if names not in ((), first):
            raise DataError(
                f"{path}: expected the names of {column} as in the files before, found others; download all files "
                "again, of one version."
            )
    return list(first)


def _label_names(metadata: Mapping[bytes, bytes], column: str) -> tuple[str, ...]:
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):  # there are none, or something else has that name
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _scalars(column: Any, place: str) -> NDArray[Any]:
    values = column.to_pylist()
    if None in values:
        raise DataError(
            f"{place}: expected a value in every row, found none in row {values.index(None)}; download the file again."
        )
    for kind, dtype in ((bool, np.bool_), (int, np.int64), (str, np.str_)):
        if all(type(value) is kind for value in values):
            return np.array(values, dtype=dtype)
    raise DataError(
        f"{place}: expected whole numbers, truth values or strings, found {column.type}; download the file again."
    )
