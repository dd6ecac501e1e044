"""Sources of the rows of an array. Their chunks can be pickled, since worker processes decode them.

Imports no torch, since those processes need none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from datasets.decoding.prepared import Array, Rows, Stamps, stamps_of
from datasets.errors import DataError

FILES_PER_CHUNK = 32


@dataclass(frozen=True)
class Attempt:
    """A row that was read, or could not be.

    place: what it is decoded from, for messages.
    content: the path of its file, or the cell of its table.
    outcome: the row, or why it is invalid.
    """

    place: str
    content: Path | bytes | Array
    outcome: Array | DataError


class Chunk(Protocol):
    """Some rows, which one process decodes."""

    @property
    def rows(self) -> Rows:
        """Their indices (n,) in the array, n ≥ 1."""

    @property
    def unit(self) -> str:
        """What a row is decoded from, in a word."""

    @property
    def first(self) -> str:
        """Where the first row is decoded from, for messages."""

    @property
    def if_shapes_differ(self) -> str:
        """What to do if a row differs from the others in shape."""

    def attempts(self) -> Iterator[Attempt]:
        """Each row, in the order of `rows`.

        Raises:
            DataError: neither this row nor those after it can be read.
        """


def valid_rows(chunk: Chunk) -> Iterator[tuple[str, Array]]:
    """Each row of a chunk in order, with the place that it is decoded from.

    Raises:
        DataError: a row can't be read or is invalid.
    """
    for attempt in chunk.attempts():
        if isinstance(attempt.outcome, DataError):
            raise attempt.outcome
        yield attempt.place, attempt.outcome


class RowSource(Protocol):
    """All rows of an array."""

    @property
    def unit(self) -> str:
        """What a row is decoded from, in a word."""

    @property
    def count(self) -> int:
        """N, the number of rows."""

    def stamps(self) -> Stamps:
        """Size (bytes) and time (ns) of the file of each row, (N, 2)."""

    def chunks(self, rows: Rows) -> list[Chunk]:
        """These rows, in ascending order, in chunks."""

    def place(self, row: int) -> str:
        """Where a row is decoded from, for messages."""


@dataclass(frozen=True)
class FileChunk:
    """Files, each of which gives the row of the same position in `rows`."""

    rows: Rows
    paths: tuple[Path, ...]
    load: Callable[[Path], Array]
    unit: str = "file"
    if_shapes_differ: str = "set `data.image_size` to bring all images to one size"

    @property
    def first(self) -> str:
        return str(self.paths[0])

    def attempts(self) -> Iterator[Attempt]:
        return (Attempt(str(path), path, self._outcome(path)) for path in self.paths)

    def _outcome(self, path: Path) -> Array | DataError:
        try:
            return self.load(path)
        except DataError as error:
            return error


@dataclass(frozen=True)
class FileRows:
    """One file per row. load: decodes a file."""

    paths: Sequence[Path]
    load: Callable[[Path], Array]
    unit: str = "file"

    @property
    def count(self) -> int:
        return len(self.paths)

    def stamps(self) -> Stamps:
        return stamps_of(self.paths)

    def chunks(self, rows: Rows) -> list[Chunk]:
        parts = [rows[start : start + FILES_PER_CHUNK] for start in range(0, len(rows), FILES_PER_CHUNK)]
        return [FileChunk(part, tuple(self.paths[row] for row in part.tolist()), self.load) for part in parts]

    def place(self, row: int) -> str:
        return str(self.paths[row])
