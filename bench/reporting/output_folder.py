"""The folder that a report writes to: which index it may replace, and when a temporary file there is abandoned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.records.files import StorageError, storage_error
from bench.records.names import inside
from bench.records.reading import Damaged, is_there

LONGEST_START = 1_000  # bytes, in which an index has its mark
# Seconds after which a temporary file was left by a killed process: another report may be writing the others.
ABANDONED = 600.0


def check_index(path: Path, mark: str) -> None:
    """Raises StorageError unless there is nothing at the path of the index, or one with this mark."""
    try:
        if not is_there(path):
            return
        with path.open("rb") as lines:
            start = lines.read(LONGEST_START)
    except Damaged as error:
        raise StorageError(f"{path}: {error}; name another folder with --out.") from error
    except OSError as error:
        raise storage_error(path, error) from error
    if mark.encode() not in start:
        raise StorageError(
            f"{path}: expected an index of reports, found another text, which stays as it is; name another folder with "
            "--out, or move that file away."
        )


def refuse_links(out: Path, folders: Sequence[Sequence[str]]) -> None:
    """Raises StorageError if a folder below `out`, given by its names, is a link: files elsewhere would be replaced."""
    for names in folders:
        path = out
        for name in names:
            path = inside(path, name)
            if path.is_symlink():
                raise StorageError(f"{path}: expected a folder, found a link; remove it, or name another with --out.")
