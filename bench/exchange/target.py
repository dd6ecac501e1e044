"""Whether runs can be written to a folder of results: each place is looked at before anything is written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.exchange.shared_runs import LARGEST_FILES, ExchangeError, SharedRun
from bench.records.again import AGAIN
from bench.records.claim import CLAIM
from bench.records.files import is_temporary, matching, storage_error
from bench.records.plain_text import named, one_line
from bench.records.store import CHECKPOINT, ERROR_LOG, RECORD, SEED_PREFIX, TENSORBOARD, run_folder
from bench.records.system_errors import free_bytes, nearest

# What a run has in its folder; a finished run that takes its place takes that of all of them.
_OF_A_RUN = {*LARGEST_FILES, CHECKPOINT, ERROR_LOG, CLAIM, AGAIN, TENSORBOARD}


def target_folder(path: Path) -> Path:
    """The folder of results that a path leads to, there or not, without links in its own path.

    Raises:
        ExchangeError: it can't be one. StorageError: it can't be looked at.
    """
    into = path.resolve()
    if not into.exists() and path.is_symlink():
        raise ExchangeError(f"{path}: expected a folder of results, found a link that leads nowhere; remove it.")
    if into.exists() and not into.is_dir():
        raise ExchangeError(f"{path}: expected a folder of results, found a file; name another one with --into.")
    inside = [into / RECORD] if (into / RECORD).exists() else matching(into, f"{SEED_PREFIX}*", RECORD)
    if found := [*inside, *matching(into, "*", f"{SEED_PREFIX}*", RECORD)]:
        raise ExchangeError(
            f"{path}: expected a folder of results, found a folder within one, with {found[0].relative_to(into)}; name "
            "the folder that has the data sets."
        )
    return into


def unwritable(runs: Sequence[SharedRun], into: Path) -> Iterator[str]:
    """Sentences on places of runs that can't be written, or would be written somewhere else through a link."""
    folders = {run_folder(into, *run.key) for run in runs}
    written = {folder.parent for folder in folders} | {into}
    for path in sorted(folders | written | {folder.parents[1] for folder in folders}):
        if path.is_symlink():
            yield f"{path}: expected no link, found one; remove it, or put what it leads to there."
        elif os.path.lexists(path) and not path.is_dir():
            yield f"{path}: expected a folder, found a file; move it away."
        elif path in written and (place := nearest(path)).is_dir() and not os.access(place, os.W_OK | os.X_OK):
            yield str(storage_error(place, PermissionError(errno.EACCES, "Permission denied")))


def of_no_run(folder: Path) -> str:
    """What the folder of a run has that is of no run, in words, so that nothing may take its place; "" for nothing.

    Raises:
        StorageError: it can't be listed.
    """
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise storage_error(folder, error) from error
    odd = [one_line(name) for name in names if name not in _OF_A_RUN and not is_temporary(name)]
    expected = "expected nothing but a run, which a finished one replaces"
    return f"{folder}: {expected}, found {named(odd)}; move it away." if odd else ""


def require_room(runs: Sequence[SharedRun], into: Path) -> None:
    """Raises ExchangeError if the file system has less room than the runs need."""
    needed, free = sum(run.size for run in runs), free_bytes(nearest(into))
    if free < needed:
        raise ExchangeError(f"{into}: expected {needed:,} bytes free for the runs, found {free:,}; make room there.")
