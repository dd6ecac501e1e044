"""Parquet files decoded once, column by column, into arrays on disk that every later run memory-maps.

As with single files (datasets/pixels.py), the key of an array is made of the names, sizes and times of its sources, and
an array is written under another name first. Rows are read in small batches, so memory stays constant.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.contract import DataError
from datasets.decoding.prepared import Array, stamps_of
from datasets.pixels import CACHE, Stored, mapped

INSTALL = "pip install -e '.[parquet]'"
ROWS = 8  # at a time: 50 MB at most of any column of NYUv2

# Part of a cache's key. Change it together with the stored format, so that older caches aren't used.
_FORMAT = "1"
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
    root: Path, files: Sequence[Path], column: str, convert: Callable[[Array], Array], recipe: str
) -> Stored:
    """A column of all files as one array (N, ...), memory-mapped from a cache under `root`.

    convert: from a row of nested lists, as an array, to what is stored; raises ValueError, "expected ..., found ...".
    recipe: describes what `convert` does; part of the cache's key.

    Raises:
        DataError: a file can't be read, a row is invalid, or pyarrow is not installed.
    """
    target = root / CACHE / f"{_digest(root, files, f'{column} {recipe}')}.npy"
    if not target.is_file():
        _decode(files, column, convert, target)
    return mapped(target)


def _digest(root: Path, files: Sequence[Path], recipe: str) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {recipe}".encode())
    for file, (size, time) in zip(files, stamps_of(files).tolist(), strict=True):
        digest.update(f"{file.relative_to(root)} {size} {time}\n".encode())
    return digest.hexdigest()[:16]


def _decode(files: Sequence[Path], column: str, convert: Callable[[Array], Array], target: Path) -> None:
    total = sum(row_count(file) for file in files)
    if total == 0:
        raise DataError(f"{files[0]}: expected rows, found none in any file of its part; download the files again.")
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.npy")
    shape: tuple[int, ...] | None = None
    try:
        target.parent.mkdir(exist_ok=True)
        with temporary.open("wb") as out:
            for place, row in converted(files, column, convert):
                if shape is None:
                    shape = row.shape
                    header = {"descr": np.lib.format.dtype_to_descr(row.dtype), "fortran_order": False}
                    np.lib.format.write_array_header_1_0(out, {**header, "shape": (total, *shape)})
                if row.shape != shape:
                    raise DataError(
                        f"{place}: expected {shape} like the first row, found {row.shape}; download the file again."
                    )
                out.write(np.ascontiguousarray(row).tobytes())
        os.replace(temporary, target)
    except OSError as error:
        raise DataError(
            f"{target.parent}: could not write the decoded arrays ({error.strerror}); make room there, or "
            "give this user permission to write."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def converted(files: Sequence[Path], column: str, convert: Callable[[Array], Array]) -> Iterator[tuple[str, Array]]:
    """Every row in order, with a description of its place."""
    for file in files:
        for number, row in enumerate(_rows(file, column)):
            place = f"{file}, row {number}, {column}"
            try:
                yield place, convert(row)
            except ValueError as error:
                raise DataError(f"{place}: {error}; download the file again.") from error


def _pyarrow(file: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{file}: expected pyarrow, which reads it, found none; install it with: {INSTALL}") from error
    return pyarrow


def row_count(file: Path) -> int:
    pyarrow = _pyarrow(file)
    try:
        count: int = pyarrow.parquet.read_metadata(file).num_rows
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{file}: expected a readable parquet file, found {error}; download the file again.") from error
    return count


def column_names(file: Path) -> list[str]:
    """The names of the columns of a file."""
    pyarrow = _pyarrow(file)
    try:
        names: list[str] = pyarrow.parquet.read_schema(file).names
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{file}: expected a readable parquet file, found {error}; download the file again.") from error
    return names


def _rows(file: Path, column: str) -> Iterator[Array]:
    pyarrow = _pyarrow(file)
    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            if column not in names:
                raise DataError(
                    f"{file}: expected a column {column}, found {', '.join(names)}; download the file again."
                )
            for batch in opened.iter_batches(batch_size=ROWS, columns=[column]):
                yield from _dense(batch.column(0), pyarrow, f"{file}, {column}")
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{file}: expected a readable parquet file, found {error}; download the file again.") from error


def _dense(lists: Any, pyarrow: Any, place: str) -> Array:
    """Nested lists of equal lengths as one array (rows, ...)."""
    extents = [len(lists)]
    while isinstance(lists, pyarrow.ListArray | pyarrow.LargeListArray | pyarrow.FixedSizeListArray):
        lengths = np.unique(lists.value_lengths().to_numpy(zero_copy_only=False))
        if lists.null_count or len(lengths) != 1:
            raise DataError(
                f"{place}: expected lists of one length in all rows, found others; download the file again."
            )
        extents.append(int(lengths[0]))
        lists = lists.flatten()
    if not (pyarrow.types.is_integer(lists.type) or pyarrow.types.is_floating(lists.type)):
        raise DataError(f"{place}: expected lists of numbers, found {lists.type}; download the file again.")
    dense: Array = lists.to_numpy(zero_copy_only=False).reshape(extents)
    return dense
