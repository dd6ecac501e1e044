"""Runs on this machine: worker processes that each train one run after another.

A run that fails is recorded, and the others go on. The same holds for a worker that dies. Workers ignore Ctrl-C and
leave it to the parent, which stops them: finished runs are recorded, unfinished ones have their checkpoint.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import torch

from bench.engine.context import RunContext
from bench.engine.device import choose_device
from bench.engine.loop import train
from bench.engine.recording import failed_record
from bench.launch.processes import process_context
from bench.records.record import Record
from bench.records.store import run_folder, write_record
from bench.spec.data_seen import Sight
from bench.spec.resolve import RunSpec

ERROR_LOG = "error.txt"
# torch imports torch._dynamo, which is slow, when a process makes its first optimizer.
_IMPORTED = (__name__, "torch._dynamo")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class LaunchConfig:
    """What all runs of a launch share.

    data: the folder of each data set.
    results: the folder of all records.
    device: its name.
    threads: per run.
    cache: the folder of decoded data; None for the default.
    sight: what the data was when the runs were planned.
    """

    data: Mapping[str, Path]
    results: Path
    device: str
    threads: int
    cache: Path | None = None
    sight: Sight = field(default_factory=lambda: Sight({}, {}))

    def folder(self, spec: RunSpec) -> Path:
        return run_folder(self.results, spec.data, spec.variant, spec.seed)

    def context(self, spec: RunSpec, device: torch.device) -> RunContext:
        """Where a run happens."""
        seen = self.sight.of(spec)
        fingerprint = seen.fingerprint if seen else None
        return RunContext(self.data[spec.data], self.folder(spec), device, self.threads, self.cache, fingerprint)


@dataclass(frozen=True)
class Event:
    """Progress of one run: an epoch is done, the run has ended with this record, or there is something to know."""

    kind: Literal["epoch", "end", "note"]
    spec: RunSpec
    epochs: int = 0
    record: Record | None = None
    note: str = ""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    spec: RunSpec | None = field(default=None)


def run_locally(specs: Sequence[RunSpec], config: LaunchConfig, jobs: int, on_event: Callable[[Event], None]) -> None:
    """Trains all runs, at most `jobs` at a time, and reports each event as it happens.

    Raises:
        KeyboardInterrupt: after all workers have stopped.
    """
    queue = list(specs)
    workers = [_start(config) for _ in range(min(jobs, len(queue)))]
    try:
        for worker in workers:
            _assign(worker, queue)
        while any(worker.spec for worker in workers):
            ready = set(wait([worker.connection for worker in workers if worker.spec]))
            for index, worker in enumerate(workers):
                if worker.connection in ready and not _receive(worker, queue, config, on_event):
                    workers[index] = _start(config)
                    _assign(workers[index], queue)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


def start_server(threads: int) -> Any:
    """The context of worker processes, which import what they need from now on, beside what this process does.

    threads: per run.
    """
    # Read when torch and numpy are imported. More threads than cores would slow down all of them.
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    return process_context(_IMPORTED)


def _start(config: LaunchConfig) -> _Worker:
    context = start_server(config.threads)
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, config), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _assign(worker: _Worker, queue: list[RunSpec]) -> None:
    """Sends the next run to a worker."""
    worker.spec = queue.pop(0) if queue else None
    if worker.spec:
        worker.connection.send(worker.spec)


def _receive(worker: _Worker, queue: list[RunSpec], config: LaunchConfig, on_event: Callable[[Event], None]) -> bool:
    """Passes on one event. Returns False if the worker has died; its run is recorded as failed."""
    spec = worker.spec
    assert spec is not None
    try:
        event: Event = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        reason = f"the process of the run died (exit code {worker.process.exitcode}); -9 often means out of memory"
        record = failed_record(spec, reason)
        write_record(config.folder(spec), record)
        worker.spec = None
        on_event(Event("end", spec, record=record))
        return False
    if event.kind == "end":
        _assign(worker, queue)
    on_event(event)
    return True


def _work(connection: Connection, config: LaunchConfig) -> None:
    """The main function of a worker: one run after another, until the parent stops it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    device = choose_device(config.device)
    while True:
        try:
            spec: RunSpec = connection.recv()
        except (EOFError, OSError):
            return
        _send(connection, _attempt(spec, config.context(spec, device), connection))


def _attempt(spec: RunSpec, context: RunContext, connection: Connection) -> Event:
    """One run. An error becomes a record with the reason, and a file with the traceback."""
    log = context.folder / ERROR_LOG
    try:
        record = train(
            spec,
            context,
            on_epoch=lambda epochs: _send(connection, Event("epoch", spec, epochs)),
            on_note=lambda note: _send(connection, Event("note", spec, note=note)),
        )
        log.unlink(missing_ok=True)
    except Exception as error:  # an error of one run must not stop the others
        record = failed_record(spec, f"{type(error).__name__}: {error}")
        write_record(context.folder, record)
        log.write_text(traceback.format_exc(), encoding="utf-8")
    return Event("end", spec, record=record)


def _send(connection: Connection, event: Event) -> None:
    """Sends an event. If the parent has gone, the worker ends; its run can be resumed."""
    try:
        connection.send(event)
    except OSError:
        raise SystemExit(1) from None
