"""Splits by lists that a user supplies, in LibMTL's form: <domain>_<train|val|test>.txt with lines `path label`.

A path may start at the data set, at the domain, or at its folder `images`. The folder decides the class. Labels may be
numbered in any order, as long as numbers and folders correspond one to one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datasets.contract import DataError
from datasets.listing import entries, plain

PARTS = ("train", "val", "test")

Parts = tuple[list[int], list[int], list[int]]
Member = tuple[str, int]  # class, index of the file in it
ItemOf = Callable[[Path], str]  # what an image shows; all images of an item are in one part


@dataclass(frozen=True)
class ListedDomain:
    """A domain that lists are checked against: its possible names, its folder, and the files of each class."""

    spellings: Sequence[str]
    folder: Path
    files: Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Listed:
    """What lists say about each of the domains that they are read for.

    parts: per domain and class, the indices of its files in train, validation and test, ascending.
    unlisted: per domain, the number of images that no list names.
    errors: everything that is wrong with the lists; each sentence begins with the file.
    """

    parts: Sequence[dict[str, Parts]]
    unlisted: Sequence[int]
    errors: Sequence[str]


@dataclass(frozen=True)
class _Line:
    """A line of a list. place: its file and number."""

    place: str
    path: str
    label: int


def listed_parts(lists: Path, domains: Sequence[ListedDomain], item_of: ItemOf | None = None) -> Listed:
    """What correct lists say. item_of: as of `read_lists`.

    Raises:
        DataError: the first of the errors.
    """
    listed = read_lists(lists, domains, item_of)
    if listed.errors:
        raise DataError(listed.errors[0])
    return listed


def read_lists(lists: Path, domains: Sequence[ListedDomain], item_of: ItemOf | None = None) -> Listed:
    """What lists say, with all errors.

    Errors: a list is missing, empty or has a wrong line; an image is missing or named twice; labels and classes don't
    correspond one to one; images of one item are in two parts.
    item_of: for data sets with several images of an item.
    """
    try:
        _require_folder(lists)
    except DataError as error:
        return Listed([_no_parts(domain) for domain in domains], [0] * len(domains), [str(error)])
    paths = [_paths(lists, domain) for domain in domains]
    errors = []
    absent = [name for of_domain in paths for name, path in of_domain.items() if path is None]
    if absent:
        errors.append(f"{lists}: expected a list for each part of each domain, found no {', '.join(absent)}; add them.")
    described: list[tuple[str, int, _Line]] = []
    parts, unlisted = [], []
    for domain, of_domain in zip(domains, paths, strict=True):
        members, found = _members(domain, list(of_domain.values()))
        errors += found
        described += [(name, part, line) for (name, _), (part, line) in members.items()]
        parts.append(_parts(domain, members))
        complete = None not in of_domain.values()
        unlisted.append(sum(map(len, domain.files.values())) - len(members) if complete else 0)
    errors += _label_errors((name, line) for name, _, line in described)
    return Listed(parts, unlisted, [*errors, *(_item_errors(described, item_of) if item_of else [])])


def content_name(lists: Path) -> str:
    """A name for the contents of all lists in a folder: "lists-" and 12 hexadecimal digits.

    The order of lines, blank lines and line ends don't count, nor do the folder's own name and hidden files.

    Raises:
        DataError: there is no such folder, it can't be listed, or a list can't be read.
    """
    _require_folder(lists)
    digest = hashlib.sha256()
    endings = tuple(f"_{part}.txt" for part in PARTS)
    for path in (Path(entry) for entry in entries(lists) if entry.name.endswith(endings)):
        digest.update(f"{path.name}\n".encode())
        digest.update("".join(f"{row}\n" for row in sorted(filter(None, map(str.strip, _rows(path))))).encode())
    return f"lists-{digest.hexdigest()[:12]}"


def _require_folder(lists: Path) -> None:
    if not lists.is_dir():
        raise DataError(
            f"data.splits: expected a folder with lists <domain>_<train|val|test>.txt, found none at {lists}."
        )


def unlisted_remarks(unlisted: Mapping[str, int]) -> list[str]:
    """A sentence for each domain of which lists leave out some images. unlisted: their number by domain."""
    return [
        f"{count:,} image{'s' * (count != 1)} of {domain} {'are' if count != 1 else 'is'} in no list; "
        f"runs ignore {'them' if count != 1 else 'it'}."
        for domain, count in unlisted.items()
        if count
    ]


def _no_parts(domain: ListedDomain) -> dict[str, Parts]:
    return {name: ([], [], []) for name in domain.files}


def _parts(domain: ListedDomain, members: Mapping[Member, tuple[int, _Line]]) -> dict[str, Parts]:
    parts = _no_parts(domain)
    for (name, index), (part, _) in sorted(members.items(), key=lambda item: item[0]):
        parts[name][part].append(index)
    return parts


def _paths(lists: Path, domain: ListedDomain) -> dict[str, Path | None]:
    """The list of each part of a domain, by its usual name; None if there is none."""
    chosen = [[lists / f"{spelling}_{part}.txt" for spelling in domain.spellings] for part in PARTS]
    return {paths[0].name: next((path for path in paths if path.is_file()), None) for paths in chosen}


def _members(domain: ListedDomain, lists: Sequence[Path | None]) -> tuple[dict[Member, tuple[int, _Line]], list[str]]:
    """The part of each image that lists name with the line that names it, and the errors in the lists."""
    known = {(name, file.name): (name, i) for name, files in domain.files.items() for i, file in enumerate(files)}
    members: dict[Member, tuple[int, _Line]] = {}
    errors: list[str] = []
    for part, path in enumerate(lists):
        lines, found = _lines(path, len(domain.files)) if path is not None else ([], [])
        errors += found
        for line in lines:
            member = _member(line, domain, known)
            if member is None:
                errors.append(
                    f"{line.place}: expected an image below {domain.folder}, found no {line.path} there; correct the "
                    "line, or add the image."
                )
            elif member in members:
                errors.append(
                    f"{line.place}: expected each image once, found {line.path} also in "
                    f"{members[member][1].place}; keep one of the two lines."
                )
            else:
                members[member] = part, line
    return members, errors


def _rows(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path}: expected a list that can be read, found {error.strerror}.") from error


def _lines(path: Path, classes: int) -> tuple[list[_Line], list[str]]:
    """The correct lines of a list, and an error for each other one."""
    try:
        rows = _rows(path)
    except DataError as error:
        return [], [str(error)]
    lines, errors = [], []
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        image, _, label = row.strip().rpartition(" ")
        if image and label.isdecimal() and int(label) < classes:
            lines.append(_Line(f"{path}:{number}", image.strip(), int(label)))
        else:
            errors.append(
                f"{path}:{number}: expected the path of an image and a label from 0 to {classes - 1}, found "
                f"{row.strip()!r}; correct the line."
            )
    if not any(row.strip() for row in rows):
        errors.append(f"{path}: expected lines with the path of an image and its label, found none.")
    return lines, errors


def _member(line: _Line, domain: ListedDomain, members: Mapping[tuple[str, str], Member]) -> Member | None:
    """The class and the index of the image that a line names."""
    parts = PurePosixPath(line.path).parts
    if parts[:1] and plain(parts[0]) in {plain(spelling) for spelling in domain.spellings}:
        parts = parts[1:]
    if parts[:1] == ("images",):
        parts = parts[1:]
    return members.get((parts[0], parts[1])) if len(parts) == 2 else None


def _label_errors(described: Iterable[tuple[str, _Line]]) -> list[str]:
    """What is wrong if a class has two labels or a label two classes, over all lists; each such pair once."""
    of_class: dict[str, _Line] = {}
    of_label: dict[int, tuple[str, _Line]] = {}
    errors: dict[tuple[str, int], str] = {}
    for name, line in described:
        first = of_class.setdefault(name, line)
        other, there = of_label.setdefault(line.label, (name, line))
        if first.label != line.label:
            found = (
                f"{line.place}: expected label {first.label} for class {name} as in {first.place}, found {line.label}; "
                "number the classes equally in all lists."
            )
        elif other != name:
            found = (
                f"{line.place}: expected class {other} for label {line.label} as in {there.place}, found {name}; "
                "number the classes equally in all lists."
            )
        else:
            continue
        errors.setdefault((name, line.label), found)
    return list(errors.values())


def _item_errors(described: Iterable[tuple[str, int, _Line]], item_of: ItemOf) -> list[str]:
    """What is wrong if images of one item, in any domains, are in two parts; once for each item.

    described: the class, the part and the line of each image.
    """
    first: dict[tuple[str, str], tuple[int, _Line]] = {}
    errors: dict[tuple[str, str], str] = {}
    for name, part, line in described:
        item = name, item_of(Path(line.path))
        other, there = first.setdefault(item, (part, line))
        if part != other:
            found = (
                f"{line.place}: expected all images of an item in one part, found {line.path} in {PARTS[part]}, and "
                f"{there.path} in {PARTS[other]} ({there.place}); move one of them."
            )
            errors.setdefault(item, found)
    return list(errors.values())
