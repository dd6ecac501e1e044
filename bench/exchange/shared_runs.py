"""Runs that are shared with other machines: their files, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.records.files import storage_error
from bench.records.items import ITEMS
from bench.records.items import LARGEST as LARGEST_ITEMS
from bench.records.reading import LARGEST, Damaged, read_bytes
from bench.records.record import Record
from bench.records.store import (
    COSINES,
    CURVE,
    POSITIONS,
    RECORD,
    RecordError,
    run_name,
)
from bench.spec.resolve import RunKey

# What is shared of a run, with the largest size in bytes; the rest is of the machine that trained it.
LARGEST_FILES: Mapping[str, int] = {
    RECORD: LARGEST,
    CURVE: LARGEST_ITEMS,
    POSITIONS: LARGEST_ITEMS,
    COSINES: LARGEST_ITEMS,
    ITEMS: LARGEST_ITEMS,
}


class ExchangeError(ValueError):
    """Runs that are not merged, exported or intact. The message has a line for each reason."""


@dataclass(frozen=True)
class FileMark:
    """Of a file: SHA-256 in hexadecimal digits, and the number of bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class SharedRun:
    """A finished run with valid files. source: whose it is, for messages. folder: where they lie. files: by name."""

    source: str
    folder: Path
    record: Record
    files: Mapping[str, FileMark]

    @property
    def key(self) -> RunKey:
        return self.record.key

    @property
    def name(self) -> str:
        """The folder below the results."""
        return run_name(*self.key)

    @property
    def size(self) -> int:
        return sum(mark.bytes for mark in self.files.values())


@dataclass(frozen=True)
class Source:
    """What a folder of results, or a file of runs, has.

    name: for messages.
    left_out: what is not shared and why, a sentence each.
    errors: what is refused, a sentence each.
    trial_seeds: of the tuning that settings of these runs come from.
    of_trials: whether the runs are themselves trials.
    """

    name: str
    runs: list[SharedRun] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    trial_seeds: list[int] = field(default_factory=list)
    of_trials: bool = False


def read_file(folder: Path, name: str) -> bytes:
    """The content of a file of a run; raises RecordError if it can't be read, or is too large."""
    path = folder / name
    try:
        return read_bytes(path, LARGEST_FILES[name])
    except Damaged as error:
        raise RecordError(f"{path}: {error}; restore it, or train the run again.") from error
    except OSError as error:
        raise RecordError(str(storage_error(path, error))) from error
