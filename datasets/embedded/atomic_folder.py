"""A folder that appears under its name only when all of it is written, and says by which code."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_MADE_BY = ".made_by"


def is_of_this_version(folder: Path) -> bool:
    """Whether the code that makes embedded data is still what it was when this folder was written."""
    note = folder / _MADE_BY
    return note.is_file() and note.read_text(encoding="ascii", errors="replace") == _fingerprint()


@cache
def _fingerprint() -> str:
    """A digest of the code that makes embedded data: other code may make other data, and nobody would see it."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which becomes `folder` when the block ends and vanishes when it fails.

    Where another process has made `folder` in the meantime, that one stays and this one vanishes: both are whole, and
    what is written here depends on nothing but the code.

    Raises:
        FileExistsError: there is something at `folder` already; it is left as it is.
    """
    folder = folder.resolve()  # a link is followed: a folder can't be renamed to it
    if folder.is_file() or _is_filled(folder):
        raise FileExistsError(f"Expected nothing at {folder}, found something; move it away to have it made again.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside `folder`, because a rename is atomic only within a file system. A folder inside the temporary one, because
    # nobody but its owner may read the latter.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        unfinished = Path(scratch) / folder.name
        unfinished.mkdir()
        yield unfinished
        (unfinished / _MADE_BY).write_text(_fingerprint(), encoding="ascii")
        try:
            unfinished.rename(folder)
        except OSError:
            if not _is_filled(folder):
                raise


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
