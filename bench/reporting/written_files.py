"""The list of the files that a report wrote, by which the next one removes those, and only those, that it lacks."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from bench.records.files import StorageError, atomic_write_text, storage_error
from bench.records.folder_lock import only_writer
from bench.records.names import checked_name
from bench.records.reading import Damaged, in_one_line, is_there, read_json

LIST = "files.json"
_DIGITS = 16  # of a digest


def _checked_path(text: str) -> str:
    for name in text.split("/"):
        checked_name(name)
    return text


class FileList(BaseModel):
    """What a report wrote to a folder.

    results: the folders of its records, from this one.
    files: a digest of each file by its path below the folder, with slashes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    results: list[str]
    files: dict[Annotated[str, AfterValidator(_checked_path)], str]


@dataclass(frozen=True)
class Changes:
    """What became of an earlier report in the same folder.

    removed: files that it wrote and the new one did not. edited: such files that somebody changed, which stay.
    results: the folders of its records; () if they are those of the new one.
    """

    removed: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """For the command's output; none if there is nothing to say."""
        other = f"An earlier report in this folder was made from {', '.join(self.results)}." if self.results else ""
        removed = f"Removed what only an earlier report had: {', '.join(self.removed)}." if self.removed else ""
        edited = (
            "Only of an earlier report, but changed since, by somebody or by a report that was interrupted, so they "
            f"stay until you delete them: {', '.join(self.edited)}."
        )
        return tuple(filter(None, (other, removed, edited if self.edited else "")))


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Within, no other report is written to this folder, as far as its file system has locks.

    Raises:
        StorageError: one is being written, or there can't be such a folder.
    """
    refusal = (
        "expected a folder that no other report is written to, found one that another command writes to; wait for it, "
        "or name another folder with --out."
    )
    with only_writer(out, refusal):
        yield


def read_list(out: Path) -> FileList | None:
    """The list of an earlier report in a folder; None without one.

    Raises:
        StorageError: there is another file in its place, or it can't be read.
    """
    path = out / LIST
    try:
        return FileList.model_validate(read_json(path)) if is_there(path) else None
    except (Damaged, ValidationError) as error:
        reason = in_one_line(error) if isinstance(error, ValidationError) else error
        raise StorageError(
            f"{path}: expected the list of files of an earlier report, found another text ({reason}); move it away, or "
            "name another folder with --out."
        ) from error
    except OSError as error:
        raise storage_error(path, error) from error


def replace_earlier(
    out: Path,
    earlier: FileList | None,
    results: Sequence[Path],
    files: Iterable[Path],
    is_kept: Callable[[str], bool] = lambda name: False,
) -> Changes:
    """Removes what an earlier report wrote and the new one didn't, and writes the new list.

    A file is removed only if it still is what was written. Folders that are then empty are removed, too.

    files: what the new report wrote. is_kept(path below out) -> whether a file of the earlier report still counts.

    Raises:
        StorageError: a file can't be read or removed, or the list can't be written.
    """
    written = {path.relative_to(out).as_posix(): _digest(path) for path in files}
    # Where upper and lower case are the same, a name of before may be that of a new file.
    names = {name.casefold() for name in written}
    others = {name: d for name, d in (earlier.files if earlier else {}).items() if name.casefold() not in names}
    kept = {name: digest for name, digest in others.items() if is_kept(name)}
    stale = {name: digest for name, digest in others.items() if name not in kept and _is_own_file(out, name)}
    same = tuple(name for name, digest in stale.items() if _digest(out / name) == digest)
    for name in same:
        _remove(out, name)
    edited = {name: digest for name, digest in stale.items() if name not in same}  # named again by the next report
    sources = [_name_of(one, out) for one in dict.fromkeys(results)]
    content = FileList(results=sources, files=dict(sorted({**kept, **edited, **written}.items())))
    atomic_write_text(out / LIST, content.model_dump_json(indent=1) + "\n")
    other = tuple(earlier.results) if earlier and earlier.results != sources else ()
    return Changes(same, tuple(edited), other)


def _is_own_file(out: Path, name: str) -> bool:
    """Whether there is a file of this name which no link leads to."""
    path = out / name
    try:
        inside = path.parent.resolve() == out.resolve().joinpath(name).parent
        return inside and stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise storage_error(path, error) from error


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]
    except OSError as error:
        raise storage_error(path, error) from error


def _remove(out: Path, name: str) -> None:
    path = out / name
    try:
        path.unlink()
    except OSError as error:
        raise storage_error(path, error) from error
    for place in list(Path(name).parents)[:-1]:  # the last one is the folder of the report
        with suppress(OSError):
            (out / place).rmdir()


def _name_of(results: Path, out: Path) -> str:
    """The path from the folder of the report; where they share no folder, a digest: no path of this machine is kept."""
    place, start = results.resolve(), out.resolve()
    if any(start.is_relative_to(parent) for parent in place.parents if parent != parent.parent):
        return Path(os.path.relpath(place, start)).as_posix()
    return f"{place.name} (path {hashlib.sha256(os.fsencode(place)).hexdigest()[:_DIGITS]})"
