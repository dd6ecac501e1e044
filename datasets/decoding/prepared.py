"""Prepared arrays: one row per source row, on disk, filled row by row; memory-mapped once they are complete.

A file is a .npy array (N, ...) followed by N marks, which numpy ignores. A mark has a stamp, the size and time of the
file that the row was decoded from, and the digest of the row; it is zero if the row isn't decoded yet. The file has
another name until it is complete. Rows are written by offset, never through a memory map: a full disk is then an error
instead of a crash, and written rows don't count as memory of this process.

Imports no torch, since processes that decode need none.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from datasets.errors import DataError, forbidden

Array = NDArray[np.generic]
Stamps = NDArray[np.int64]
Digests = NDArray[np.uint8]
Rows = NDArray[np.intp]

DIGEST_BYTES = 16
# A stamp is size (bytes) and time (ns). A mark begins at a multiple of its size, so that no mark crosses a disk sector
# and a power cut leaves it whole.
_MARK = np.dtype([("stamp", np.int64, (2,)), ("digest", np.uint8, (DIGEST_BYTES,))])
_COPIED_AT_ONCE = 2**24


@dataclass(frozen=True)
class Layout:
    """Type and shape (N, ...) of an array, and the byte offsets of its rows and marks in the file."""

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
    def rows_end(self) -> int:
        return self.rows_at + self.shape[0] * self.row_bytes

    @property
    def marks_at(self) -> int:
        return math.ceil(self.rows_end / _MARK.itemsize) * _MARK.itemsize

    @property
    def file_bytes(self) -> int:
        return self.marks_at + self.shape[0] * _MARK.itemsize


@dataclass(frozen=True)
class Marks:
    """What is noted of the rows of an array: stamps (N, 2) of their sources, digests (N, 16) of their content."""

    stamps: Stamps
    digests: Digests


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


def digest_of(row: memoryview | bytes) -> bytes:
    """The digest of the bytes of a row.

    XXH3 finds every change that happens by accident, and takes a fiftieth of the time of a cryptographic hash.
    """
    return xxhash.xxh3_128_digest(row)


def layout_in(file: BinaryIO) -> Layout | None:
    """The layout of an open file; None if its length differs from what its header says."""
    try:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    except (ValueError, TokenError):  # TokenError: a damaged header
        return None
    layout = Layout(dtype, shape)
    return layout if os.fstat(file.fileno()).st_size == layout.file_bytes else None


def layout_of(path: Path) -> Layout | None:
    """The layout of a file; None if there is no such file, or it can't be read."""
    try:
        with path.open("rb") as file:
            return layout_in(file)
    except OSError:
        return None


def marks_in(file: BinaryIO, layout: Layout) -> Marks:
    """The marks in an open file of this layout."""
    file.seek(layout.marks_at)
    marks = np.frombuffer(file.read(layout.shape[0] * _MARK.itemsize), dtype=_MARK)
    return Marks(marks["stamp"], marks["digest"])


def create(path: Path, layout: Layout) -> None:
    """Creates an array without decoded rows; replaces an existing file."""
    with path.open("wb") as file:
        file.write(layout.header)
        file.truncate(layout.file_bytes)


def write_row(descriptor: int, layout: Layout, row: int, content: memoryview) -> None:
    """Writes the bytes of one row, without its mark.

    Raises:
        OSError: it could not be written completely.
    """
    _write_all(descriptor, content, layout.rows_at + row * layout.row_bytes)


def mark(descriptor: int, layout: Layout, rows: Rows, marks: Marks) -> None:
    """Marks rows as decoded. marks: of these rows, in their order."""
    if not len(rows):
        return
    os.fsync(descriptor)  # a mark must not reach the disk before its row
    order = np.argsort(rows)
    packed = np.empty(len(rows), dtype=_MARK)
    packed["stamp"], packed["digest"] = marks.stamps[order], marks.digests[order]
    ascending = rows[order]
    starts = [0, *(np.flatnonzero(np.diff(ascending) != 1) + 1).tolist()]
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):  # runs of neighbours
        content = memoryview(packed[start:end].tobytes())
        _write_all(descriptor, content, layout.marks_at + int(ascending[start]) * _MARK.itemsize)


def take_over(former: Path, descriptor: int, layout: Layout, rows: Rows) -> None:
    """Copies another array of this layout, and the marks of these rows."""
    with former.open("rb") as file:
        for start in range(layout.rows_at, layout.rows_end, _COPIED_AT_ONCE):
            count = min(_COPIED_AT_ONCE, layout.rows_end - start)
            _write_all(descriptor, memoryview(os.pread(file.fileno(), count, start)), start)
        marks = marks_in(file, layout)
    mark(descriptor, layout, rows, Marks(marks.stamps[rows], marks.digests[rows]))


def finish(part: Path, target: Path) -> None:
    """Gives a complete array its final name."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)


def _write_all(descriptor: int, content: memoryview, offset: int) -> None:
    while content:  # a disk that is almost full accepts a part, and rejects the rest
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written
