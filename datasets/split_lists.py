"""Splits by lists that a user supplies, in LibMTL's form: <domain>_<train|val|test>.txt with lines `path label`.

A path may start at the data set, at the domain, or at its folder `images`. The folder decides the class. Labels may be
numbered in any order, as long as numbers and folders correspond one to one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datasets.contract import DataError

PARTS = ("train", "val", "test")

Parts = tuple[list[int], list[int], list[int]]
Member = tuple[str, int]  # class, index of the file in it


@dataclass(frozen=True)
class ListedDomain:
    """A domain that lists are checked against: its possible names, its folder, and the files of each class."""

    spellings: Sequence[str]
    folder: Path
    files: Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class _Line:
    """A line of a list. place: its file and number."""

    place: str
    path: str
    label: int


def listed_parts(lists: Path, domains: Sequence[ListedDomain]) -> list[dict[str, Parts]]:
    """Per domain and class, the indices of its files in train, validation and test, ascending.

    Raises:
        DataError: a list is missing, empty or has a wrong line; an image is missing or named twice; labels and
            classes don't correspond one to one.
    """
    paths = _paths(lists, domains)
    described: list[tuple[str, _Line]] = []
    result = []
    for domain, of_domain in zip(domains, paths, strict=True):
        members = {(name, file.name): (name, i) for name, files in domain.files.items() for i, file in enumerate(files)}
        parts: dict[str, Parts] = {name: ([], [], []) for name in domain.files}
        seen: dict[Member, _Line] = {}
        for part, path in enumerate(of_domain):
            for line in _lines(path, classes=len(domain.files)):
                member = _member(line, domain, members)
                if member in seen:
                    raise DataError(
                        f"{line.place}: expected each image once, found {line.path} also in "
                        f"{seen[member].place}; keep one of the two lines."
                    )
                seen[member] = line
                described.append((member[0], line))
                parts[member[0]][part].append(member[1])
        result.append({name: (sorted(a), sorted(b), sorted(c)) for name, (a, b, c) in parts.items()})
    _check_labels(described)
    return result


def content_name(lists: Path) -> str:
    """A name for the contents of all lists in a folder: "lists-" and 12 hexadecimal digits.

    The order of lines, blank lines and line ends don't count, nor does the folder's own name.

    Raises:
        DataError: there is no such folder, or a list can't be read.
    """
    _require_folder(lists)
    digest = hashlib.sha256()
    for path in sorted(path for part in PARTS for path in lists.glob(f"*_{part}.txt")):
        digest.update(f"{path.name}\n".encode())
        digest.update("".join(f"{row}\n" for row in sorted(filter(None, map(str.strip, _rows(path))))).encode())
    return f"lists-{digest.hexdigest()[:12]}"


def _require_folder(lists: Path) -> None:
    if not lists.is_dir():
        raise DataError(
            f"data.splits: expected a folder with lists <domain>_<train|val|test>.txt, found none at {lists}."
        )


def _paths(lists: Path, domains: Sequence[ListedDomain]) -> list[list[Path]]:
    """Per domain, its three lists."""
    _require_folder(lists)
    chosen = [
        [[lists / f"{spelling}_{part}.txt" for spelling in domain.spellings] for part in PARTS] for domain in domains
    ]
    absent = [paths[0].name for of_domain in chosen for paths in of_domain if not any(path.is_file() for path in paths)]
    if absent:
        raise DataError(
            f"{lists}: expected a list for each part of each domain, found no {', '.join(absent)}; add them."
        )
    return [[next(path for path in paths if path.is_file()) for paths in of_domain] for of_domain in chosen]


def _rows(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path}: expected a list that can be read, found {error.strerror}.") from error


def _lines(path: Path, classes: int) -> list[_Line]:
    lines = []
    for number, row in enumerate(_rows(path), 1):
        if not row.strip():
            continue
        image, _, label = row.strip().rpartition(" ")
        if not image or not label.isdecimal() or int(label) >= classes:
            raise DataError(
                f"{path}:{number}: expected the path of an image and a label from 0 to {classes - 1}, found "
                f"{row.strip()!r}; correct the line."
            )
        lines.append(_Line(f"{path}:{number}", image.strip(), int(label)))
    if not lines:
        raise DataError(f"{path}: expected lines with the path of an image and its label, found none.")
    return lines


def _member(line: _Line, domain: ListedDomain, members: Mapping[tuple[str, str], Member]) -> Member:
    """The class and the index of the image that a line names."""
    parts = PurePosixPath(line.path).parts
    if parts[0] in domain.spellings:
        parts = parts[1:]
    if parts[:1] == ("images",):
        parts = parts[1:]
    member = members.get((parts[0], parts[1])) if len(parts) == 2 else None
    if member is None:
        raise DataError(
            f"{line.place}: expected an image below {domain.folder}, found no {line.path} there; correct the line, or "
            "add the image."
        )
    return member


def _check_labels(described: Iterable[tuple[str, _Line]]) -> None:
    """Raises DataError if a class has two labels or a label two classes, over all lists."""
    of_class: dict[str, _Line] = {}
    of_label: dict[int, tuple[str, _Line]] = {}
    for name, line in described:
        first = of_class.setdefault(name, line)
        if first.label != line.label:
            raise DataError(
                f"{line.place}: expected label {first.label} for class {name} as in {first.place}, found {line.label}; "
                "number the classes equally in all lists."
            )
        other, there = of_label.setdefault(line.label, (name, line))
        if other != name:
            raise DataError(
                f"{line.place}: expected class {other} for label {line.label} as in {there.place}, found {name}; "
                "number the classes equally in all lists."
            )
