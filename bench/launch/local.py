"""Runs on this machine: a few worker processes that take one run after another.

A run that fails is recorded and the others go on; so does a worker that dies. Workers leave Ctrl-C to the parent,
which stops them: what they had finished is recorded, what they had begun has its checkpoint.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Literal

from bench.engine.device import choose_device
from bench.engine.loop import RunContext, failed_record, train
from bench.records.record import Record
from bench.records.store import run_folder, write_record
from bench.spec.resolve import RunSpec

ERROR_LOG = "error.txt"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class LaunchConfig:
    """What all runs of a launch share: folders of data by name, the results folder, device name, threads per run."""

    data: Mapping[str, Path]
    results: Path
    device: str
    threads: int

    def folder(self, spec: RunSpec) -> Path:
        return run_folder(self.results, spec.data, spec.variant, spec.seed)


@dataclass(frozen=True)
class Event:
    """News of one run: an epoch done, or its end with the record."""

    kind: Literal["epoch", "end"]
    spec: RunSpec
    epochs: int = 0
    record: Record | None = None


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    spec: RunSpec | None = field(default=None)


def run_locally(specs: Sequence[RunSpec], site: LaunchConfig, jobs: int, on_event: Callable[[Event], None]) -> None:
    """Executes all runs, at most `jobs` at a time, and reports what happens as it happens.

    Raises:
        KeyboardInterrupt: after all workers have stopped.
    """
    queue = list(specs)
    # Read by the linear algebra under torch and numpy when a worker starts; more threads than cores slow all of them.
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(site.threads)))
    workers = [_start(site) for _ in range(min(jobs, len(queue)))]
    try:
        for worker in workers:
            _hand_out(worker, queue)
        while any(worker.spec for worker in workers):
            ready = set(wait([worker.connection for worker in workers if worker.spec]))
            for index, worker in enumerate(workers):
                if worker.connection in ready and not _listen(worker, queue, site, on_event):
                    workers[index] = _start(site)
                    _hand_out(workers[index], queue)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


def _start(site: LaunchConfig) -> _Worker:
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_work, args=(there, site), daemon=True)
    process.start()
    there.close()
    return _Worker(process, here)


def _hand_out(worker: _Worker, queue: list[RunSpec]) -> None:
    worker.spec = queue.pop(0) if queue else None
    if worker.spec:
        worker.connection.send(worker.spec)


def _listen(worker: _Worker, queue: list[RunSpec], site: LaunchConfig, on_event: Callable[[Event], None]) -> bool:
    """Passes on one event; False where the worker has died, whose run is recorded as failed."""
    spec = worker.spec
    assert spec is not None
    try:
        event: Event = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        reason = f"the process of the run died (exit code {worker.process.exitcode}); -9 often means out of memory"
        record = failed_record(spec, reason)
        write_record(site.folder(spec), record)
        worker.spec = None
        on_event(Event("end", spec, record=record))
        return False
    if event.kind == "end":
        _hand_out(worker, queue)
    on_event(event)
    return True


def _work(connection: Connection, site: LaunchConfig) -> None:
    """The life of a worker: one run after another until the parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    device = choose_device(site.device)
    while True:
        try:
            spec: RunSpec = connection.recv()
        except (EOFError, OSError):
            return
        place = RunContext(site.data[spec.data], site.folder(spec), device, site.threads)
        _tell(connection, _attempt(spec, place, connection))


def _attempt(spec: RunSpec, place: RunContext, connection: Connection) -> Event:
    """One run; whatever goes wrong becomes a record with the reason, and a file with the traceback."""
    log = place.folder / ERROR_LOG
    try:
        record = train(spec, place, lambda epochs: _tell(connection, Event("epoch", spec, epochs)))
        log.unlink(missing_ok=True)
    except Exception as error:  # the boundary between one run and all the others
        record = failed_record(spec, f"{type(error).__name__}: {error}")
        write_record(place.folder, record)
        log.write_text(traceback.format_exc(), encoding="utf-8")
    return Event("end", spec, record=record)


def _tell(connection: Connection, event: Event) -> None:
    """Sends an event; where nobody listens any more, the worker ends, and its run can be resumed."""
    try:
        connection.send(event)
    except OSError:
        raise SystemExit(1) from None
