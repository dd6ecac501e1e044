"""Whether a finished array still is what was decoded: its sources by size and time, its rows by their digests.

Hashing an array takes seconds per gigabyte, so a side file notes its size and time at the end of the preparation, or
after the last comparison with its digests. An array with another size or time is compared again, row by row: it may be
a copy, or damaged.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from datasets.decoding.prepared import Layout, Marks, Rows, Stamps, digest_of, layout_in, marks_in


@dataclass(frozen=True)
class Condition:
    """Which rows of a finished array must be decoded again.

    changed: those whose source changed since it was decoded.
    damaged: others, whose content differs from what was decoded.
    compared: whether the rows were compared with their digests, since the side file doesn't hold.
    """

    layout: Layout
    changed: Rows
    damaged: Rows
    compared: bool

    @property
    def is_current(self) -> bool:
        return not len(self.changed) and not len(self.damaged)

    @property
    def intact(self) -> Rows:
        """The other rows."""
        return np.setdiff1d(np.arange(self.layout.shape[0]), np.concatenate([self.changed, self.damaged]))


def examine(array: Path, stamps: Stamps) -> Condition | None:
    """The condition of an array; None if there is none that can be read, or one with another number of rows.

    stamps: (N, 2) of the sources as they are now.
    """
    try:
        with array.open("rb") as file:
            layout = layout_in(file)
            if layout is None or layout.shape[0] != len(stamps):
                return None
            marks = marks_in(file, layout)
            differs = (marks.stamps != stamps).any(axis=1)
            known = _is_sealed(array, file)
            damaged = np.empty(0, dtype=np.intp) if known else _damaged(file, layout, marks, np.flatnonzero(~differs))
    except OSError:
        return None
    return Condition(layout, np.flatnonzero(differs), damaged, not known)


def seal(array: Path) -> None:
    """Notes that the array, as it is now, agrees with its digests.

    Raises:
        OSError: it could not be written.
    """
    status, note = array.stat(), _side_file(array)
    unfinished = note.with_suffix(f".json.{secrets.token_hex(8)}.tmp")
    try:
        unfinished.write_text(json.dumps({"size": status.st_size, "mtime_ns": status.st_mtime_ns}), encoding="ascii")
        os.replace(unfinished, note)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def remove_unfinished_notes(array: Path) -> None:
    """Removes what killed processes have left; one that is just noting something notes it another time."""
    note = _side_file(array)
    for left in note.parent.glob(f"{note.name}.*.tmp"):
        left.unlink(missing_ok=True)


def _side_file(array: Path) -> Path:
    return array.with_suffix(".json")


def _is_sealed(array: Path, file: BinaryIO) -> bool:
    try:
        noted = json.loads(_side_file(array).read_text(encoding="ascii"))
    except (OSError, ValueError):  # absent, not readable, or damaged
        return False
    status = os.fstat(file.fileno())
    return bool(noted == {"size": status.st_size, "mtime_ns": status.st_mtime_ns})


def _damaged(file: BinaryIO, layout: Layout, marks: Marks, rows: Rows) -> Rows:
    """Those of the rows that differ from their digests."""

    def differs(row: int) -> bool:
        content = os.pread(file.fileno(), layout.row_bytes, layout.rows_at + row * layout.row_bytes)
        return digest_of(content) != marks.digests[row].tobytes()

    return np.array([row for row in rows.tolist() if differs(row)], dtype=np.intp)
