"""The contents of a folder, or an error that says why they can't be listed."""

from __future__ import annotations

import os
from pathlib import Path

from datasets.contract import DataError


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """All files and folders in a folder, sorted by the code points of their names.

    Raises:
        DataError: the folder can't be listed.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"{folder}: expected a folder that can be listed, found {error.strerror}; give this user permission "
            "to read it, or remove it."
        ) from error


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, except hidden ones."""
    return [Path(entry) for entry in entries(folder) if entry.is_dir() and not entry.name.startswith(".")]
