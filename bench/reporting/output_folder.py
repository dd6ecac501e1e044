"""The folder that a report writes to: who may write there, where its new files are made, which index it may replace."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from bench.records.files import StorageError, storage_error
from bench.records.folder_lock import only_writer
from bench.records.names import inside
from bench.records.reading import Damaged, is_there

LONGEST_START = 1_000  # bytes, in which an index has its mark
# Seconds after which a temporary file was left by a killed process: another report may be writing the others.
ABANDONED = 600.0
# Starts every index and page of reports, whatever they are about.
MADE = "Generated from the records by `python -m bench.report"
_NEW, _ENDING = ".report-", ".tmp"  # start and end of the name of a folder of new files


def alone_in(out: Path) -> AbstractContextManager[bool]:
    """Within, no other report is written to this folder; as `only_writer`."""
    return only_writer(
        out,
        "expected a folder that no other report is written to, found one that another command writes to; wait for it, "
        "or name another folder with --out.",
    )


@contextmanager
def new_files_in(out: Path, alone: bool) -> Iterator[Path]:
    """A folder below `out` in which a report is made before it is put in place; removed at the end.

    alone: whether no other report is being written here, so that such folders are those of killed ones and removed.

    Raises:
        StorageError: it can't be made. Those of files in it name the place where they were to be.
    """
    for folder in out.glob(f"{_NEW}*{_ENDING}"):
        if alone or _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    try:
        new = Path(tempfile.mkdtemp(_ENDING, _NEW, out))
    except OSError as error:
        raise storage_error(out, error) from error
    try:
        yield new
    except StorageError as error:
        raise StorageError(str(error).replace(str(new), str(out))) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Whether nothing was written in a folder for so long that its report must have been killed."""
    with suppress(OSError):  # another report moves its files
        newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
        return time.time() - newest > ABANDONED
    return False


def is_index(path: Path) -> bool:
    """Whether there is an index or a page of reports, of whatever kind."""
    try:
        if not is_there(path):
            return False
        with path.open("rb") as lines:
            return MADE.encode() in lines.read(LONGEST_START)
    except (OSError, Damaged):
        return False


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
    """Raises StorageError if something else is at the place of a folder below `out`, given by its names.

    Through a link, files elsewhere would be replaced.
    """
    for names in folders:
        path = out
        for name in names:
            path = inside(path, name)
            is_other = os.path.lexists(path) and not path.is_dir()
            found = "a link" if path.is_symlink() else "a file" if is_other else ""
            if found:
                raise StorageError(f"{path}: expected a folder, found {found}; remove it, or name another with --out.")
