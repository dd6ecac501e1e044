"""Decoding of source rows into a prepared array, by several processes; an interrupted attempt is continued."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.decoding.decoder import Output, decode, opened
from datasets.decoding.integrity import Condition, examine, remove_unfinished_notes, seal
from datasets.decoding.places import array_folders, choose_folder
from datasets.decoding.prepared import (
    Digests,
    Layout,
    Marks,
    Rows,
    Stamps,
    create,
    finish,
    layout_of,
    mark,
    marks_in,
    take_over,
)
from datasets.decoding.rows import Chunk, RowSource, valid_rows
from datasets.decoding.workers import decode_by_workers
from datasets.errors import DataError, NotPrepared, not_written

# Workers take some tenths of a second to start. Decoding that takes less than this many seconds does without them.
_WORTH_WORKERS = 1.0
# Seconds between two times that decoded rows are flushed to disk and marked, and by which factor a slow disk may
# exceed it. Rows that aren't marked yet are decoded again after an interruption.
_MARK_EVERY = 2.0
_PATIENCE = 5
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Progress:
    """The progress of an array.

    what: what the rows are, in words.
    unit: what each is decoded from, in a word.
    folder: where the array is written.
    done, total: numbers of rows.
    kept: number of rows that an earlier attempt decoded.
    damaged: number of rows that were decoded and have changed on disk since; they are decoded again.
    needed, free: bytes on disk, at the start.
    """

    what: str
    unit: str
    folder: Path
    done: int
    total: int
    kept: int
    damaged: int
    needed: int
    free: int


def _silent(progress: Progress) -> None:
    del progress


@dataclass(frozen=True)
class Preparation:
    """How source rows are decoded.

    workers: number of processes; None for one per core, if that saves time.
    report: called with the progress.
    cache: the folder for prepared arrays of all data sets; None for beside the data, or the user's cache folder.
    allowed: whether arrays may be decoded and written. If not, an array that isn't current is an error.
    """

    workers: int | None = None
    report: Callable[[Progress], None] = _silent
    cache: Path | None = None
    allowed: bool = True


_PREPARATION: ContextVar[Preparation] = ContextVar("preparation")


@contextlib.contextmanager
def preparing(preparation: Preparation) -> Iterator[None]:
    """A context in which source rows are decoded this way."""
    token = _PREPARATION.set(preparation)
    try:
        yield
    finally:
        _PREPARATION.reset(token)


def prepare_array(source: RowSource, root: Path, name: str, what: str) -> Path:
    """The array `name` of the data set in `root`, up to date; rows that aren't are decoded.

    Rows of unchanged files are reused from an interrupted attempt or the former array. An unfinished array is another
    file, so the array is complete at all times. If another process prepares arrays in this folder, this one waits.

    Raises:
        NotPrepared: the array isn't up to date, and nothing may be decoded.
        DataError: a row can't be read or differs from the first in shape or type, the disk is full or not writable,
            or a worker died.
    """
    preparation, stamps = _PREPARATION.get(Preparation()), source.stamps()
    arrays = [folder / name for folder in array_folders(root, preparation.cache)]
    for array in arrays:
        condition = examine(array, stamps)
        if condition is not None and condition.is_current:
            if condition.compared and preparation.allowed:
                with contextlib.suppress(OSError):  # read-only: the next run compares again
                    seal(array)
            return array
    if not preparation.allowed:
        raise _not_prepared(source, root, arrays, stamps, what)
    target = choose_folder([array.parent for array in arrays]) / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.parent):
            condition = examine(target, stamps)
            if condition is None or not condition.is_current:
                _make(source, stamps, target, condition, what)
                remove_unfinished_notes(target)
                seal(target)
    except OSError as error:
        raise not_written(target.parent, "write decoded files", error, "another folder with --cache-dir") from error
    return target


def _not_prepared(source: RowSource, root: Path, arrays: Sequence[Path], stamps: Stamps, what: str) -> NotPrepared:
    found = next((condition for array in arrays if (condition := examine(array, stamps)) is not None), None)
    if found is not None:
        pending = np.setdiff1d(np.arange(len(stamps)), found.intact)
    else:
        parts = [_unmarked(array.with_suffix(".part"), stamps) for array in arrays]
        pending = min(parts, key=len)
    return NotPrepared(root, what, len(pending), len(stamps), source.place(int(pending[0])), found is not None)


def _unmarked(part: Path, stamps: Stamps) -> Rows:
    """The rows that an unfinished array, if there is one, lacks."""
    layout = layout_of(part)
    if layout is None or layout.shape[0] != len(stamps):
        return np.arange(len(stamps))
    with part.open("rb") as file:
        return np.flatnonzero((marks_in(file, layout).stamps != stamps).any(axis=1))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits for other processes that prepare arrays in this folder, if the file system supports locks."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield


def _make(source: RowSource, stamps: Stamps, target: Path, former: Condition | None, what: str) -> None:
    part = target.with_suffix(".part")
    output = Output(part, _begin(source, len(stamps), target, former))
    _fill(source, stamps, output, 0 if former is None else len(former.damaged), what)
    finish(part, target)


def _begin(source: RowSource, count: int, target: Path, former: Condition | None) -> Layout:
    """Creates the array to fill, with the rows that can be reused. The first row determines the layout."""
    (first,) = source.chunks(np.array([0]))
    ((_, values),) = valid_rows(first)
    layout, part = Layout(values.dtype, (count, *values.shape)), target.with_suffix(".part")
    if layout_of(part) != layout:
        create(part, layout)
        if former is not None and former.layout == layout:
            with opened(part) as descriptor:
                take_over(target, descriptor, layout, former.intact)
    return layout


def _require_room(folder: Path, needed: int) -> int:
    """The free bytes; raises DataError if they are fewer than needed."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{folder}: expected {needed / 2**20:,.1f} MiB free for decoded files, found {free / 2**20:,.1f} MiB; "
            "make room, or choose a folder on another disk with --cache-dir."
        )
    return free


def _fill(source: RowSource, stamps: Stamps, output: Output, damaged: int, what: str) -> None:
    """Decodes all rows whose stamps differ from those of their sources, and those that differ from their digests.

    damaged: number of damaged rows of the former array; for the progress.
    """
    preparation, folder, total = _PREPARATION.get(Preparation()), output.path.parent, len(stamps)
    # Rows that an earlier attempt marked may have changed on disk since, as in a finished array.
    begun = examine(output.path, stamps)
    pending = np.arange(total) if begun is None else np.setdiff1d(np.arange(total), begun.intact)
    damaged += 0 if begun is None else len(begun.damaged)
    done = kept = total - len(pending)
    needed = max(0, output.layout.file_bytes - 512 * output.path.stat().st_blocks)  # blocks that it has are its own
    free = _require_room(folder, needed)
    preparation.report(Progress(what, source.unit, folder, done, total, kept, damaged, needed, free))
    with _marking(output, stamps) as note:
        for chunk, digests in _decoded_chunks(output, source.chunks(pending), preparation.workers):
            done += len(chunk.rows)
            note(chunk.rows, digests)
            preparation.report(Progress(what, source.unit, folder, done, total, kept, damaged, needed, free))


@contextlib.contextmanager
def _marking(output: Output, stamps: Stamps) -> Iterator[Callable[[Rows, Digests], None]]:
    """A function that takes decoded rows and their digests; they are marked from time to time, and at the end."""
    fresh: list[tuple[Rows, Digests]] = []

    with opened(output.path) as descriptor, ThreadPoolExecutor(1) as flusher:
        # Flushing rows to disk takes as long as decoding them, so a thread does it in parallel.
        running: Future[None] | None = None
        last = time.monotonic()

        def write(decoded: Sequence[tuple[Rows, Digests]]) -> None:
            rows = np.concatenate([rows for rows, _ in decoded])
            digests = np.concatenate([digests for _, digests in decoded])
            mark(descriptor, output.layout, rows, Marks(stamps[rows], digests))

        def note(rows: Rows, digests: Digests) -> None:
            nonlocal running, last
            fresh.append((rows, digests))
            since, idle = time.monotonic() - last, running is None or running.done()
            # Wait for a disk that can't keep up, so that an interruption loses little.
            if since > _MARK_EVERY and (idle or since > _PATIENCE * _MARK_EVERY):
                if running is not None:
                    running.result()
                running = flusher.submit(write, tuple(fresh))
                fresh.clear()
                last = time.monotonic()

        try:
            yield note
        finally:
            if running is not None:
                running.result()
            if fresh:
                write(fresh)


def _decoded_chunks(output: Output, chunks: Sequence[Chunk], workers: int | None) -> Iterator[tuple[Chunk, Digests]]:
    """Decodes and yields chunks, with the digests of their rows, in this process or by workers."""
    left = list(chunks)
    if workers is None and len(left) > 1:
        workers, start = _cores(), time.perf_counter()
        first = left.pop(0)
        yield first, decode(output, first)
        if (time.perf_counter() - start) * len(left) < _WORTH_WORKERS:
            workers = 1
    if workers is None or workers == 1 or len(left) < 2:
        for chunk in left:
            yield chunk, decode(output, chunk)
    else:
        yield from decode_by_workers(output, left, min(workers, len(left)))


def _cores() -> int:
    """The number of processors that this process may use; all of the machine if the system doesn't say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
