"""What a file of runs may hold: a manifest and files of runs."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from zipfile import ZIP_STORED, ZipInfo

from bench.exchange.manifest import MANIFEST
from bench.exchange.shared_runs import LARGEST_FILES, ExchangeError
from bench.records.names import checked_short_name
from bench.records.reading import LARGEST
from bench.records.store import SEED_PREFIX

_PATH = re.compile(rf"([^/]+)/([^/]+)/{SEED_PREFIX}(0|[1-9][0-9]{{0,9}})/([^/]+)")
_ENCRYPTED = 1
_LOCAL, _CENTRAL = 30, 46  # bytes of the headers of an entry, beside its name in both
ADVICE = "get the file again, or have it exported again."


def shown_path(name: str) -> str:
    """The name of an entry, for messages."""
    return repr(name[:120])


def refuse_entries(entries: list[ZipInfo], path: Path) -> None:
    """Raises ExchangeError for anything but a manifest and files of runs that the file has room for."""
    size = path.stat().st_size
    if not entries or entries[0].filename != MANIFEST:
        raise ExchangeError(f"{path}: expected {MANIFEST} first, found {len(entries)} other files; {ADVICE}")
    seen: set[str] = set()
    for entry in entries:
        if error := _wrong_entry(entry, seen):
            raise ExchangeError(f"{path}: {error}; don't use this file.")
        seen.add(entry.filename)
        size -= entry.file_size + _LOCAL + _CENTRAL + 2 * len(entry.filename.encode())
        if size < 0:
            raise ExchangeError(f"{path}: expected files that fit into it, found larger ones; don't use this file.")


def _wrong_entry(entry: ZipInfo, seen: set[str]) -> str:
    """What is wrong with an entry, in words; "" if nothing is."""
    name, mode = entry.filename, entry.external_attr >> 16
    if name in seen:
        return f"expected each name once, found {shown_path(name)} again"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return f"expected files only, found a link, a folder or a device at {shown_path(name)}"
    if entry.compress_type != ZIP_STORED or entry.compress_size != entry.file_size:
        return f"expected files without compression, found {shown_path(name)} compressed"
    if entry.flag_bits & _ENCRYPTED:
        return f"expected files without encryption, found {shown_path(name)} encrypted"
    largest = LARGEST if name == MANIFEST and not seen else _largest(name)
    if largest is None:
        return f"expected data/variant/seed-<s>/<file of a run>, found {shown_path(name)}"
    if entry.file_size > largest:
        return f"expected at most {largest:,} bytes in {name}, found {entry.file_size:,}"
    return ""


def _largest(name: str) -> int | None:
    """The largest size of an entry; None if it is no file of a run."""
    if not (parts := _PATH.fullmatch(name)):
        return None
    try:
        checked_short_name(parts[1])
        checked_short_name(parts[2])
    except ValueError:
        return None
    return LARGEST_FILES.get(parts[4])
