"""A file of runs: a ZIP file without compression. The same runs give the same bytes, on every machine and day."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from bench.exchange.archive_bytes import ComparedFile
from bench.exchange.archive_entries import ADVICE, refuse_entries, shown_path
from bench.exchange.finding import find_shared
from bench.exchange.manifest import MANIFEST, Manifest, digest_of, manifest_of, manifest_text, read_manifest
from bench.exchange.shared_runs import ExchangeError, SharedRun, Source, read_file
from bench.records.files import atomic_write, storage_error
from bench.records.plain_text import one_line
from bench.records.reading import LARGEST

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that the format has
_UNIX = 3
_MODE = stat.S_IFREG | 0o644
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

    atomic_write(path, lambda temporary: _write(temporary, manifest, ordered))


def _write(target: Path | IO[bytes], manifest: bytes, ordered: Sequence[SharedRun]) -> None:
    with ZipFile(target, "w", ZIP_STORED) as file:
        file.writestr(_entry(MANIFEST), manifest)
        for run in ordered:
            for name in sorted(run.files):
                content = read_file(run.folder, name)
                if digest_of(content) != run.files[name].sha256:
                    raise ExchangeError(f"{run.folder / name}: changed meanwhile; give the same command again.")
                file.writestr(_entry(f"{run.name}/{name}"), content)


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
            source = replace(find_shared(folder, str(path)), trial_seeds=manifest.trial_seeds)
            errors = [*source.errors, *_contradictions(manifest, source)] or list(_other_bytes(path, source))
            # For people, the file instead of the temporary folder.
            errors = [error.replace(f"{folder}/", f"{path}, ") for error in errors]
            yield Source(source.name, source.runs, [], errors, source.trial_seeds)
    except OSError as error:
        raise storage_error(Path(os.fsdecode(error.filename)) if error.filename else path, error) from error


def _copy(path: Path, folder: Path) -> Manifest:
    """Copies all files of runs to a folder; returns the manifest, which they have the checksums of."""
    try:
        with ZipFile(path) as file:
            entries = file.infolist()
            refuse_entries(entries, path)
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
                        f"{path}, {name}: expected the checksum of the manifest, found another; {ADVICE}"
                    )
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            return manifest
    except _UNREADABLE as error:
        if isinstance(error, ExchangeError):
            raise
        raise ExchangeError(f"{path}: expected a file of `bench.runs export`, found {_why(error)}; {ADVICE}") from error


def _why(error: Exception) -> str:
    return one_line(str(error))[:200] or type(error).__name__


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
    if source.of_trials:
        yield f"{source.name}: expected runs that are reported, found trials of `bench.tune`; don't use this file."
    if manifest != manifest_of(source.runs, manifest.trial_seeds):
        yield f"{source.name}, {MANIFEST}: expected what the records say, found something else; don't use this file."


def _other_bytes(path: Path, source: Source) -> Iterator[str]:
    """A sentence on a file that is not, byte for byte, what these runs are exported as."""
    ordered = sorted(source.runs, key=lambda run: run.key)
    with path.open("rb") as found:
        compared = ComparedFile(found)
        _write(cast(IO[bytes], compared), manifest_text(manifest_of(ordered, source.trial_seeds)), ordered)
        if not compared.is_same():
            expected = "expected the bytes that `bench.runs export` writes for its runs"
            yield f"{path}: {expected}, found other or more bytes; don't use this file."
