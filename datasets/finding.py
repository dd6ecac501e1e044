"""Where a data set lies below a data root, and which of its archives wait there to be unpacked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from datasets.archives import packed_files
from datasets.contract import DatasetInfo
from datasets.embedded.atomic_folder import noted_version
from datasets.listing import folders, folders_named, plain
from datasets.parquet import column_names

LEVELS_BELOW = 2  # how deep below its own folder a data set may be, as unpacked archives often are
_PACKED = ".parquet"


def find_folder(info: DatasetInfo, root: Path) -> Path | None:
    """The folder of a data set: in the data root, or up to two levels below its own folder there. None if not found.

    The data root may also be that folder itself. A complete copy is preferred to an incomplete one.

    Raises:
        DataError: a folder can't be listed.
    """
    for patterns in (info.markers, info.traces):
        level = _own_folders(info, root)
        for _ in range(LEVELS_BELOW + 1):
            for place in level:
                if _marks(place, patterns):
                    return place
            level = [below for place in level for below in folders(place) if not _is_embedded(below, info)]
    return root if info.make is None and _is_the_data_set(root, info) else None


def packed(info: DatasetInfo, root: Path) -> list[tuple[Path, Path]]:
    """The archives of a data set that was not found, each with the folder to unpack it into."""
    own = _own_folders(info, root)
    files = info.origin.files if info.origin else ()
    names = (*info.folder, *(file.name.split(".")[0] for file in files))
    beside = {archive: own[0] if own else root / info.folder[0] for archive in packed_files(root, names)}
    inside = {archive: place for place in own for archive in packed_files(place)}
    return list({**beside, **inside}.items())


def _own_folders(info: DatasetInfo, root: Path) -> list[Path]:
    """The folders with a name of the data set: in the data root, and the root itself."""
    inside = folders_named(root, info.folder)
    itself = [root] if info.make is None and root.is_dir() and _has_its_name(root, info) else []
    return [place for place in (*inside, *itself) if not _is_embedded(place, info)]


def _has_its_name(root: Path, info: DatasetInfo) -> bool:
    return plain(Path(os.path.abspath(root)).name) in {plain(name) for name in info.folder}


def _is_the_data_set(root: Path, info: DatasetInfo) -> bool:
    """Whether a data root of any name holds the data set itself.

    Several data sets may share a marker, so parquet files must have its columns, and of domains there must be two.
    """
    if not root.is_dir() or _is_embedded(root, info):
        return False
    files = [file for pattern in info.markers if pattern.endswith(_PACKED) for file in sorted(root.glob(pattern))]
    if files:
        return bool(info.columns) and set(info.columns) <= set(column_names(files[0]))
    unpacked = [pattern for pattern in (*info.markers, *info.traces) if not pattern.endswith(_PACKED)]
    if info.kind == "multi-input":
        return len(_marks(root, unpacked)) > 1
    return bool(_marks(root, [pattern for pattern in info.markers if pattern in unpacked]))


def _is_embedded(place: Path, info: DatasetInfo) -> bool:
    """Whether a folder holds embedded data, which has the same layout as the real data set that is looked for."""
    return info.make is None and noted_version(place) is not None


def _marks(place: Path, patterns: Sequence[str]) -> set[Path]:
    """What matches the patterns in a folder. Those that are the name of a folder match other spellings of it."""
    exact = {path for pattern in patterns for path in list(place.glob(pattern))[:1]}
    names = [pattern for pattern in patterns if not set(pattern) & set("/*.")]
    return exact | set(folders_named(place, names)) if names else exact
