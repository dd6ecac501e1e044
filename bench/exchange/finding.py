"""Which runs of a folder of results from somewhere else are shared, and what of it is left out or refused."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import replace
from pathlib import Path

from bench.exchange.contents import wrong_record
from bench.exchange.shared_runs import LARGEST_FILES, ExchangeError, FileMark, SharedRun, Source, read_file
from bench.exchange.tables import COLUMNS, wrong_files, wrong_numbers
from bench.records.again import AGAIN, has_ended_again
from bench.records.claim import CLAIM, has_died, holder_of
from bench.records.files import StorageError, matching, storage_error
from bench.records.items import read_items
from bench.records.names import checked_short_name
from bench.records.plain_text import one_line
from bench.records.record import Record
from bench.records.store import (
    CHECKPOINT,
    RECORD,
    SEED_PREFIX,
    RecordError,
    read_run,
)
from bench.records.trial_seeds import MERGED_SEEDS, are_trials, holds_trials, trial_seeds, trials_among
from bench.records.trials import TRIALS, TUNING

_NO_RUN = f"expected data/variant/{SEED_PREFIX}<s> of a run, found a folder of another name; rename it if it has runs"
_LEFT_BY_COMMANDS = (".merge.", ".removed-")  # when they were killed
_NO_DATA = {
    "speed": "measurements of machines; copy its files, each is of one machine",
    "gpu": "checks of accelerators; copy its folders, each is of one machine",
    TUNING: "trials; merge this folder into the folder of trials of the other results",
}


def find_shared(results: Path, name: str = "", only: Container[Path] | None = None) -> Source:
    """All finished runs under a folder of results. No link is followed below it.

    name: for messages; by default the path. only: the folders of the runs to look at; None for all.

    Raises:
        ExchangeError: there is no such folder. RecordError: the seeds of its trials can't be read.
    """
    if not results.is_dir():
        raise ExchangeError(f"{results}: expected a folder of results or a file of `bench.runs export`, found none.")
    source = Source(name or str(results), trial_seeds=sorted(trial_seeds(results)))
    extras = Counter[str]()
    for data in _folders(results, source):
        if data.name in _NO_DATA:
            source.left_out.append(f"{data}: {_NO_DATA[data.name]}.")
            continue
        before = len(source.runs) + len(source.left_out) + len(source.errors)
        for variant in _folders(data, source):
            for folder in _folders(variant, source):
                if only is not None and folder not in only:
                    continue
                if folder.name.startswith(SEED_PREFIX):
                    _look_at(folder, source, extras)
                else:
                    source.left_out.append(f"{folder}: {_NO_RUN}.")
        if len(source.runs) + len(source.left_out) + len(source.errors) == before:
            source.left_out.append(f"{data}: no runs of a data set; if it is a folder of results, name it by itself.")
    source.left_out.extend(f"{_of(count, 'run')}: {name}, which is not shared." for name, count in extras.items())
    records = [run.record for run in source.runs]
    of_trials = holds_trials(results) or are_trials(records)
    if not of_trials and (error := trials_among(records)):
        source.errors.append(f"{source.name}: {error}.")
    return replace(source, of_trials=of_trials)


def _of(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _folders(parent: Path, source: Source) -> Iterator[Path]:
    """The folders in a folder, sorted; links and hostile names are errors, files of no run are left out."""
    for entry in _entries(parent, source):
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith("."):
                yield parent / entry.name
            elif not entry.name.startswith(_LEFT_BY_COMMANDS) and _has_records(parent / entry.name):
                source.left_out.append(f"{parent / entry.name}: {_NO_RUN}.")
        elif not entry.name.startswith(".") and entry.name != MERGED_SEEDS:
            own = (
                "`bench.tune` writes it again from the records" if entry.name == TRIALS else "a file that is of no run"
            )
            source.left_out.append(f"{parent / entry.name}: {own}.")


def _has_records(folder: Path) -> bool:
    """Whether records lie in a folder or below it, as deep as one with data sets is."""
    return any(matching(folder, *["*"] * depth, RECORD) for depth in range(4))


def _entries(parent: Path, source: Source) -> list[os.DirEntry[str]]:
    """What is in a folder and is neither a link nor named in a way that could harm."""
    try:
        entries = sorted(os.scandir(parent), key=lambda entry: entry.name)
    except OSError as error:
        source.errors.append(str(storage_error(parent, error)))
        return []
    good = []
    for entry in entries:
        path = one_line(str(parent / entry.name))
        try:
            checked_short_name(entry.name)
        except ValueError as error:
            source.errors.append(f"{one_line(str(parent))}: {error}; rename or remove it.")
            continue
        if entry.is_symlink():
            source.errors.append(f"{path}: expected no link, found one; remove it, or put what it leads to there.")
        elif not (entry.is_dir() or entry.is_file()):
            source.errors.append(f"{path}: expected a file or a folder, found a pipe or a device; remove it.")
        else:
            good.append(entry)
    return good


def _look_at(folder: Path, source: Source, extras: Counter[str]) -> None:
    """Adds a run to the source, or the reason why it isn't there."""
    before = len(source.errors)
    names = {entry.name: entry for entry in _entries(folder, source)}
    if len(source.errors) > before:
        return
    holder = holder_of(folder) if CLAIM in names else None
    try:
        record = read_run(folder)
        if holder is not None and not has_died(holder):
            source.left_out.append(f"{folder}: {holder.name} trains it; if that has ended, delete {CLAIM} there.")
        elif record is None:
            what = "has a checkpoint and no record" if CHECKPOINT in names else "has no record"
            source.left_out.append(f"{folder}: not finished, it {what}.")
        elif AGAIN in names and has_ended_again(folder):
            source.left_out.append(f"{folder}: trained again, its new files are in {AGAIN}; `bench.run` moves them.")
        elif record.status == "failed":
            source.left_out.append(f"{folder}: failed ({one_line(record.reason)}).")
        else:
            source.runs.append(_checked(source.name, folder, record, set(names)))
            extras.update(name for name in names if name not in source.runs[-1].files)
    except (RecordError, StorageError) as error:
        source.errors.append(str(error))


def _checked(source: str, folder: Path, record: Record, names: set[str]) -> SharedRun:
    """The run; raises RecordError if one of its files is bad, or contradicts the record."""
    if error := wrong_record(record):
        raise RecordError(f"{folder / RECORD}: {error}; train the run again.")
    name, error = wrong_files(record, names)
    if error:
        raise RecordError(f"{folder / name}: {error}; train the run again.")
    read_items(folder, record)
    marks = {}
    for name in (name for name in LARGEST_FILES if name in names):
        content = read_file(folder, name)
        if name in COLUMNS and (error := wrong_numbers(folder, name, content, record)):
            raise RecordError(f"{folder / name}: {error}; train the run again.")
        marks[name] = FileMark(hashlib.sha256(content).hexdigest(), len(content))
    return SharedRun(source, folder, record, marks)
