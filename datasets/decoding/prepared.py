"""Prepared arrays: one row per source file, on disk, filled row by row; memory-mapped once they are complete.

A file is a .npy array (N, ...) followed by N stamps, which numpy ignores: the size and time of the source that the row
was decoded from, or zeros if it isn't decoded yet. The file has another name until it is complete. Rows are written by
offset, never through a memory map: a full disk is then an error instead of a crash, and written rows don't count as
memory of this process.

Imports no torch, since processes that decode need none.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError, forbidden

Array = NDArray[np.generic]
Stamps = NDArray[np.int64]
Rows = NDArray[np.intp]

# Bytes of a stamp: size and time, in ns.
_STAMP = 16
_COPIED_AT_ONCE = 2**24


@dataclass(frozen=True)
class Layout:
    """Type and shape (N, ...) of an array, and the byte offsets of its rows and stamps in the file."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def header(self) -> bytes:
        stream = io.BytesIO()
        described = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(stream, described)
        return stream.getvalue()

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def rows_at(self) -> int:
        return len(self.header)

    @property
    def stamps_at(self) -> int:
        return self.rows_at + self.shape[0] * self.row_bytes

    @property
    def file_bytes(self) -> int:
        return self.stamps_at + self.shape[0] * _STAMP


def stamps_of(paths: Sequence[Path]) -> Stamps:
    """Size (bytes) and time (ns) of each file, (N, 2).

    Raises:
        DataError: a file is absent, or in a folder without permission to search.
    """
    stamps = np.empty((len(paths), 2), dtype=np.int64)
    for index, path in enumerate(paths):
        try:
            status = path.stat()
        except PermissionError as error:
            raise forbidden(path) from error
        except OSError as error:
            raise DataError(f"{path}: expected a file, found none ({error.strerror}).") from error
        stamps[index] = status.st_size, status.st_mtime_ns
    return stamps


def layout_of(path: Path) -> Layout | None:
    """The layout of a file; None if there is no file, or if its length differs from what its header says."""
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            layout = Layout(dtype, shape)
            complete = os.fstat(file.fileno()).st_size == layout.file_bytes
    except (FileNotFoundError, ValueError):
        return None
    return layout if complete else None


def stamps_in(path: Path, layout: Layout) -> Stamps:
    """The stamps (N, 2) in a file of this layout."""
    return np.fromfile(path, dtype=np.int64, offset=layout.stamps_at).reshape(-1, 2)


def is_current(path: Path, stamps: Stamps) -> bool:
    """Whether every row was decoded from the current version of its source."""
    layout = layout_of(path)
    return layout is not None and np.array_equal(stamps_in(path, layout), stamps)


def create(path: Path, layout: Layout) -> None:
    """Creates an array without decoded rows; replaces an existing file."""
    with path.open("wb") as file:
        file.write(layout.header)
        file.truncate(layout.file_bytes)


def write_row(descriptor: int, layout: Layout, row: int, values: Array) -> None:
    """Writes one row, without its stamp.

    Raises:
        OSError: it could not be written completely.
    """
    _write_all(descriptor, memoryview(values.tobytes()), layout.rows_at + row * layout.row_bytes)


def stamp(descriptor: int, layout: Layout, rows: Rows, stamps: Stamps) -> None:
    """Marks rows as decoded. stamps: (N, 2) of the sources of all rows."""
    os.fsync(descriptor)  # a stamp must not reach the disk before its row
    for row in rows.tolist():
        _write_all(descriptor, memoryview(stamps[row].tobytes()), layout.stamps_at + row * _STAMP)


def take_over(former: Path, descriptor: int, layout: Layout, stamps: Stamps) -> None:
    """Copies the rows of another array of this layout, and stamps those whose source is unchanged."""
    with former.open("rb") as file:
        for start in range(layout.rows_at, layout.stamps_at, _COPIED_AT_ONCE):
            count = min(_COPIED_AT_ONCE, layout.stamps_at - start)
            _write_all(descriptor, memoryview(os.pread(file.fileno(), count, start)), start)
    same = (stamps_in(former, layout) == stamps).all(axis=1)
    stamp(descriptor, layout, np.flatnonzero(same), stamps)


def finish(part: Path, target: Path) -> None:
    """Gives a complete array its final name."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)


def _write_all(descriptor: int, content: memoryview, offset: int) -> None:
    while content:  # a disk that is almost full accepts a part, and rejects the rest
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written
