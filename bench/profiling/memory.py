"""The memory that a training step takes at its peak, beyond the network and the batch, to go with its time.

Every contestant's is measured in a process of its own, so that none finds memory that another one has left: it builds
network and batch, notes what it uses, makes ready and takes two steps; the second has all that is kept between steps.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context, resource_tracker
from multiprocessing.connection import Connection
from typing import Any

import torch

from bench.engine.device import peak_memory_mib, reset_peak_memory
from bench.profiling.harness import TurnProgress
from bench.profiling.solvers import installed
from bench.profiling.step import WARMUP, Course, Entry, Stage, race_steps
from bench.records.speed import FLOOR, OURS, Cell, ShapeRecord

STEPS = 2


def measure_memory(
    course: Course, entries: Sequence[Entry], threads: int, on_turn: Callable[[Entry], None] = lambda entry: None
) -> dict[Entry, float | None]:
    """MiB by entry, floors left out; None where the system doesn't tell, or the process ended early."""
    peaks: dict[Entry, float | None] = {}
    for entry in entries:
        if entry.contestant != FLOOR:
            on_turn(entry)
            peaks[entry] = _in_a_process(course, entry, threads)
    return peaks


def measure_course(
    course: Course, entries: Sequence[Entry], rounds: int, threads: int, with_memory: bool, progress: TurnProgress
) -> tuple[ShapeRecord, list[Cell]]:
    """The shape, and a cell for each entry: its times, and then, once the race has left, its memory."""
    progress.say(f"{course.shape.key}: {course.shape.label}, {len(entries)} contestants")
    key = course.shape.key
    shape, cells = race_steps(course, entries, rounds, lambda entry: progress.turn(f"{key}: {entry}"))
    if with_memory:
        working = [entry for entry, cell in zip(entries, cells, strict=True) if not cell.fault]
        peaks = measure_memory(course, working, threads, lambda entry: progress.turn(f"{key}: {entry}, memory"))
        cells = [
            cell.model_copy(update={"peak_mib": peaks.get(entry)}) for entry, cell in zip(entries, cells, strict=True)
        ]
    progress.say(f"{key}: done")
    return shape, cells


def turns(entries: Sequence[Entry], rounds: int, with_memory: bool) -> int:
    """How many turns `measure_course` takes, when nobody fails."""
    remembered = sum(entry.contestant != FLOOR for entry in entries)
    return len(entries) * (WARMUP + rounds) + (remembered if with_memory else 0)


def _context() -> Any:
    """Processes that begin with torch and the suite imported, where the system can do that."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _in_a_process(course: Course, entry: Entry, threads: int) -> float | None:
    context = _context()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(theirs, course, entry, threads), daemon=True)
    with _deaf_to_interrupts():
        process.start()
    theirs.close()
    try:
        peak: float | None = ours.recv()
        process.join()
    except EOFError:  # killed, as when there was no memory left
        peak = None
    finally:
        ours.close()
        process.kill()
        process.join()
    return peak


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started within leaves Ctrl-C to this process, which hears of it afterwards, and ends what it started."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it would listen again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _report(answer: Connection, course: Course, entry: Entry, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        answer.send(peak_of_steps(course, entry))
    except (RuntimeError, MemoryError):  # no memory left: it has no peak, and the race has told any other fault
        answer.send(None)


def peak_of_steps(course: Course, entry: Entry) -> float | None:
    """MiB that STEPS steps take, in this process; None where the system doesn't tell."""
    if entry.contestant not in (OURS, FLOOR):
        installed([entry.contestant])  # imports it, which isn't part of a step
    stage = Stage(course)
    stage.network(entry)
    reset_peak_memory(course.device)
    before = peak_memory_mib(course.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = stage.step(entry)
        for _ in range(STEPS):
            step()
    after = peak_memory_mib(course.device)
    return None if before is None or after is None else after - before
