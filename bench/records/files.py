"""Files that are written whole or not at all, and errors that say why one could not be written or read."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from bench.records.system_errors import explained

# All temporary files have such names, so that those of killed processes are known.
_TEMPORARY = ".{name}.{token}.tmp"
_TEMPORARY_PATTERN = ".*.tmp"

Guard = Callable[[], AbstractContextManager[object]]


class StorageError(Exception):
    """A file or folder that can't be written or read; the message names it, the reason and what to do."""


def storage_error(path: Path, error: OSError) -> StorageError:
    """The system's error about a path in one sentence."""
    return StorageError(f"{path}: {explained(path, error)}, then give the same command again. Finished runs are kept.")


def is_file(path: Path) -> bool:
    """Whether there is a file, or a link to one.

    Raises:
        StorageError: that can't be known, as in a folder that may not be searched.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise storage_error(path, error) from error


def matching(folder: Path, *patterns: str) -> list[Path]:
    """What lies below a folder, one pattern per level, sorted; nothing if there is no such folder.

    Path.glob leaves out in silence what may not be listed.

    Raises:
        StorageError: a folder can't be listed.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if fnmatchcase(name, patterns[0]))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise storage_error(folder, error) from error
    found = [folder / name for name in names]
    return found if len(patterns) == 1 else [path for below in found for path in matching(below, *patterns[1:])]


def atomic_write(path: Path, write: Callable[[Path], object], guard: Guard = nullcontext) -> None:
    """Calls write(temporary path), then moves the file to `path`: a crash leaves either the old file or the new one.

    guard: a context in which the file is moved, for instance one that raises if another process owns the folder now.

    Raises:
        StorageError: the file can't be written.
    """
    temporary = path.with_name(_TEMPORARY.format(name=path.name, token=secrets.token_hex(8)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _system_errors(path):
            write(temporary)
        flush(temporary)
        with guard():
            os.replace(temporary, path)
            with suppress(OSError):  # not every file system can do this for folders
                flush(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """Finds the error of the system behind others: torch and matplotlib raise their own while they handle one."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise storage_error(path, cause) from error


def atomic_write_text(path: Path, text: str, guard: Guard = nullcontext) -> Path:
    """Writes text atomically, as UTF-8 with Unix line ends; returns the path."""
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"), guard)
    return path


def remove_temporary_files(folder: Path, idle: float = 0.0) -> None:
    """Removes what killed processes have left in a folder.

    idle: seconds for which a file was not written to. 0 is for folders that no other process writes into.
    """
    for path in folder.glob(_TEMPORARY_PATTERN):
        with suppress(OSError):
            if not idle or time.time() - path.stat().st_mtime > idle:
                path.unlink()


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that a process was writing when it was killed."""
    return fnmatchcase(name, _TEMPORARY_PATTERN)


def flush(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk and would survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
