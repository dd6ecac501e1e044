"""Errors about data that is absent or invalid. Imports no torch, since processes that decode images need none."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class DataError(Exception):
    """Data that is absent or invalid. The message says what was expected, what was found, and what to do."""


class DataMissing(DataError):
    """The data set was not found."""


class NotPrepared(DataError):
    """An array that isn't current, where nothing may be decoded.

    folder: of the data set.
    what: what the rows are, in words.
    pending, total: number of rows that must be decoded, and of all.
    first: where the first of them is decoded from.
    changed: whether they had been decoded; else they never were.
    """

    def __init__(self, folder: Path, what: str, pending: int, total: int, first: str, changed: bool) -> None:
        super().__init__(folder, what, pending, total, first, changed)  # so that it can be pickled
        self.folder, self.what, self.first = folder, what, first
        self.pending, self.total, self.changed = pending, total, changed

    def __str__(self) -> str:
        state = "changed since they were decoded" if self.changed else "are not decoded yet"
        return f"{self.folder}: {self.pending:,} of {self.total:,} {self.what} {state}, the first is {self.first}"


def forbidden(path: Path) -> DataError:
    """The error for a file or folder that exists and may not be read."""
    return DataError(f"{path}: expected permission to read it, found none; change its permissions.")


def not_written(place: Path, task: str, error: OSError, other: str) -> DataError:
    """The error for files that could not be written.

    task: what they were written for, in the imperative.
    other: another place, and how to choose it.
    """
    reason = error.strerror or str(error)
    if error.errno in (None, errno.ENOSPC, errno.EDQUOT):
        usage = os.statvfs(next(folder for folder in (place, *place.absolute().parents) if os.path.exists(folder)))
        files = f" and {usage.f_favail:,} files" if usage.f_files else ""
        # What is made is removed again when it fails, so this may be more than nothing.
        reason += f"; {usage.f_bavail * usage.f_frsize / 2**20:,.1f} MiB{files} are free now"
    return DataError(
        f"{place}: could not {task} ({reason}); make room or allow writing there, or choose {other}, and run "
        "the same command again."
    )
