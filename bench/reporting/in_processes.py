"""The same work on several things at once, each in one of a few processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from typing import TypeVar

from bench.processes.ending import end_with_parent
from bench.records.files import StorageError

T = TypeVar("T")
R = TypeVar("R")


def in_processes(work: Callable[[T], R], things: Sequence[T], processes: int) -> Iterator[R]:
    """What `work` returns for each thing, in order; at most so many things at a time.

    With one process or one thing, this process does it all.

    Raises:
        What `work` raises. StorageError: a process was killed.
    """
    processes = min(processes, len(things))
    if processes <= 1:
        yield from map(work, things)
        return
    # New processes, not copies of this one, whose threads would be missing in a copy.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin)
    others = active_children()
    try:
        yield from pool.map(work, things)
    except KeyboardInterrupt:
        for process in (child for child in active_children() if child not in others):
            process.terminate()  # whatever it writes appears as a whole or not at all
        raise
    except BrokenProcessPool as error:
        raise StorageError(
            "Expected the processes that write reports to finish, found one killed, as the system does when memory "
            "runs out; give the same command with `--jobs 1`."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Ctrl-C is for the command, which stops its processes; if it is killed, they end at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
