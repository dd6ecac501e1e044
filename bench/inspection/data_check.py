"""What is on disk against what is published: for `python -m bench.data check`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bench.cli.options import cores
from datasets.contract import Counts, DataError, FileGroup, Inventory

# differs: not as published, as in a cleaned version; runs go on. wrong: runs stop there, or learn from nonsense.
Verdict = Literal["ok", "differs", "wrong"]

# Files of each group that are read where not all are.
SAMPLE = 64
SAMPLE_SEED = 0
# Faults that are printed.
MOST_NAMED = 50


@dataclass(frozen=True)
class Row:
    """A line of the table: what was looked at, what was expected and found."""

    what: str
    expected: str
    found: str
    verdict: Verdict


@dataclass(frozen=True)
class Report:
    """faults: what is wrong, a sentence each that begins with the file. remarks: what is odd, likewise."""

    rows: Sequence[Row]
    faults: Sequence[str]
    remarks: Sequence[str]

    @property
    def conclusion(self) -> str:
        """Whether runs can use it."""
        if self.faults:
            return f"{_number(len(self.faults), 'fault')}: mend them before any run."
        if any(row.verdict == "differs" for row in self.rows):
            return "Usable, but not as published: say so beside your numbers."
        return "All as it should be."


@dataclass(frozen=True)
class _Reading:
    """What came out of one file: its shape, lowest and highest value, or what is wrong with it; what is odd."""

    path: Path
    shape: tuple[int, ...] = ()
    low: float = np.inf
    high: float = -np.inf
    fault: str = ""
    remark: str = ""


def check(
    inventory: Inventory, published: Counts, full: bool, tell: Callable[[str], None] = lambda key: None
) -> Report:
    """Compares counts with the published ones and reads files: a sample of each group, or all of them.

    tell: called with the key of each group before it is read.
    """
    rows = [*_count_rows(inventory.counts, published)]
    faults, remarks = [*inventory.errors], [*inventory.remarks]
    if inventory.errors:
        rows.append(Row("folders and lists", "complete", _number(len(inventory.errors), "fault"), "wrong"))
    for index, group in enumerate(inventory.groups):
        tell(group.key)
        readings = _read(group, sampled(group.paths, index, full))
        unreadable = [reading.fault for reading in readings if reading.fault]
        odd = [f"{reading.path}: {reading.remark}." for reading in readings if reading.remark]
        rows.append(_group_row(group, readings))
        faults += unreadable
        remarks += odd
    # A file that can't be opened is met with each of its columns.
    return Report(rows, list(dict.fromkeys(faults)), remarks)


def sampled(paths: Sequence[Path], stream: int, full: bool) -> list[Path]:
    """All paths, or SAMPLE of them, the same at every call."""
    if full or len(paths) <= SAMPLE:
        return list(paths)
    chosen = np.random.default_rng([SAMPLE_SEED, stream]).choice(len(paths), size=SAMPLE, replace=False)
    return [paths[index] for index in sorted(chosen.tolist())]


def _count_rows(found: Counts, published: Counts) -> Iterable[Row]:
    for what, numbers in found.items():
        expected = published.get(what)
        verdict: Verdict = "ok" if expected in (None, numbers) else "differs"
        yield Row(what, _numbers(expected) if expected else "", _numbers(numbers), verdict)
    for what, numbers in published.items():
        if what not in found:
            yield Row(what, _numbers(numbers), "none", "wrong")


def _read(group: FileGroup, paths: Sequence[Path]) -> list[_Reading]:
    """Pillow and numpy leave the interpreter while they decode, so threads are enough."""

    def look(path: Path) -> _Reading:
        try:
            array = group.load(path)
        except DataError as error:
            return _Reading(path, fault=str(error))
        if array.size == 0:
            return _Reading(path, fault=f"{path}: expected pixels, found an array of {_extents([array.shape])}.")
        return _Reading(path, array.shape, float(array.min()), float(array.max()), remark=group.oddness(array))

    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(look, paths))


def _group_row(group: FileGroup, readings: Sequence[_Reading]) -> Row:
    whole = [reading for reading in readings if not reading.fault]
    wrong, odd = len(readings) - len(whole), sum(bool(reading.remark) for reading in whole)
    found = [_extents([reading.shape for reading in whole])] if whole else []
    if whole and group.ranged:
        found.append(f"{min(r.low for r in whole):.4g} to {max(r.high for r in whole):.4g}")
    found += [f"{wrong} unreadable or out of range"] if wrong else []
    found += [f"{odd} odd"] if odd else []
    total = len(group.paths)
    looked_at = f"all {total:,}" if len(readings) == total else f"{len(readings)} of {total:,}"
    verdict: Verdict = "wrong" if wrong else "differs" if odd else "ok"
    return Row(f"{group.key}: {looked_at} files read", group.expected, ", ".join(found), verdict)


def _extents(shapes: Sequence[tuple[int, ...]]) -> str:
    """ "288×384×3", or "48–600×51–800×3" where files differ."""
    axes = [(min(axis), max(axis)) for axis in zip(*shapes, strict=True)]
    return "×".join(str(low) if low == high else f"{low}–{high}" for low, high in axes)


def _numbers(values: Sequence[int]) -> str:
    return " / ".join(f"{value:,}" for value in values)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
