"""Rows of a column of parquet files. Rows are read in small batches, so memory stays constant.

Imports no torch, since processes that decode need none. pyarrow is optional, and imported where a file is read.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datasets.decoding.prepared import Array, Rows, Stamps, stamps_of
from datasets.decoding.rows import Attempt, Chunk
from datasets.errors import DataError, forbidden

INSTALL = "pip install -e '.[parquet]'"
# At a time: 50 MB at most of any column of NYUv2.
_ROWS_PER_BATCH = 8
# Rows of a row group can only be read from its start. So a group is cut into few chunks, if it has many rows.
_ROWS_PER_CHUNK, _CHUNKS_PER_GROUP = 512, 8

# What a cell holds: nested lists of numbers, or the bytes of a file, which may be in a struct as images of Hugging Face
# are.
Cells = Literal["lists", "bytes"]
# From a cell, an array or bytes, to what is stored. Raises ValueError, "expected ..., found ...".
Convert = Callable[[Any], Array]


@dataclass(frozen=True)
class Shard:
    """A parquet file. groups: the number of rows of each of its row groups."""

    path: Path
    groups: tuple[int, ...]

    @property
    def rows(self) -> int:
        return sum(self.groups)


@dataclass(frozen=True)
class TableChunk:
    """Rows of one row group.

    group: its index in the file. offset: the index in the file of its first row. members: indices in the group.
    """

    rows: Rows
    path: Path
    group: int
    offset: int
    members: tuple[int, ...]
    column: str
    cells: Cells
    convert: Convert
    unit: str = "row"

    @property
    def first(self) -> str:
        return _place(self.path, self.offset + self.members[0], self.column)

    @property
    def if_shapes_differ(self) -> str:
        images = "set `data.image_size` to bring all images to one size"
        return images if self.cells == "bytes" else "download the file again"

    def attempts(self) -> Iterator[Attempt]:
        wanted, last = set(self.members), self.members[-1]
        for index, cell in enumerate(_cells(self.path, self.group, self.column, self.cells)):
            if index in wanted:
                place = _place(self.path, self.offset + index, self.column)
                yield Attempt(place, cell, self._outcome(place, cell))
            if index == last:
                return

    def _outcome(self, place: str, cell: bytes | Array) -> Array | DataError:
        try:
            return self.convert(cell)
        except ValueError as error:
            return DataError(f"{place}: {error}; download the file again.")


@dataclass(frozen=True)
class TableRows:
    """One row per row of a column, of all shards in order."""

    shards: Sequence[Shard]
    column: str
    cells: Cells
    convert: Convert
    unit: str = "row"

    @property
    def count(self) -> int:
        return sum(shard.rows for shard in self.shards)

    def stamps(self) -> Stamps:
        return stamps_of([shard.path for shard in self.shards]).repeat([shard.rows for shard in self.shards], axis=0)

    def chunks(self, rows: Rows) -> list[Chunk]:
        chunks: list[Chunk] = []
        start = 0  # the row of the array that the row group begins at
        for shard in self.shards:
            offset = 0
            for group, count in enumerate(shard.groups):
                within = rows[(rows >= start) & (rows < start + count)]
                pieces = min(_CHUNKS_PER_GROUP, math.ceil(len(within) / _ROWS_PER_CHUNK))
                for part in np.array_split(within, pieces) if pieces else ():
                    members = tuple((part - start).tolist())
                    source = (shard.path, group, offset, members)
                    chunks.append(TableChunk(part, *source, self.column, self.cells, self.convert))
                start, offset = start + count, offset + count
        return chunks

    def place(self, row: int) -> str:
        (chunk,) = self.chunks(np.array([row]))
        return chunk.first


def shard(path: Path) -> Shard:
    """A file and the sizes of its row groups.

    Raises:
        DataError: it can't be read, or pyarrow is not installed.
    """
    with opened_parquet(path) as file:
        return Shard(path, tuple(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)))


@contextlib.contextmanager
def opened_parquet(path: Path, *columns: str) -> Iterator[Any]:
    """An open pyarrow.parquet.ParquetFile that has these columns. Its errors while it is open name the file, too."""
    pyarrow = _pyarrow(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for column in columns:
                if column not in names:
                    raise DataError(
                        f"{path}: expected a column {column}, found {', '.join(names)}; download the file again."
                    )
            yield file
    except PermissionError as error:
        raise forbidden(path) from error
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: expected a readable parquet file, found {error}; download the file again.") from error


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path}: expected pyarrow, which reads it, found none; install it with: {INSTALL}") from error
    return pyarrow


def _place(path: Path, row: int, column: str) -> str:
    return f"{path}, row {row}, {column}"


def _cells(path: Path, group: int, column: str, kind: Cells) -> Iterator[Any]:
    """The cells of a row group: arrays or bytes."""
    pyarrow = _pyarrow(path)
    with opened_parquet(path, column) as file:
        top = {"row_groups": [group], "columns": [column], "use_threads": False}
        for batch in file.iter_batches(batch_size=_ROWS_PER_BATCH, **top):
            if kind == "lists":
                yield from _dense(batch.column(0), pyarrow, f"{path}, {column}")
            else:
                yield from _contents(batch.column(0), pyarrow, f"{path}, {column}")


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


def _contents(cells: Any, pyarrow: Any, place: str) -> list[bytes]:
    """The bytes of files: of binary cells, or of the field `bytes` of structs."""
    kind = cells.type
    if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        cells = cells.field("bytes")
    if not (pyarrow.types.is_binary(cells.type) or pyarrow.types.is_large_binary(cells.type)):
        raise DataError(f"{place}: expected the bytes of files, found {kind}; download the file again.")
    contents: list[bytes | None] = cells.to_pylist()
    return [content or b"" for content in contents]
