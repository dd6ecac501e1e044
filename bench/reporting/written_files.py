"""The list of the files that a report wrote, by which the next one replaces and removes those, and only those."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from bench.records.files import StorageError, atomic_write_text, flush, storage_error
from bench.records.names import checked_name
from bench.records.reading import Damaged, in_one_line, is_there, read_json, read_text
from bench.reporting.output_folder import is_index, refuse_links

LIST, INDEX = "files.json", "README.md"
MEASURED = "speed.md"  # a page that an index links to, with links of its own
_DIGITS = 16  # of a digest
_UNKNOWN = ""  # digest of a file that only the index of an earlier report names
_LINK = re.compile(r"\]\(([A-Za-z0-9_.@+-][A-Za-z0-9_.@+/-]*)\)")
_MOST_NAMED = 3  # files in a message


def _checked_path(text: str) -> str:
    for name in text.split("/"):
        checked_name(name)
    return text


_ListedPath = Annotated[str, AfterValidator(_checked_path)]


class FileList(BaseModel):
    """What a report wrote to a folder.

    results: the folders of its records, from this one.
    files: a digest of each file by its path below the folder, with slashes.
    before: digests that files may still have since a report is being put in place, or was interrupted at that; else
        None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    results: list[str]
    files: dict[_ListedPath, str]
    before: dict[_ListedPath, str] | None = None

    def has(self, name: str, digest: str) -> bool:
        """Whether a report wrote a file of this name and content."""
        return digest in (self.files.get(name), (self.before or {}).get(name))


@dataclass(frozen=True)
class Changes:
    """What became of an earlier report in the same folder.

    files: those of the new report, in their places.
    removed: files that the earlier one wrote and the new one did not. edited: such files that somebody changed, which
        stay.
    results: the folders of its records that the new one is not made from.
    """

    files: tuple[Path, ...]
    removed: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """For the command's output; none if there is nothing to say."""
        other = f"An earlier report in this folder was made from {', '.join(self.results)}." if self.results else ""
        removed = f"Removed what only an earlier report had: {', '.join(self.removed)}." if self.removed else ""
        edited = (
            "Only of an earlier report, but changed since, or not known to be as it wrote them, so they stay until you "
            f"delete them: {', '.join(self.edited)}."
        )
        return tuple(filter(None, (other, removed, edited if self.edited else "")))


def read_list(out: Path) -> FileList | None:
    """The list of an earlier report in a folder; None without one.

    Reports made before there were lists, and copies without theirs, are known by what their index links to.

    Raises:
        StorageError: there is another file in its place, or it can't be read.
    """
    path = out / LIST
    try:
        return FileList.model_validate(read_json(path)) if is_there(path) else _linked(out)
    except (Damaged, ValidationError) as error:
        reason = in_one_line(error) if isinstance(error, ValidationError) else error
        raise StorageError(
            f"{path}: expected the list of files of an earlier report, found another text ({reason}); move it away, or "
            "name another folder with --out."
        ) from error
    except OSError as error:
        raise storage_error(path, error) from error


def put_in_place(
    out: Path,
    new: Path,
    files: Sequence[Path],
    earlier: FileList | None,
    results: Sequence[Path],
    is_kept: Callable[[str], bool] = lambda name: False,
) -> Changes:
    """Moves the files of a report from a folder `new` to `out`, and removes those that only an earlier report wrote.

    A file is removed only if it still is what was written. Folders that are then empty are removed, too. If this is
    interrupted at any time, the list in `out` has the files of both reports.

    files: those of the new report, moved from the last to the first.
    is_kept(path below out) -> whether a file of the earlier report still counts.

    Raises:
        StorageError: a file that no report wrote has the name of a new one, so that none is moved; or a file can't be
            read, moved or removed, or the list can't be written.
    """
    known = earlier or FileList(results=[], files={})
    written = {path.relative_to(new).as_posix(): _digest(path) for path in files}
    refuse_links(out, [Path(name).parent.parts for name in written])
    present = {name: _digest(out / name) for name in written if _is_own_file(out, name)}
    _refuse_others(out, written, present, known)
    sources = [_name_of(one, out) for one in dict.fromkeys(results)]
    before = {name: digest for name, digest in (known.before or {}).items() if name not in written}
    before |= {name: digest for name, digest in present.items() if digest != written[name] and known.has(name, digest)}
    both = dict.fromkeys((*sources, *known.results))
    _write_list(out, FileList(results=list(both), files={**known.files, **written}, before=before))
    for name in reversed(written):
        _move(new / name, out / name)
    for folder in {(out / name).parent for name in written}:
        with suppress(OSError):  # not every file system can do this for folders
            flush(folder)
    # Where upper and lower case are the same, a name of before may be that of a new file.
    names = {name.casefold() for name in written}
    others = {name: digest for name, digest in known.files.items() if name.casefold() not in names}
    kept = {name: digest for name, digest in others.items() if is_kept(name)}
    stale = {name: digest for name, digest in others.items() if name not in kept and _is_own_file(out, name)}
    same = tuple(name for name in stale if known.has(name, _digest(out / name)))
    for name in same:
        _remove(out, name)
    edited = {name: digest for name, digest in stale.items() if name not in same}  # named again by the next report
    other = tuple(one for one in known.results if one not in sources)
    _write_list(out, FileList(results=[*sources, *(other if kept else ())], files={**kept, **edited, **written}))
    return Changes(tuple(out / name for name in written), same, tuple(edited), other)


def _linked(out: Path) -> FileList | None:
    """What the index of a report and its pages on measurements link to; None without an index of reports."""
    if not is_index(out / INDEX):
        return None
    names = [INDEX, *_links(out / INDEX)]
    for page in [name for name in names if name.endswith(f"/{MEASURED}") and _is_own_file(out, name)]:
        names += [f"{page.removesuffix(MEASURED)}{name}" for name in _links(out / page)]
    return FileList(results=[], files={Path(name).as_posix(): _UNKNOWN for name in names if _is_own_file(out, name)})


def _links(page: Path) -> list[str]:
    """The files that a page links to; none if it is no text."""
    try:
        return _LINK.findall(read_text(page))
    except Damaged:
        return []


def _refuse_others(out: Path, written: Mapping[str, str], present: Mapping[str, str], known: FileList) -> None:
    """Raises StorageError if a file that no report wrote has the name of a new one.

    What a finished report wrote may have been edited. What an interrupted one lists must be what it wrote, since it may
    not have come to that file.
    """
    listed = {name.casefold() for name in known.files}
    others = []
    for name in written:
        own = name.casefold() in listed
        if known.before is not None and name in present:
            own = known.has(name, present[name])
        if not own and os.path.lexists(out / name) and not (name in present and is_index(out / name)):
            others.append(name)
    if others:
        more = f" (and {len(others) - _MOST_NAMED} more)" if len(others) > _MOST_NAMED else ""
        raise StorageError(
            f"{out}: expected no files but those of an earlier report where this one writes, "
            f"found {', '.join(others[:_MOST_NAMED])}{more}. Nothing was written; move what is yours away, delete the "
            "rest, or name another folder with --out."
        )


def _write_list(out: Path, content: FileList) -> None:
    ordered = content.model_copy(update={"files": dict(sorted(content.files.items()))})
    atomic_write_text(out / LIST, ordered.model_dump_json(indent=1, exclude_none=True) + "\n")


def _move(path: Path, place: Path) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, place)
    except OSError as error:
        raise storage_error(place, error) from error


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
