"""One process at a time writes to a folder: a lock that the system releases when the process dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.records.files import StorageError, storage_error
from bench.records.system_errors import nearest


@contextmanager
def only_writer(folder: Path, refusal: str) -> Iterator[bool]:
    """Within, no other process is the writer of this folder; False where its file system has no locks to make sure.

    The folder is made; if it is empty at the end, it is removed again, as are those above it that were made.
    refusal: what to say if another process is the writer, after the path.

    Raises:
        StorageError: another process is, or there can't be such a folder.
    """
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    file, alone = _locked(folder, refusal)
    try:
        yield alone
    finally:
        os.close(file)  # unlocks it
        with suppress(OSError):  # the rest has content
            for place in made:
                place.rmdir()


def _locked(folder: Path, refusal: str) -> tuple[int, bool]:
    """The open folder, and whether it could be locked."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            expected = f"expected a place for a folder, found that none can be made in {nearest(folder)}"
            raise StorageError(f"{folder}: {expected}; name another one.") from error
        except OSError as error:
            raise storage_error(folder, error) from error
        alone = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise StorageError(f"{folder}: {refusal}") from error
        except OSError:  # no locks
            alone = False
        if _is_still_there(file, folder):
            return file, alone
        os.close(file)  # another process has removed it, empty, before it could be locked


def _is_still_there(file: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), folder.stat())
    except OSError:
        return False
