"""A folder of embedded data that appears under its name only when it is complete, and notes its maker's version."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOTE = ".made_by"
# Before versions were set by hand, the note was a digest of the makers' source text. All of these made version 1.
_DIGESTS_OF_VERSION_1 = ("5faa050c575f7897", "9d836cb67d180fbf", "64a1019dd9a5a465")


def noted_version(folder: Path) -> int | None:
    """The version of the maker that wrote this folder; None without a note, or with one that isn't known."""
    note = folder / _NOTE
    if not os.path.isfile(note):  # nor may it be looked for in a folder without permission to search
        return None
    text = note.read_text(encoding="ascii", errors="replace").strip()
    if text in _DIGESTS_OF_VERSION_1:
        return 1
    number = text.removeprefix("version ")
    return int(number) if number != text and number.isdecimal() else None


@contextmanager
def atomic_folder(folder: Path, maker_version: int) -> Iterator[Path]:
    """An empty folder to write into, which becomes `folder` when the block ends, and is removed when it fails.

    If the process is killed, it is removed when the folder is made the next time.

    If another process made `folder` in the meantime, that folder stays and this one is removed. Both are complete and
    equal, since what is written depends on the code alone.

    Raises:
        FileExistsError: `folder` is a file or not empty; it is left unchanged.
    """
    folder = folder.resolve()  # a link is followed: a folder can't be renamed to it
    if folder.is_file() or _is_filled(folder):
        raise FileExistsError(f"Expected nothing at {folder}, found something; move it away to have it made again.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # In a folder inside the temporary one, because only its owner may read the latter.
    with scratch_folder(folder.parent, f".{folder.name}.unfinished.") as scratch:
        unfinished = scratch / folder.name
        unfinished.mkdir()
        yield unfinished
        (unfinished / _NOTE).write_text(f"version {maker_version}", encoding="ascii")
        try:
            unfinished.rename(folder)
        except OSError:
            if not _is_filled(folder):
                raise


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A temporary folder in `parent`, because a rename is atomic only within a file system.

    It is locked while this process lives. Those of killed processes aren't, and are removed.
    """
    for left in parent.glob(f"{glob.escape(prefix)}*"):
        with _locked(left) as is_left:
            if is_left:
                shutil.rmtree(left, ignore_errors=True)
    while True:
        with tempfile.TemporaryDirectory(dir=parent, prefix=prefix) as name, _locked(Path(name)):
            if os.path.exists(name):  # else another process found it before it was locked
                yield Path(name)
                return


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether this process has locked a folder; never on file systems that don't lock folders."""
    try:
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        has = False
    else:
        has = True
    try:
        yield has
    finally:
        os.close(file)


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
