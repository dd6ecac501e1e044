"""Compares a data set on disk with what is published about it: for `python -m bench.data check`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from bench.cli.options import cores
from datasets.contract import Counts, DataError, FileGroup, Inventory
from datasets.decoding.prepared import Rows
from datasets.decoding.rows import Attempt, Chunk

# differs: not as published, as in a cleaned version; runs accept it.
# wrong: runs stop there, or would learn from invalid data.
Verdict = Literal["ok", "differs", "wrong"]

# All files are read if there are at most so many; of more, so many of each group, unless all are asked for.
FULL_UP_TO = 50_000
SAMPLE = 64
SAMPLE_SEED = 0
# At most this many errors, and as many remarks, are printed.
MOST_PRINTED = 50


@dataclass(frozen=True)
class Row:
    """A line of the table: what was checked, expected and found."""

    what: str
    expected: str
    found: str
    verdict: Verdict


@dataclass(frozen=True)
class Report:
    """What a check found.

    errors: what is wrong, sentences that begin with the file.
    remarks: what is unusual but usable, likewise.
    read, files: the number of files that were read, and of all files; of parquet files, of their rows.
    unit: what these numbers count, in a word.
    """

    rows: Sequence[Row]
    errors: Sequence[str]
    remarks: Sequence[str]
    read: int
    files: int
    unit: str = "file"

    @property
    def conclusion(self) -> str:
        """Whether runs can use the data, as far as it was read."""
        sample = f"the sample of {self.read:,} of {self.files:,} {self.unit}s" if self.read < self.files else ""
        if self.errors:
            conclusion = f"{_number(len(self.errors), 'error')}: fix before any run."
        elif any(row.verdict == "differs" for row in self.rows):
            conclusion = "Usable, but not as published: say so when you report numbers."
        elif sample:
            return f"No errors in {sample}; --full reads every one."
        else:
            conclusion = "No errors."
        return f"{conclusion} This holds for {sample}; --full reads every one." if sample else conclusion


@dataclass(frozen=True)
class _Reading:
    """What one file or row holds: the shape, and the lowest and highest value.

    place: the file, or the row of a file.
    error: why it is unusable, or empty.
    remark: what is unusual about it, or empty.
    """

    place: str
    shape: tuple[int, ...] = ()
    low: float = np.inf
    high: float = -np.inf
    error: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Position:
    """How far a check has come. key: of the group that is read; done, total: numbers of its files or rows."""

    key: str
    done: int
    total: int


def check(
    inventory: Inventory, published: Counts, full: bool, report: Callable[[Position], None] = lambda position: None
) -> Report:
    """Compares counts with the published ones and reads files: all of them, or a sample of each group.

    full: read all, also if there are more than FULL_UP_TO.
    report: called before each group and after some files.
    """
    files = sum(group.source.count for group in inventory.groups)
    full = full or files <= FULL_UP_TO
    rows = [*_count_rows(inventory.counts, published)]
    errors, remarks = [*inventory.errors], [*inventory.remarks]
    if errors:
        rows.append(Row("folders and lists", "complete", _number(len(errors), "error"), "wrong"))
    read = 0
    for index, group in enumerate(inventory.groups):
        readings = _read(group, sampled(group.source.count, index, full), report)
        read += len(readings)
        rows.append(_group_row(group, readings))
        errors += [reading.error for reading in readings if reading.error]
        remarks += _remarks(group.key, readings)
    # A file of several columns that can't be opened appears once per column.
    unit = inventory.groups[0].source.unit if inventory.groups else "file"
    return Report(rows, list(dict.fromkeys(errors)), remarks, read, files, unit)


def _remarks(key: str, readings: Sequence[_Reading]) -> list[str]:
    """A sentence for everything unusual in a group of files; the first file stands for all with the same."""
    alike: dict[str, list[str]] = {}
    for reading in readings:
        if reading.remark:
            alike.setdefault(reading.remark, []).append(reading.place)
    return [
        f"{places[0]}{f' and {len(places) - 1:,} more of {key}' if len(places) > 1 else ''}: {remark}."
        for remark, places in alike.items()
    ]


def sampled(count: int, stream: int, full: bool) -> Rows:
    """The indices of all of `count` rows, or of SAMPLE of them, the same at every call; ascending."""
    if full or count <= SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng([SAMPLE_SEED, stream]).choice(count, size=SAMPLE, replace=False))


def _count_rows(found: Counts, published: Counts) -> Iterable[Row]:
    for what, numbers in found.items():
        expected = published.get(what)
        verdict: Verdict = "ok" if expected in (None, numbers) else "differs"
        yield Row(what, _numbers(expected) if expected else "", _numbers(numbers), verdict)
    for what, numbers in published.items():
        if what not in found:
            yield Row(what, _numbers(numbers), "none", "wrong")


def _read(group: FileGroup, rows: Rows, report: Callable[[Position], None]) -> list[_Reading]:
    """Reads rows in threads: Pillow and numpy release the interpreter's lock while they decode."""
    with ThreadPoolExecutor(cores()) as pool:
        report(Position(group.key, 0, len(rows)))
        readings: list[_Reading] = []
        for of_chunk in pool.map(partial(_read_chunk, group), group.source.chunks(rows)):
            readings += of_chunk
            report(Position(group.key, len(readings), len(rows)))
    return readings


def _read_chunk(group: FileGroup, chunk: Chunk) -> list[_Reading]:
    readings = []
    try:
        for attempt in chunk.attempts():
            readings.append(_reading(group, attempt))
    except DataError as error:  # a parquet file is damaged there, so that its next rows can't be reached
        readings += [_Reading(chunk.first, error=str(error))] * (len(chunk.rows) - len(readings))
    return readings


def _reading(group: FileGroup, attempt: Attempt) -> _Reading:
    place, array = attempt.place, attempt.outcome
    if isinstance(array, DataError):
        return _Reading(place, error=str(array))
    if array.size == 0:
        return _Reading(place, error=f"{place}: expected pixels, found an array of {_extents([array.shape])}.")
    return _Reading(place, array.shape, float(array.min()), float(array.max()), remark=group.oddness(attempt))


def _group_row(group: FileGroup, readings: Sequence[_Reading]) -> Row:
    valid = [reading for reading in readings if not reading.error]
    wrong, odd = len(readings) - len(valid), sum(bool(reading.remark) for reading in valid)
    found = [_extents([reading.shape for reading in valid])] if valid else []
    if valid and group.ranged:
        found.append(f"{min(r.low for r in valid):.4g} to {max(r.high for r in valid):.4g}")
    found += [f"{wrong} unreadable or out of range"] if wrong else []
    found += [f"{odd} unusual"] if odd else []
    total = group.source.count
    share = f"all {total:,}" if len(readings) == total else f"{len(readings)} of {total:,}"
    return Row(
        f"{group.key}: {share} {group.source.unit}s read", group.expected, ", ".join(found), "wrong" if wrong else "ok"
    )


def _extents(shapes: Sequence[tuple[int, ...]]) -> str:
    """ "288×384×3", or "48–600×51–800×3" if files differ."""
    axes = [(min(axis), max(axis)) for axis in zip(*shapes, strict=True)]
    return "×".join(str(low) if low == high else f"{low}–{high}" for low, high in axes)


def _numbers(values: Sequence[int]) -> str:
    return " / ".join(f"{value:,}" for value in values)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
