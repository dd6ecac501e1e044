"""Copies the runs of a merge into a folder of results; each appears there as a whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from bench.exchange.merging import Merge
from bench.exchange.shared_runs import ExchangeError, SharedRun, read_file
from bench.exchange.target import of_no_run
from bench.inventory.removal import remove_run
from bench.records.files import StorageError, flush, storage_error
from bench.records.store import RecordError, read_run, run_folder
from bench.records.trial_seeds import keep_seeds, trial_seeds
from datasets.embedded.atomic_folder import scratch_folder

_SCRATCH = ".merge."


def write_merge(merge: Merge, into: Path) -> None:
    """Copies the runs. Each appears when it is complete; if this ends early, the same merge adds the others.

    The caller is the only writer of the folder (`only_writer`) since the merge was planned.

    Raises:
        ExchangeError: it ends early: a file has changed since the merge was planned, a process trains a run meanwhile,
            or the system refuses it. The message says how many runs were added.
        StorageError: nothing was added, since the system refuses it.
    """
    runs, moved = merge.added, 0
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
                moved += 1
    except (OSError, StorageError, RecordError, ExchangeError) as error:
        reason = _in_words(error, into)
        if moved:
            added = f"{moved:,} of {len(runs):,} runs were added before; the same merge adds the others."
            raise ExchangeError(f"{reason}\n{added}") from error
        if reason is error:
            raise
        raise reason from error


def _in_words(error: Exception, into: Path) -> Exception:
    """An error of the system as one that names the place; others as they are."""
    if not isinstance(error, OSError):
        return error
    return storage_error(Path(os.fsdecode(error.filename)) if error.filename else into, error)


def _why_kept(folder: Path) -> str:
    record = read_run(folder)
    if record is not None and record.status != "failed":
        return f"{folder}: another process has finished this run; give the same command again."
    return of_no_run(folder)


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
    if folder.is_dir() and any(folder.iterdir()) and (reason := remove_run(folder, into, _why_kept)):
        raise ExchangeError(reason)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        staged.rename(folder)
    except OSError as error:
        if folder.exists():
            raise ExchangeError(f"{folder}: another process has written there; give the same command again.") from error
        raise
    flush(folder.parent)
