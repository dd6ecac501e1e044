"""Packed files that a data set was downloaded as, and the commands that unpack them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from datasets.listing import entries, plain

_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_MOST_SHOWN = 4


def is_archive(name: str) -> bool:
    """Whether a file of this name can be unpacked by `unpack_command`."""
    return name.lower().endswith(_ENDINGS)


def packed_files(folder: Path, names: Sequence[str] | None = None) -> list[Path]:
    """The archives in a folder; with `names`, those that are called so, or by it and a number or a word like "raw".

    Raises:
        DataError: the folder can't be listed.
    """
    if not folder.is_dir():
        return []
    found = [Path(entry) for entry in entries(folder) if is_archive(entry.name) and entry.is_file()]
    return [path for path in found if names is None or _is_called(path, names)]


def unpacking(archives: Sequence[tuple[Path, Path]], otherwise: str = "") -> str:
    """What to do about archives, each with the folder to unpack it into; ends with the command for a shell."""
    shown = archives[:_MOST_SHOWN]
    commands = " && ".join(unpack_command(archive, into) for archive, into in shown)
    return f"unpack {', '.join(str(archive) for archive, _ in shown)}:\n{commands}" if shown else otherwise


def unpack_command(archive: Path, into: Path) -> str:
    """The command for a shell that unpacks an archive into a folder, which it makes if need be."""
    file, folder = shlex.quote(str(archive)), shlex.quote(str(into))
    if archive.name.lower().endswith(".zip"):
        return f"unzip -q {file} -d {folder}"  # makes the folder
    return f"tar -xf {file} -C {folder}" if into.is_dir() else f"mkdir -p {folder} && tar -xf {file} -C {folder}"


def _is_called(archive: Path, names: Sequence[str]) -> bool:
    """CelebA-HQ and other data sets that only begin with the same name are not meant."""
    stem = plain(archive.name)
    return any(re.search(rf"{re.escape(plain(name))}(dataset|data|images|raw)?(?![a-z])", stem) for name in names)
