"""A file of runs: a ZIP file without compression. The same runs give the same bytes, on every machine and day."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from bench.exchange.manifest import MANIFEST, Manifest, digest_of, manifest_of, manifest_text, read_manifest
from bench.exchange.shared_runs import LARGEST_FILES, ExchangeError, SharedRun, Source, find_shared, read_file
from bench.records.files import atomic_write, storage_error
from bench.records.names import checked_short_name
from bench.records.plain_text import one_line
from bench.records.reading import LARGEST
from bench.records.store import SEED_PREFIX

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that the format has
_UNIX = 3
_MODE = stat.S_IFREG | 0o644
_PATH = re.compile(rf"([^/]+)/([^/]+)/{SEED_PREFIX}(0|[1-9][0-9]{{0,9}})/([^/]+)")
_ENCRYPTED = 1
_LOCAL, _CENTRAL = 30, 46  # bytes of the headers of an entry, beside its name in both
_LOCAL_LENGTHS = struct.Struct("<26xHH")  # of the name and the extra field
_END = 22  # bytes of the end of a ZIP file; of more than 4 GiB or 65,535 files, 76 before it
_ENDS = (_END, _END + 76)
_ZIP64_FROM = 0x7FFFFFFF  # the place of an entry from which `zipfile` writes it
_ZIP64 = b"\x01\x00"  # the only extra field that a large file needs
_ADVICE = "get the file again, or have it exported again."
_UNREADABLE = (BadZipFile, struct.error, NotImplementedError, RuntimeError, ValueError, EOFError, OverflowError)


def write_archive(path: Path, runs: Iterable[SharedRun], trial_seeds: Sequence[int] = ()) -> None:
    """Writes the runs into one file, atomically. trial_seeds: as in `Manifest`.

    Raises:
        ExchangeError: there are too many, or a file of a run has changed. StorageError: the file can't be written.
    """
    ordered = sorted(runs, key=lambda run: run.key)
    manifest = manifest_text(manifest_of(ordered, trial_seeds))
    if len(manifest) > LARGEST:
        raise ExchangeError(
            f"Expected a manifest of at most {LARGEST:,} bytes, found {len(manifest):,}; name some --data."
        )

    def write(temporary: Path) -> None:
        with ZipFile(temporary, "w", ZIP_STORED) as file:
            file.writestr(_entry(MANIFEST), manifest)
            for run in ordered:
                for name in sorted(run.files):
                    content = read_file(run.folder, name)
                    if digest_of(content) != run.files[name].sha256:
                        raise ExchangeError(f"{run.folder / name}: changed meanwhile; give the same command again.")
                    file.writestr(_entry(f"{run.name}/{name}"), content)

    atomic_write(path, write)


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name, _DATE)
    entry.create_system, entry.external_attr = _UNIX, _MODE << 16
    return entry


@contextmanager
def opened_archive(path: Path) -> Iterator[Source]:
    """The runs of a file, checked and copied to a temporary folder; within, they can be read.

    Raises:
        ExchangeError: it is no such file, is damaged, or has something that is not of a run.
        StorageError: it can't be read, or there is no room for the copies.
    """
    try:
        with TemporaryDirectory(prefix="bench-runs-") as scratch:
            folder = Path(scratch) / "runs"
            folder.mkdir()
            manifest = _copy(path, folder)
            source = find_shared(folder, str(path))
            errors = [*source.errors, *_contradictions(manifest, source)]
            # For people, the file instead of the temporary folder.
            errors = [error.replace(f"{folder}/", f"{path}, ") for error in errors]
            yield Source(str(path), source.runs, [], errors, manifest.trial_seeds)
    except OSError as error:
        raise storage_error(Path(os.fsdecode(error.filename)) if error.filename else path, error) from error


def _copy(path: Path, folder: Path) -> Manifest:
    """Copies all files of runs to a folder; returns the manifest, which they have the checksums of."""
    try:
        with ZipFile(path) as file:
            entries = file.infolist()
            _refuse_entries(entries, path)
            _refuse_further_bytes(file, path)
            manifest = read_manifest(_content(file, entries[0], path), str(path))
            found = {entry.filename: entry for entry in entries[1:]}
            for name in sorted(found.keys() ^ manifest.files.keys()):
                where = "the file" if name in found else "the manifest"
                raise ExchangeError(
                    f"{path}: expected the files of the manifest, found {shown_path(name)} in {where} only."
                )
            for name, entry in found.items():
                content = _content(file, entry, path)
                if len(content) != manifest.files[name].bytes or digest_of(content) != manifest.files[name].sha256:
                    raise ExchangeError(
                        f"{path}, {name}: expected the checksum of the manifest, found another; {_ADVICE}"
                    )
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            return manifest
    except _UNREADABLE as error:
        if isinstance(error, ExchangeError):
            raise
        raise ExchangeError(
            f"{path}: expected a file of `bench.runs export`, found {_why(error)}; {_ADVICE}"
        ) from error


def _why(error: Exception) -> str:
    return one_line(str(error))[:200] or type(error).__name__


def shown_path(name: str) -> str:
    """The name of an entry, for messages."""
    return repr(name[:120])


def _refuse_entries(entries: list[ZipInfo], path: Path) -> None:
    """Raises ExchangeError for anything but a manifest and files of runs that the file has room for."""
    size = path.stat().st_size
    if not entries or entries[0].filename != MANIFEST:
        raise ExchangeError(f"{path}: expected {MANIFEST} first, found {len(entries)} other files; {_ADVICE}")
    seen: set[str] = set()
    for entry in entries:
        if error := _wrong_entry(entry, seen):
            raise ExchangeError(f"{path}: {error}; don't use this file.")
        seen.add(entry.filename)
        size -= entry.file_size + _LOCAL + _CENTRAL + 2 * len(entry.filename.encode())
        if size < 0:
            raise ExchangeError(f"{path}: expected files that fit into it, found larger ones; don't use this file.")


def _refuse_further_bytes(file: ZipFile, path: Path) -> None:
    """Raises ExchangeError unless the entries, their list and the end directly follow each other, without comments."""
    place, listed = 0, 0
    further = ExchangeError(f"{path}: expected nothing but these files, found more bytes; don't use this file.")
    with path.open("rb") as raw:
        for entry in file.infolist():
            raw.seek(entry.header_offset)
            name, extra = _LOCAL_LENGTHS.unpack(raw.read(_LOCAL))
            large = entry.extra[:2] == _ZIP64 and entry.header_offset >= _ZIP64_FROM
            if entry.header_offset != place or extra or entry.comment or (entry.extra and not large):
                raise further
            encoded = len(entry.filename.encode())
            if name != encoded:
                raise further
            place += _LOCAL + name + entry.file_size
            listed += _CENTRAL + encoded + len(entry.extra)
    if file.start_dir != place or file.comment or path.stat().st_size - place - listed not in _ENDS:
        raise further


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


def _content(file: ZipFile, entry: ZipInfo, path: Path) -> bytes:
    """The content of an entry, never more than its declared size."""
    with file.open(entry) as opened:
        content = opened.read(entry.file_size + 1)
    if len(content) != entry.file_size:
        raise ExchangeError(f"{path}, {entry.filename}: expected {entry.file_size:,} bytes, found another number.")
    return content


def _contradictions(manifest: Manifest, source: Source) -> Iterator[str]:
    """Sentences on a manifest that says other than the records."""
    if source.errors or source.left_out:
        yield from source.left_out  # nothing of a file is left out
        return
    if manifest != manifest_of(source.runs, manifest.trial_seeds):
        yield f"{source.name}, {MANIFEST}: expected what the records say, found something else; don't use this file."
