"""A worker process: it trains one run after another, and ends when its parent says so or dies."""

from __future__ import annotations

import gc
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

import torch

from bench.engine.context import RunContext
from bench.engine.device import choose_device
from bench.engine.loop import train
from bench.engine.recording import failed_record
from bench.engine.signals import Stopped, exit_code, stopped_by, uninterrupted
from bench.launch.config import LaunchConfig
from bench.launch.data_parallel import data_parallel
from bench.launch.messages import Assignment, Event
from bench.launch.tensorboard import epoch_log
from bench.processes.ending import GRACE, end_with_parent
from bench.records.again import replace_old
from bench.records.claim import Claim, ClaimLost, Progress, beat, release
from bench.records.files import StorageError, atomic_write_text
from bench.records.record import Record
from bench.records.store import ERROR_LOG, write_record

_LONGEST_PAUSE = 5.0  # between two beats
_BEATS_PER_EXPIRY = 6


def work(connection: Connection, config: LaunchConfig) -> None:
    """The main function of a worker.

    The signals of a terminal go to all its processes. The parent decides what follows: it sends SIGTERM.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(GRACE)
    gc.freeze()  # all modules, which stay: each run looks for garbage, and would take a quarter of a second for them
    try:
        with stopped_by(signal.SIGTERM):
            device = choose_device(config.device)
            while True:
                try:
                    assignment: Assignment = connection.recv()
                except (EOFError, OSError):  # the parent has gone
                    return
                _send(connection, attempt(assignment, config, device, connection))
    except Stopped as stop:
        raise SystemExit(exit_code(stop)) from None


def attempt(assignment: Assignment, config: LaunchConfig, device: torch.device, connection: Connection) -> Event:
    """One run; how it ended. Progress is sent meanwhile."""
    spec, claim = assignment.spec, assignment.claim
    seen = config.current.of(spec)
    context = RunContext(
        data=config.data[spec.data],
        folder=assignment.folder,
        device=device,
        threads=config.threads,
        cache=config.cache,
        fingerprint=seen.fingerprint if seen else None,
        guard=claim.guard,
        lost=assignment.lost,
        checkpoint_every=config.checkpoint_every,
        trial=config.trials,
    )
    try:
        with _beating(claim, config.expiry):
            record = _record_of(assignment, context, connection, config.logger)
    except ClaimLost as error:
        return Event("taken", spec, note=str(error))
    except StorageError as error:
        return Event("storage", spec, note=str(error))
    finally:
        release(claim)
    return Event("end", spec, record=record)


def _record_of(assignment: Assignment, context: RunContext, connection: Connection, logger: str) -> Record:
    """Trains a run. An error becomes a record with the reason, and a file with the traceback."""
    spec, log = assignment.spec, context.folder / ERROR_LOG
    report = _reporter(assignment, connection)
    try:
        with (
            data_parallel(spec, context) as parallel,
            epoch_log(logger, spec, context.folder, context.guard) as epochs_log,
        ):
            record = train(
                spec,
                context,
                on_epoch=report,
                on_note=lambda note: _send(connection, Event("note", spec, note=note)),
                parallel=parallel,
                log=epochs_log,
                on_checkpoint=report,
            )
    except (ClaimLost, StorageError):
        raise
    except Exception as error:  # an error of one run must not stop the others
        reason = f"{type(error).__name__}: {error}"
        atomic_write_text(log, traceback.format_exc(), context.guard)
        return write_record(context.folder, failed_record(spec, reason, assignment.lost, context.trial), context.guard)
    with context.guard():
        log.unlink(missing_ok=True)
    if assignment.again:
        replace_old(assignment.claim.folder, context.guard)
    return record


def _reporter(assignment: Assignment, connection: Connection) -> Callable[..., None]:
    """Tells the parent and, in the claim, everybody how many epochs are done, and which share of the next one."""
    spec, claim = assignment.spec, assignment.claim
    start: tuple[float, float] | None = None

    def report(epochs: int, share: float = 0.0) -> None:
        nonlocal start
        now, done = time.monotonic(), epochs + share
        first, since = start = start or (done, now)
        pace = (now - since) / (done - first) if done > first else None
        progress = Progress(epochs=epochs, planned=spec.settings.train.epochs, epoch_seconds=pace, share=share)
        with suppress(StorageError), uninterrupted():
            beat(claim, progress)
        _send(connection, Event("part" if share else "epoch", spec, epochs, share=share))

    return report


def _send(connection: Connection, event: Event) -> None:
    """Sends an event. If the parent has gone, the worker ends; its run can be resumed.

    A parent that is stopped is not told of epochs once the pipe is full: the run would wait for it, and never expire.
    """
    if event.kind in ("epoch", "part") and not select.select([], [connection], [], 0)[1]:
        return
    try:
        connection.send(event)
    except OSError:
        raise SystemExit(1) from None


@contextmanager
def _beating(claim: Claim, expiry: float) -> Iterator[None]:
    """Within, a thread shows others that this process lives."""
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(min(_LONGEST_PAUSE, expiry / _BEATS_PER_EXPIRY)):
            try:
                with suppress(StorageError):  # a network file system may come back
                    beat(claim)
            except ClaimLost:
                return  # the next file that the run writes says so

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
