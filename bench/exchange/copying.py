"""Copies the runs of a merge into a folder of results; each appears there as a whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bench.exchange.merging import Merge
from bench.exchange.shared_runs import ExchangeError, SharedRun, read_file
from bench.inventory.removal import remove_run
from bench.records.files import flush, storage_error
from bench.records.store import read_run, run_folder
from bench.records.trial_seeds import keep_seeds, trial_seeds
from datasets.embedded.atomic_folder import scratch_folder

_SCRATCH = ".merge."


def write_merge(merge: Merge, into: Path) -> None:
    """Copies the runs. Each appears when it is complete; if this is killed, the same merge adds the others.

    Raises:
        ExchangeError: a file has changed since the merge was planned, or a process trains a run meanwhile.
        StorageError: the system refuses it.
    """
    runs = [*merge.new, *merge.instead]
    if merge.trial_seeds - trial_seeds(into):
        keep_seeds(into, merge.trial_seeds)  # first: if this is killed, no run is there without them
    if not runs:
        return
    try:
        into.mkdir(parents=True, exist_ok=True)
        with scratch_folder(into, _SCRATCH) as scratch:
            staged = [_stage(run, scratch / str(place)) for place, run in enumerate(runs)]
            for run, folder in zip(runs, staged, strict=True):
                _move(folder, run_folder(into, *run.key), into)
    except OSError as error:
        raise storage_error(into, error) from error


def _finished_meanwhile(folder: Path) -> str:
    record = read_run(folder)
    finished = record is not None and record.status != "failed"
    return f"{folder}: another process has finished this run; give the same command again." if finished else ""


def _stage(run: SharedRun, folder: Path) -> Path:
    """A copy of a run, flushed to the disk."""
    folder.mkdir()
    for name, mark in run.files.items():
        content = read_file(run.folder, name)
        if hashlib.sha256(content).hexdigest() != mark.sha256:
            raise ExchangeError(f"{run.folder / name}: changed while it was read; give the same command again.")
        (folder / name).write_bytes(content)
        flush(folder / name)
    flush(folder)
    return folder


def _move(staged: Path, folder: Path, into: Path) -> None:
    """Moves a run to its place, which is free, or has a failed or unfinished run that nobody trains."""
    if folder.is_dir() and any(folder.iterdir()) and (reason := remove_run(folder, into, _finished_meanwhile)):
        raise ExchangeError(reason)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        staged.rename(folder)
    except OSError as error:
        if folder.exists():
            raise ExchangeError(f"{folder}: another process has written there; give the same command again.") from error
        raise
    flush(folder.parent)
