"""Decoding of source files into a prepared array, by several processes; an interrupted attempt is continued."""

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

from datasets.decoding.decoder import Job, decode, opened
from datasets.decoding.prepared import (
    Array,
    Layout,
    Rows,
    Stamps,
    create,
    finish,
    is_current,
    layout_of,
    stamp,
    stamps_in,
    take_over,
)
from datasets.decoding.workers import decode_by_workers
from datasets.errors import DataError

Load = Callable[[Path], Array]

_CHUNK = 32
# Workers take some tenths of a second to start. Decoding that takes less than this many seconds does without them.
_WORTH_WORKERS = 1.0
# Seconds between two times that decoded rows are flushed to disk and stamped, and by which factor a slow disk may
# exceed it. Rows that aren't stamped yet are decoded again after an interruption.
_STAMP_EVERY = 2.0
_PATIENCE = 5
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Progress:
    """The progress of an array.

    what: what the files are, in words.
    folder: where the array is written.
    done, total: numbers of files.
    kept: number of files that an earlier attempt decoded.
    needed, free: bytes on disk, at the start.
    """

    what: str
    folder: Path
    done: int
    total: int
    kept: int
    needed: int
    free: int


def _silent(progress: Progress) -> None:
    del progress


@dataclass(frozen=True)
class Preparation:
    """How files are decoded.

    workers: number of processes; None for one per core, if that saves time.
    report: called with the progress.
    cache: the folder of prepared arrays; None for the default.
    allowed: whether anything may be decoded.
    """

    workers: int | None = None
    report: Callable[[Progress], None] = _silent
    cache: Path | None = None
    allowed: bool = True


_PREPARATION: ContextVar[Preparation] = ContextVar("preparation")


@contextlib.contextmanager
def preparing(preparation: Preparation) -> Iterator[None]:
    """A context in which files are decoded this way."""
    token = _PREPARATION.set(preparation)
    try:
        yield
    finally:
        _PREPARATION.reset(token)


def prepare_array(paths: Sequence[Path], load: Load, stamps: Stamps, target: Path, what: str) -> None:
    """Decodes files into the array `target`, one row per path in this order, unless it is up to date.

    Rows of unchanged files are reused from an interrupted attempt or an older `target`. An unfinished array is another
    file, so `target` is complete at all times. If another process prepares arrays in this folder, this one waits.

    Raises:
        DataError: a file can't be read or differs from the first in shape or type, the disk is full or not writable,
            or a worker died.
    """
    try:
        if is_current(target, stamps):
            return
        target.parent.mkdir(exist_ok=True)
        with _alone(target.parent):
            if not is_current(target, stamps):
                part = target.with_suffix(".part")
                _fill(Job(paths, load, part, _begin(paths, load, stamps, target, part)), stamps, what)
                finish(part, target)
    except OSError as error:
        raise _not_written(target.parent, error) from error


def _not_written(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"{folder}: could not write decoded files ({error.strerror}); make room or allow writing there, and run "
        "the same command again: it continues."
    )


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


def _begin(paths: Sequence[Path], load: Load, stamps: Stamps, target: Path, part: Path) -> Layout:
    """Creates the array to fill, with the rows that can be reused. The first file determines the layout."""
    first = load(paths[0])
    layout = Layout(first.dtype, (len(paths), *first.shape))
    if layout_of(part) != layout:
        create(part, layout)
        if layout_of(target) == layout:
            with opened(part) as descriptor:
                take_over(target, descriptor, layout, stamps)
    return layout


def _require_room(folder: Path, needed: int) -> int:
    """The free bytes; raises DataError if they are fewer than needed."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{folder}: expected {needed / 2**30:.2f} GiB free for decoded files, found {free / 2**30:.2f} GiB; "
            "make room, or set a data root on another disk."
        )
    return free


def _fill(job: Job, stamps: Stamps, what: str) -> None:
    """Decodes all rows whose stamps differ from those of their files."""
    preparation, folder, total = _PREPARATION.get(Preparation()), job.part.parent, len(job.paths)
    pending = np.flatnonzero((stamps_in(job.part, job.layout) != stamps).any(axis=1))
    done = kept = total - len(pending)
    needed = max(0, job.layout.file_bytes - 512 * job.part.stat().st_blocks)  # blocks that it has are its own
    free = _require_room(folder, needed)
    preparation.report(Progress(what, folder, done, total, kept, needed, free))
    with opened(job.part) as descriptor, ThreadPoolExecutor(1) as flusher:
        # Flushing rows to disk takes as long as decoding them, so a thread does it in parallel.
        stamped: Future[None] | None = None
        decoded: list[Rows] = []
        try:
            last = time.monotonic()
            for rows in _decoded_rows(job, pending, preparation.workers):
                decoded.append(rows)
                done += len(rows)
                preparation.report(Progress(what, folder, done, total, kept, needed, free))
                since = time.monotonic() - last
                idle = stamped is None or stamped.done()
                # Wait for a disk that can't keep up, so that an interruption loses little.
                if since > _STAMP_EVERY and (idle or since > _PATIENCE * _STAMP_EVERY):
                    if stamped is not None:
                        stamped.result()
                    stamped = flusher.submit(stamp, descriptor, job.layout, np.concatenate(decoded), stamps)
                    decoded = []
                    last = time.monotonic()
        finally:
            if stamped is not None:
                stamped.result()
            if decoded:
                stamp(descriptor, job.layout, np.concatenate(decoded), stamps)


def _decoded_rows(job: Job, pending: Rows, workers: int | None) -> Iterator[Rows]:
    """Decodes and yields rows, a chunk at a time, in this process or by workers."""
    chunks = [pending[start : start + _CHUNK] for start in range(0, len(pending), _CHUNK)]
    if workers is None and len(chunks) > 1:
        workers, start = _cores(), time.perf_counter()
        decode(job.only(chunks[0]), chunks[0])
        yield chunks.pop(0)
        if (time.perf_counter() - start) * len(chunks) < _WORTH_WORKERS:
            workers = 1
    if workers is None or workers == 1 or len(chunks) < 2:
        for rows in chunks:
            decode(job.only(rows), rows)
            yield rows
    else:
        yield from decode_by_workers(job, chunks, min(workers, len(chunks)))


def _cores() -> int:
    """The number of processors that this process may use; all of the machine if the system doesn't say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
