"""Data sets of the Office kind as parquet files: columns image, domain and label, one row per image, one split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.listing import plain
from datasets.parquet import image_names, label_names, scalar_columns, shards

IMAGE, DOMAIN, LABEL = "image", "domain", "label"


@dataclass(frozen=True)
class OfficeTable:
    """The images of all domains in parquet files.

    files: in the order of their rows.
    labels: (N,) of all rows; the index of the class among the sorted names of all classes.
    rows: per domain and class, the rows of its images; by name, if images have names, else as they are stored.
    names: likewise, their file names, or their numbers if they have no names.
    named: whether they have names, different ones in each class.
    """

    files: Sequence[Path]
    labels: NDArray[np.int64]
    rows: Sequence[dict[str, list[int]]]
    names: Sequence[dict[str, list[Path]]]
    named: bool


def read_table(root: Path, spellings: Sequence[Sequence[str]]) -> OfficeTable:
    """spellings: the names that each domain may have.

    Raises:
        DataError: a column or a domain is missing or unknown, or classes have no names.
    """
    files = shards(root, "train")
    columns = scalar_columns(files, (DOMAIN, LABEL))
    domains = _domain_indices(files[0], _in_words(files, DOMAIN, columns[DOMAIN].tolist()), spellings)
    classes = _in_words(files, LABEL, columns[LABEL].tolist())
    known = {name: label for label, name in enumerate(sorted(set(classes)))}
    paths = image_names(files, IMAGE)
    names = None if paths is None else [PurePosixPath(path).name for path in paths]
    places: dict[tuple[int, str], list[int]] = {}
    for row, place in enumerate(zip(domains, classes, strict=True)):
        places.setdefault(place, []).append(row)
    named = names is not None and all(len({names[row] for row in rows}) == len(rows) for rows in places.values())
    order = names if names is not None and named else _numbers(len(classes))
    found = [
        {name: sorted(places[index, name], key=order.__getitem__) for name in known if (index, name) in places}
        for index in range(len(spellings))
    ]
    return OfficeTable(
        files,
        np.array([known[name] for name in classes]),
        found,
        [{name: [Path(order[row]) for row in rows] for name, rows in of_domain.items()} for of_domain in found],
        named,
    )


def _numbers(rows: int) -> list[str]:
    return [f"{row:08d}" for row in range(rows)]


def _domain_indices(file: Path, domains: Sequence[str], spellings: Sequence[Sequence[str]]) -> list[int]:
    index = {plain(name): place for place, names in enumerate(spellings) for name in names}
    unknown = sorted({domain for domain in domains if plain(domain) not in index})
    found = {index[plain(domain)] for domain in domains if plain(domain) in index}
    missing = [names[0] for place, names in enumerate(spellings) if place not in found]
    if unknown or missing:
        expected = ", ".join(names[0] for names in spellings)
        shown = [*(f"{name!r}, which is none of them" for name in unknown[:1]), *(f"no {name}" for name in missing)]
        raise DataError(
            f"{file}: expected {len(spellings)} domains in the column {DOMAIN} of all files, {expected}, found "
            f"{' and '.join(shown)}; download all files again."
        )
    return [index[plain(domain)] for domain in domains]


def _in_words(files: Sequence[Path], column: str, values: Sequence[object]) -> list[str]:
    """The values of a column of names, which may be stored as numbers of names.

    Splits are drawn by the names of classes, so numbers alone are not enough.
    """
    if all(isinstance(value, str) for value in values):
        return [str(value) for value in values]
    names = label_names(files, column)
    if not names:
        raise DataError(
            f"{files[0]}: expected the names of each {column}, as Hugging Face stores them, found only numbers; "
            "download the files unchanged."
        )
    odd = next((value for value in values if not isinstance(value, int) or not 0 <= value < len(names)), None)
    if odd is not None:
        raise DataError(
            f"{files[0]}, {column}: expected numbers from 0 to {len(names) - 1} in all files, found {odd}; download "
            "all files again."
        )
    return [names[int(str(value))] for value in values]
