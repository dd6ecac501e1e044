"""Processes that decode, seen from the one that has them: they get a few rows at a time and say when they are done."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue

from datasets.decoding import decoder
from datasets.decoding.decoder import Job
from datasets.decoding.prepared import Rows
from datasets.faults import DataError

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# Images come and go by the megabyte: glibc is to keep that memory, instead of giving it back and asking for it again.
_KEPT_MEMORY = dict.fromkeys(("MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(2**26))

Worker = subprocess.Popen[bytes]


def decode_by_workers(job: Job, chunks: Sequence[Rows], workers: int) -> Iterator[Rows]:
    """Has every chunk decoded, and yields it then, in whatever order.

    Raises:
        DataError: a file is faulty, or a worker died. OSError: a row can't be written.
    """
    idle: SimpleQueue[Worker] = SimpleQueue()
    todo = iter(chunks)
    at_work: dict[Future[None], Rows] = {}
    with ExitStack() as stack:
        for _ in range(workers):
            idle.put(stack.enter_context(_started()))
        threads = ThreadPoolExecutor(workers)
        stack.callback(threads.shutdown, cancel_futures=True)  # before the workers, which it may wait for
        fault: BaseException | None = None
        while True:
            # No more than there are workers, so that one that has died is given nothing more.
            for rows in itertools.islice(todo, 0 if fault else workers - len(at_work)):
                at_work[threads.submit(_hand_out, idle, job.only(rows), rows)] = rows
            if not at_work:
                if fault is not None:  # only now, so that what others were at is kept
                    raise fault
                return
            for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                rows = at_work.pop(future)
                if future.exception() is None:
                    yield rows
                else:
                    fault = fault or future.exception()


def _started() -> Worker:
    """A new worker. It has a session of its own, which leaves Ctrl-C to this process; without this process, it ends."""
    return subprocess.Popen(
        [sys.executable, "-I", str(Path(decoder.__file__)), json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **_ONE_THREAD, **_KEPT_MEMORY},
        start_new_session=True,
    )


def _hand_out(idle: SimpleQueue[Worker], job: Job, rows: Rows) -> None:
    """Has an idle worker decode rows, and waits until it has."""
    worker = idle.get()
    assert worker.stdin is not None and worker.stdout is not None
    try:
        worker.stdin.write(pickle.dumps((job, rows)))
        worker.stdin.flush()
        fault = pickle.load(worker.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
        with suppress(BrokenPipeError):
            worker.stdin.close()
        raise DataError(
            f"{job.paths[0]}: expected this file and the next {len(rows) - 1} to be decoded, found its process dead "
            f"(exit code {worker.wait()}; -9 often means out of memory). Run it again, with fewer workers: what is "
            "decoded is kept."
        ) from error
    finally:
        idle.put(worker)
    if fault is not None:
        raise fault
