"""The further processes of a run that is trained data-parallel: started by its worker, and ended with the run.

They write nothing, so they may be killed at any time. If one of them dies, the worker dies in the same way, and the
launcher tries the run again from its checkpoint. An error of one of them is an error of the run.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Literal, TypeAlias

from bench.engine.context import RunContext
from bench.engine.loop import train_along
from bench.engine.parallel import ALONE, DataParallel, device_of_rank, joined, open_store
from bench.engine.signals import STOP_SIGNALS
from bench.processes.ending import GRACE, end_with_parent
from bench.processes.fork_server import process_context
from bench.spec.resolve import RunSpec
from methods.contract import Diverged

# torch imports torch._dynamo, which is slow, when a process makes its first optimizer.
_IMPORTED = ("bench.launch.data_parallel", "torch._dynamo")
# Seconds that the first process has to notice that another one has failed: an exchange on an accelerator waits forever.
_PATIENCE = 60.0

# How a further process got on: it is ready to train; the run diverged; an error, with its traceback; or an exchange
# failed, for a reason that another process has.
Report: TypeAlias = tuple[Literal["ready", "diverged", "error", "exchange"], str, str]


class ProcessFailed(Exception):
    """One of the processes that train a run has failed; the message is its error."""


class _ExchangeFailed(Exception):
    """Another process has ended."""


@contextmanager
def data_parallel(spec: RunSpec, context: RunContext) -> Iterator[DataParallel]:
    """The further processes that the settings of the run ask for, ready to train; within, they train along.

    Raises:
        ProcessFailed, Diverged: what happened in one of them.
    """
    size = spec.settings.compute.processes
    if size == 1:
        yield ALONE
        return
    with ExitStack() as opened:
        store = open_store(size)
        others = _Others(size)
        opened.callback(others.end)
        for rank in range(1, size):
            others.start(spec, context, rank, store.port)
        others.wait_until_ready()
        opened.enter_context(joined(store, 0, size, device_of_rank(context.device, 0)))
        yield DataParallel(0, size, others.tell, others.cause)


@dataclass
class _Others:
    """The further processes of a run, as its first process sees them.

    ready: all are ready, or one has failed. failed: one has failed; `failure` says how. ending: they are being ended.
    """

    size: int
    processes: list[BaseProcess] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    watcher: threading.Thread | None = None
    ready: threading.Event = field(default_factory=threading.Event)
    failed: threading.Event = field(default_factory=threading.Event)
    ending: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None

    def start(self, spec: RunSpec, context: RunContext, rank: int, port: int) -> None:
        """Starts one more, to find the others by the store at this port."""
        processes = process_context(_IMPORTED)
        ours, theirs = processes.Pipe()
        own = replace(context, device=device_of_rank(context.device, rank), guard=nullcontext)
        process = processes.Process(target=_train_along, args=(theirs, spec, own, rank, port), daemon=True)
        process.start()
        theirs.close()
        self.processes.append(process)
        self.connections.append(ours)

    def wait_until_ready(self) -> None:
        """Follows them from now on. Raises what has happened if one of them fails meanwhile."""
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()
        self.ready.wait()
        if self.failure is not None:
            raise self.failure

    def tell(self, epoch: int, steps: int) -> None:
        """Tells them to train the epoch of this index, of which so many steps are done.

        One that has ended is noticed at the next exchange.
        """
        for connection in self.connections:
            with suppress(OSError):
                connection.send((epoch, steps))

    def cause(self, error: RuntimeError) -> Exception:
        """What made an exchange fail."""
        self.failed.wait(GRACE)
        return self.failure or error

    def _watch(self) -> None:
        """Follows them until they end. One that dies without a word was killed, and takes this process with it."""
        ranks = {connection: rank for rank, connection in enumerate(self.connections, 1)}
        reports: dict[int, Report] = {}
        while ranks and not self.failed.is_set():
            heard = wait(list(ranks))
            for connection, rank in [entry for entry in ranks.items() if entry[0] in heard]:
                try:
                    reports[rank] = connection.recv()
                except (EOFError, OSError):
                    del ranks[connection]
                    if reports.get(rank, ("ready",))[0] == "ready":
                        self._die_like(self.processes[rank - 1])
                else:
                    self._note(rank, reports[rank])
            if len(reports) == self.size - 1:
                self.ready.set()
        if self.failed.is_set() and not self.ending.wait(_PATIENCE):
            os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, rank: int, report: Report) -> None:
        kind, message, trace = report
        if kind == "diverged":
            self.failure = Diverged(message)
        elif kind == "error":
            self.failure = ProcessFailed(f"process {rank + 1} of {self.size}: {message}")
            self.failure.add_note(trace)
        else:
            return
        self.failed.set()
        self.ready.set()

    def _die_like(self, process: BaseProcess) -> None:
        """Ends this process as that one ended, unless it was meant to."""
        process.join(GRACE)
        if self.ending.is_set():
            return
        code = process.exitcode
        os.kill(os.getpid(), -code if code is not None and code < 0 else signal.SIGKILL)
        if not self.ending.wait(GRACE):
            os.kill(os.getpid(), signal.SIGKILL)

    def end(self) -> None:
        """Kills them, whatever they do."""
        self.ending.set()
        for process in self.processes:
            process.kill()
        for process in self.processes:  # not for ever, as in the launcher
            process.join(GRACE)
        if self.watcher:
            self.watcher.join(GRACE)
        for connection in self.connections:
            connection.close()


def _train_along(connection: Connection, spec: RunSpec, context: RunContext, rank: int, port: int) -> None:
    """The main function of a further process. Signals are for the command and the first process of the run.

    That one may have to save a checkpoint, for which it needs the others. Then it ends them.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()  # the first process of the run; this one has nothing to save
    size = spec.settings.compute.processes
    try:
        connection.send(("ready", "", ""))
        with joined(open_store(size, port), rank, size, context.device):
            train_along(spec, context, DataParallel(rank, size, cause=_failed_exchange), _epochs(connection))
    except Diverged as error:
        report: Report = ("diverged", str(error), "")
    except _ExchangeFailed as error:
        report = ("exchange", str(error), "")
    except Exception as error:
        report = ("error", f"{type(error).__name__}: {error}", traceback.format_exc())
    else:
        return
    with suppress(OSError):
        connection.send(report)


def _epochs(connection: Connection) -> Iterator[tuple[int, int]]:
    """The index of each epoch and its steps that are done, as the first process begins it.

    It kills this process at the end.
    """
    while True:
        yield connection.recv()


def _failed_exchange(error: RuntimeError) -> Exception:
    return _ExchangeFailed(str(error))
