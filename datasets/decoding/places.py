"""Where prepared arrays are: beside the data, in a folder that the user gives, or in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

CACHE = ".decoded"
_OWN_FOLDER = "mtl-bench"


def array_folders(root: Path, cache: Path | None) -> list[Path]:
    """The folders that may have arrays of the data set in `root`; new ones go into the first that is writable.

    cache: the folder that the user gives for all data sets, if any.
    """
    if cache is not None:
        return [cache / _own_name(root)]
    own = user_cache()
    return [root / CACHE, *([own / _own_name(root)] if own is not None else [])]


def choose_folder(folders: list[Path]) -> Path:
    """The first folder that is writable, or can be made; the last if none is."""
    return next((folder for folder in folders if is_writable(folder)), folders[-1])


def is_writable(folder: Path) -> bool:
    """Whether this user may write into a folder, or make it."""
    absolute = folder.absolute()
    existing = next(place for place in (absolute, *absolute.parents) if os.path.exists(place))
    effective = os.access in os.supports_effective_ids
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK, effective_ids=effective)


def user_cache() -> Path | None:
    """This suite's folder in the user's cache folder; None for a user without a home, as in some containers."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / _OWN_FOLDER
    except RuntimeError:
        return None


def _own_name(root: Path) -> str:
    """The name of a data set's folder among those of others: data sets of one name may be in several places."""
    resolved = root.resolve()
    return f"{resolved.name}-{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]}"
