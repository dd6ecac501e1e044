"""Decoding: source files to a prepared array, by several processes, going on where an earlier attempt has stopped."""

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
from datasets.faults import DataError

Load = Callable[[Path], Array]

_CHUNK = 32
# Workers take some tenths of a second to start; who needs less than this alone, in seconds, does it alone.
_WORTH_WORKERS = 1.0
# Seconds between two looks that what is decoded is on disk, and how many times that a slow disk may take for it; what
# was decoded in that time is decoded again after an interruption.
_STAMP_EVERY = 2.0
_PATIENCE = 5
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Progress:
    """How far an array is: `done` of `total` files, `kept` of them from before; bytes it still needed and were free."""

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
    """How files are decoded: by `workers` processes (None: one per core, where that saves time), and who is told."""

    workers: int | None = None
    report: Callable[[Progress], None] = _silent


_PREPARATION: ContextVar[Preparation] = ContextVar("preparation")


@contextlib.contextmanager
def preparing(preparation: Preparation) -> Iterator[None]:
    """Whatever is decoded within is decoded that way."""
    token = _PREPARATION.set(preparation)
    try:
        yield
    finally:
        _PREPARATION.reset(token)


def prepare_array(paths: Sequence[Path], load: Load, stamps: Stamps, target: Path, what: str) -> None:
    """Decodes files into the array `target`, whose rows are then those of `paths`, in that order, unless it is so.

    Rows that an interrupted attempt or an older `target` has of unchanged files are kept. What is begun stands in
    another file, so `target` is whole at all times. Another process that prepares in this folder is waited for.

    Raises:
        DataError: a file can't be read or differs from the first in shape or type, the disk is full or may not be
            written, or a worker died.
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
        f"{folder}: could not write what was decoded ({error.strerror}); make room or allow writing there, and run it "
        "again: what is decoded is kept."
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits for other processes that prepare in this folder; where files can't be locked, users take care of that."""
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield


def _begin(paths: Sequence[Path], load: Load, stamps: Stamps, target: Path, part: Path) -> Layout:
    """Sees that there is an array to fill, with the rows that are known already; the first file tells the layout."""
    first = load(paths[0])
    layout = Layout(first.dtype, (len(paths), *first.shape))
    if layout_of(part) != layout:
        create(part, layout)
        if layout_of(target) == layout:
            with opened(part) as descriptor:
                take_over(target, descriptor, layout, stamps)
    return layout


def _require_room(folder: Path, needed: int) -> int:
    """Bytes that are free, which must be as many as needed."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{folder}: expected {needed / 2**30:.2f} GiB free for decoded files, found {free / 2**30:.2f} GiB; "
            "make room, or name a data root on another disk."
        )
    return free


def _fill(job: Job, stamps: Stamps, what: str) -> None:
    """Decodes all rows that have not the stamps of their files."""
    preparation, folder, total = _PREPARATION.get(Preparation()), job.part.parent, len(job.paths)
    pending = np.flatnonzero((stamps_in(job.part, job.layout) != stamps).any(axis=1))
    done = kept = total - len(pending)
    needed = max(0, job.layout.file_bytes - 512 * job.part.stat().st_blocks)  # what it takes already is its own
    free = _require_room(folder, needed)
    preparation.report(Progress(what, folder, done, total, kept, needed, free))
    with opened(job.part) as descriptor, ThreadPoolExecutor(1) as clerk:
        # Bringing rows to the disk takes as long as decoding them; it mustn't keep those who decode waiting.
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
                # A disk that can't keep up is waited for in the end, so that little is lost in an interruption.
                if since > _STAMP_EVERY and (idle or since > _PATIENCE * _STAMP_EVERY):
                    if stamped is not None:
                        stamped.result()
                    stamped = clerk.submit(stamp, descriptor, job.layout, np.concatenate(decoded), stamps)
                    decoded = []
                    last = time.monotonic()
        finally:
            if stamped is not None:
                stamped.result()
            if decoded:
                stamp(descriptor, job.layout, np.concatenate(decoded), stamps)


def _decoded_rows(job: Job, pending: Rows, workers: int | None) -> Iterator[Rows]:
    """Decodes and yields rows, a chunk at a time: alone, or by so many processes."""
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
    """The processors that this process may use; all of the machine's where the system doesn't tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
