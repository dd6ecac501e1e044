"""Parquet files decoded once, column by column, into arrays on disk that every later run maps into memory.

As with single files (datasets/pixels.py), arrays are keyed by name, size and time of their sources and written under
another name first. Rows stream through in small batches, so memory stays flat however many there are.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from datasets.contract import DataError
from datasets.decoding.prepared import Array, stamps_of
from datasets.pixels import CACHE, mapped

INSTALL = "pip install -e '.[parquet]'"
ROWS = 8  # at a time: 50 MB at most of any column of NYUv2

# Part of the key of a cache: whoever changes what is stored changes it, so that older caches are not taken for it.
_FORMAT = "1"
_OF = re.compile(r"-of-(\d+)")


def shards(root: Path, part: str) -> list[Path]:
    """The files of a part, <part>-00000-of-00010-<hash>.parquet and the like, in `data` or in the root itself.

    Raises:
        DataError: fewer files than their names count.
    """
    found = sorted(root.glob(f"data/{part}-*.parquet")) or sorted(root.glob(f"{part}-*.parquet"))
    if not found:
        return []
    counted = _OF.search(found[0].name)
    wanted = int(counted[1]) if counted else len(found)
    if len(found) != wanted:
        raise DataError(
            f"{found[0].parent}: expected {wanted} files {part}-*.parquet as their names say, found {len(found)}; get "
            "the missing ones, and keep no file twice."
        )
    return found


def decoded_column(
    root: Path, files: Sequence[Path], column: str, convert: Callable[[Array], Array], recipe: str
) -> Tensor:
    """A column of all files as one tensor (N, ...), memory-mapped from a cache under `root`.

    convert: a row of nested lists as an array to what is kept of it; raises ValueError, "expected ..., found ...".
    recipe: names what `convert` does.

    Raises:
        DataError: a file can't be read, or a row is not as it should be; pyarrow is not installed.
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
        raise DataError(f"{files[0]}: expected rows, found none in any file of its part; get the files anew.")
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
                        f"{place}: expected {shape} like the first row, found {row.shape}; get the file anew."
                    )
                out.write(np.ascontiguousarray(row).tobytes())
        os.replace(temporary, target)
    except OSError as error:
        raise DataError(
            f"{target.parent}: could not write the decoded arrays ({error.strerror}); make room there, or give this "
            "user the right to write."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def converted(files: Sequence[Path], column: str, convert: Callable[[Array], Array]) -> Iterator[tuple[str, Array]]:
    """Every row in order, with its place in words."""
    for file in files:
        for number, row in enumerate(_rows(file, column)):
            place = f"{file}, row {number}, {column}"
            try:
                yield place, convert(row)
            except ValueError as error:
                raise DataError(f"{place}: {error}; get the file anew.") from error


def _pyarrow(file: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{file}: expected pyarrow to read it with, found none: {INSTALL}") from error
    return pyarrow


def row_count(file: Path) -> int:
    pyarrow = _pyarrow(file)
    try:
        count: int = pyarrow.parquet.read_metadata(file).num_rows
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{file}: expected a readable parquet file, found {error}; get the file anew.") from error
    return count


def _rows(file: Path, column: str) -> Iterator[Array]:
    pyarrow = _pyarrow(file)
    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            names = opened.schema_arrow.names
            if column not in names:
                raise DataError(f"{file}: expected a column {column}, found {', '.join(names)}; get the file anew.")
            for batch in opened.iter_batches(batch_size=ROWS, columns=[column]):
                yield from _dense(batch.column(0), pyarrow, f"{file}, {column}")
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{file}: expected a readable parquet file, found {error}; get the file anew.") from error


def _dense(lists: Any, pyarrow: Any, place: str) -> Array:
    """Nested lists of equal lengths as one array (rows, ...)."""
    extents = [len(lists)]
    while isinstance(lists, pyarrow.ListArray | pyarrow.LargeListArray | pyarrow.FixedSizeListArray):
        lengths = np.unique(lists.value_lengths().to_numpy(zero_copy_only=False))
        if lists.null_count or len(lengths) != 1:
            raise DataError(f"{place}: expected lists of one length in all rows, found others; get the file anew.")
        extents.append(int(lengths[0]))
        lists = lists.flatten()
    if not (pyarrow.types.is_integer(lists.type) or pyarrow.types.is_floating(lists.type)):
        raise DataError(f"{place}: expected lists of numbers, found {lists.type}; get the file anew.")
    dense: Array = lists.to_numpy(zero_copy_only=False).reshape(extents)
    return dense
