"""Runs on this machine: worker processes that each train one run after another.

A run that fails is recorded, and the others go on. A run whose process dies is tried again, from its checkpoint. When
the command is stopped, its workers stop: finished runs are recorded, unfinished ones have their checkpoint.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from bench.engine.recording import failed_record
from bench.launch.config import LaunchConfig
from bench.launch.messages import Assignment, Event
from bench.launch.run_queue import POLL, RunQueue
from bench.launch.worker import work
from bench.processes.ending import GRACE
from bench.processes.fork_server import process_context
from bench.records.claim import Holder, release, take
from bench.records.files import StorageError
from bench.records.record import Record
from bench.records.store import write_record
from bench.spec.resolve import RunSpec

# torch imports torch._dynamo, which is slow, when a process makes its first optimizer.
_IMPORTED = ("bench.launch.worker", "torch._dynamo")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_PAUSES = (0.1, 0.5, 2.0)  # seconds after each attempt to start a worker

OnEvent = Callable[[Event], None]


class WorkersUnavailable(Exception):
    """No worker process can be started."""


@dataclass
class _Worker:
    """A worker process with its device. assignment, epochs: its run, and how many epochs of it are done."""

    process: BaseProcess
    connection: Connection
    device: str
    assignment: Assignment | None = None
    epochs: int = 0


def run_locally(specs: Sequence[RunSpec], config: LaunchConfig, jobs: int, on_event: OnEvent) -> None:
    """Trains all runs, at most `jobs` at a time, and reports each event as it happens.

    Runs that another process trains are left to it, and waited for.

    Raises:
        As `train_queue`.
    """
    train_queue(RunQueue(specs, config, on_event), config, min(jobs, len(specs)), on_event)


def train_queue(queue: RunQueue, config: LaunchConfig, jobs: int, on_event: OnEvent) -> None:
    """Trains all runs of a queue in `jobs` worker processes.

    Raises:
        KeyboardInterrupt: after all workers have stopped. StorageError, RecordError: of results. PlanError: another
            process has made one of these runs with other settings or from other data. WorkersUnavailable: no process
            can be started.
    """
    workers: list[_Worker] = []
    try:
        for place in range(jobs):
            workers.append(_start(config, config.devices[place] if config.devices else config.device))
        while True:
            for index, worker in enumerate(workers):
                if queue and not worker.assignment and not worker.process.is_alive():
                    workers[index] = _start(config, worker.device)
                _assign(workers[index], queue, config, on_event)
            busy = [worker for worker in workers if worker.assignment]
            if not busy and not queue:
                return
            # Not for ever: where another thread stops this one, as in Ray's workers, only its return is noticed.
            ready = wait([worker.connection for worker in busy], timeout=POLL)
            for worker in busy:
                if worker.connection in ready:
                    _receive(worker, queue, config, on_event)
    finally:
        _stop(workers)


def start_server(threads: int) -> Any:
    """The context of worker processes, which import what they need from now on, beside what this process does.

    threads: per run.
    """
    # Read when torch and numpy are imported. More threads than cores would slow down all of them.
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    return process_context(_IMPORTED)


def _start(config: LaunchConfig, device: str) -> _Worker:
    """A new worker on a device; tried again if the server that forks it dies meanwhile.

    Raises:
        WorkersUnavailable: it could not be started.
    """
    for pause in _PAUSES:
        context = start_server(config.threads)
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, replace(config, device=device)))
        try:
            process.start()
        except (EOFError, OSError) as error:
            last = error
            time.sleep(pause)
        else:
            theirs.close()
            return _Worker(process, ours, device)
    raise WorkersUnavailable(
        f"Expected worker processes to start, found that they can't ({last}); check the memory (`free -m`) and the "
        "limit of processes (`ulimit -u`), then give the same command again. Finished runs are kept."
    ) from last


def _stop(workers: Sequence[_Worker]) -> None:
    """Stops all workers: each after its current operation, and in any case after a few seconds.

    A further signal, which raises an exception here, kills them at once.
    """
    try:
        for worker in workers:
            worker.process.terminate()
        until = time.monotonic() + GRACE
        for worker in workers:
            worker.process.join(max(0.0, until - time.monotonic()))
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:  # not for ever: the fork server, which tells that they have ended, may be stopped
            worker.process.join(GRACE)


def _assign(worker: _Worker, queue: RunQueue, config: LaunchConfig, on_event: OnEvent) -> None:
    """Sends an idle worker its next run."""
    if worker.assignment or not queue:
        return
    assert worker.process.pid is not None
    worker.assignment, worker.epochs = queue.next(worker.process.pid), 0
    if worker.assignment:
        try:
            worker.connection.send(worker.assignment)
        except OSError:
            _lose(worker, queue, config, on_event)


def _receive(worker: _Worker, queue: RunQueue, config: LaunchConfig, on_event: OnEvent) -> None:
    """Takes one event from a worker."""
    assignment = worker.assignment
    assert assignment is not None
    try:
        event: Event = worker.connection.recv()
    except (EOFError, OSError):
        _lose(worker, queue, config, on_event)
        return
    if event.kind == "storage":
        raise StorageError(event.note)
    if event.kind == "taken":
        queue.put(assignment.spec, assignment.lost)
    if event.kind in ("taken", "end"):
        worker.assignment = None
    worker.epochs = max(worker.epochs, event.epochs)
    on_event(event)


def _lose(worker: _Worker, queue: RunQueue, config: LaunchConfig, on_event: OnEvent) -> None:
    """A worker has died: its run has lost an attempt, and waits for the next one or has failed."""
    assignment, worker.assignment = worker.assignment, None
    assert assignment is not None
    spec = assignment.spec
    worker.process.join(GRACE)
    worker.process.kill()
    worker.process.join(GRACE)
    ending = _ending(worker.process.exitcode)
    lost = (*assignment.lost, f"after epoch {worker.epochs}: {ending}")
    release(assignment.claim)  # as the worker does if it still can
    if len(lost) <= config.retries:
        queue.put(spec, lost)
        note = f"its process was lost after epoch {worker.epochs} ({ending}); it is tried again, from its checkpoint"
        on_event(Event("note", spec, note=note))
        return
    record = record_lost(spec, lost, config)
    if record is None:
        queue.put(spec, lost)
    else:
        on_event(Event("end", spec, record=record))


def record_lost(
    spec: RunSpec, lost: tuple[str, ...], config: LaunchConfig, gone: Holder | None = None
) -> Record | None:
    """Records that a run has lost all its attempts; None if another process trains it now.

    gone: a process that is known to be dead, as it last held the claim.
    """
    claim = take(config.folder(spec), os.getpid(), config.expiry, gone)
    if isinstance(claim, Holder):
        return None
    assignment = Assignment(spec, claim, lost, spec.key in config.again)
    reason = f"its process was lost {len(lost)} times, the last time {lost[-1]}"
    try:
        return write_record(assignment.folder, failed_record(spec, reason, lost, config.trials), claim.guard)
    finally:
        release(claim)


def _ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None or code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    often = ", which the system sends when memory runs out" if -code == signal.SIGKILL else ""
    return f"killed by {name}{often}"
