"""Files that are written whole or not at all, and errors that say why one could not be written or read."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

# All temporary files have such names, so that those of killed processes are known.
_TEMPORARY = ".{name}.{token}.tmp"
_TEMPORARY_PATTERN = ".*.tmp"

Guard = Callable[[], AbstractContextManager[object]]


class StorageError(Exception):
    """A file or folder that can't be written or read; the message names it, the reason and what to do."""


def storage_error(path: Path, error: OSError) -> StorageError:
    """The system's error about a path in one sentence."""
    reason = (error.strerror or str(error)).lower()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "free some space there"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "change its permissions, or name another folder"
    else:
        advice = "check that place"
    return StorageError(f"{path}: {reason}; {advice}, then give the same command again. Finished runs are kept.")


def atomic_write(path: Path, write: Callable[[Path], object], guard: Guard = nullcontext) -> None:
    """Calls write(temporary path), then moves the file to `path`: a crash leaves either the old file or the new one.

    guard: a context in which the file is moved, for instance one that raises if another process owns the folder now.

    Raises:
        StorageError: the file can't be written.
    """
    temporary = path.with_name(_TEMPORARY.format(name=path.name, token=secrets.token_hex(8)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _flush(temporary)
        with guard():
            os.replace(temporary, path)
            with suppress(OSError):  # not every file system can do this for folders
                _flush(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str, guard: Guard = nullcontext) -> Path:
    """Writes text atomically, as UTF-8 with Unix line ends; returns the path."""
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"), guard)
    return path


def remove_temporary_files(folder: Path) -> None:
    """Removes what killed processes have left in a folder that no other process writes into."""
    for path in folder.glob(_TEMPORARY_PATTERN):
        with suppress(OSError):
            path.unlink()


def _flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk and would survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
