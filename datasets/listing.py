"""The contents of a folder, without what file managers and archivers leave there."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from datasets.errors import DataError

IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_LEFTOVERS = {"__macosx", "thumbs.db", "desktop.ini"}


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """All files and folders in a folder, sorted by the code points of their names.

    Hidden ones (`._*`, `.DS_Store`) and leftovers of file managers and archivers are skipped.

    Raises:
        DataError: the folder can't be listed.
    """
    try:
        with os.scandir(folder) as found:
            kept = [entry for entry in found if not _is_leftover(entry.name)]
    except OSError as error:
        raise DataError(
            f"{folder}: expected a folder that can be listed, found {error.strerror}; give this user permission "
            "to read it, or remove it."
        ) from error
    return sorted(kept, key=lambda entry: entry.name)


def folders(folder: Path) -> list[Path]:
    """The folders in a folder."""
    return [Path(entry) for entry in entries(folder) if entry.is_dir()]


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder, told by their endings in upper or lower case."""
    return [Path(entry) for entry in entries(folder) if Path(entry).suffix.lower() in IMAGE_ENDINGS]


def plain(name: str) -> str:
    """A name in lower case, without spaces, hyphens and underscores: "Real World" and "real_world" are equal so."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def few(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, with "..." for more."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])


def folders_named(folder: Path, names: Sequence[str]) -> list[Path]:
    """The folders in a folder with one of these names, each once.

    First those spelled exactly so, in the order of `names`; then those that differ in case, spaces, hyphens or
    underscores. Of links to the same folder, the first counts.
    """
    exact = [folder / name for name in names if os.path.isdir(folder / name)]
    wanted = {plain(name) for name in names}
    try:
        similar = [found for found in folders(folder) if plain(found.name) in wanted] if folder.is_dir() else []
    except DataError:  # a folder that may be searched and not listed
        if not exact:
            raise
        similar = []
    distinct = {os.path.realpath(found): found for found in reversed([*exact, *similar])}
    return list(reversed(distinct.values()))


def _is_leftover(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _LEFTOVERS
