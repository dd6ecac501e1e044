"""Decoding by worker processes, from the parent's side: each worker gets a few rows at a time."""

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
from datasets.decoding.decoder import Output
from datasets.decoding.prepared import Digests
from datasets.decoding.rows import Chunk
from datasets.errors import DataError

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# Images take megabytes. glibc shall reuse that memory instead of returning it to the system every time.
_REUSED_MEMORY = dict.fromkeys(("MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(2**26))

Worker = subprocess.Popen[bytes]


def decode_by_workers(output: Output, chunks: Sequence[Chunk], workers: int) -> Iterator[tuple[Chunk, Digests]]:
    """Decodes every chunk by workers, and yields it with its digests when it is done, in any order.

    Raises:
        DataError: a row is invalid, or a worker died. OSError: a row can't be written.
    """
    idle: SimpleQueue[Worker] = SimpleQueue()
    todo = iter(chunks)
    running: dict[Future[Digests], Chunk] = {}
    with ExitStack() as stack:
        for _ in range(workers):
            idle.put(stack.enter_context(_started()))
        threads = ThreadPoolExecutor(workers)
        stack.callback(threads.shutdown, cancel_futures=True)  # before the workers end, since a thread may wait for one
        error: BaseException | None = None
        while True:
            # At most one chunk per worker, so that a dead worker gets no more.
            for chunk in itertools.islice(todo, 0 if error else workers - len(running)):
                running[threads.submit(_hand_out, idle, output, chunk)] = chunk
            if not running:
                if error is not None:  # after the other workers' chunks are written
                    raise error
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                chunk = running.pop(future)
                if future.exception() is None:
                    yield chunk, future.result()
                else:
                    error = error or future.exception()


def _started() -> Worker:
    """A new worker, in a session of its own, so that Ctrl-C reaches only this process. It ends with this process."""
    return subprocess.Popen(
        [sys.executable, "-I", str(Path(decoder.__file__)), json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **_ONE_THREAD, **_REUSED_MEMORY},
        start_new_session=True,
    )


def _hand_out(idle: SimpleQueue[Worker], output: Output, chunk: Chunk) -> Digests:
    """Has an idle worker decode a chunk, and waits for it."""
    worker = idle.get()
    assert worker.stdin is not None and worker.stdout is not None
    try:
        worker.stdin.write(pickle.dumps((output, chunk)))
        worker.stdin.flush()
        reply: Digests | Exception = pickle.load(worker.stdout)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
        with suppress(BrokenPipeError):
            worker.stdin.close()
        raise DataError(
            f"{chunk.first}: expected this {chunk.unit} and the next {len(chunk.rows) - 1} to be decoded, found their "
            f"process dead (exit code {worker.wait()}; -9 often means out of memory). Run the same command again with "
            "fewer workers: it continues."
        ) from error
    finally:
        idle.put(worker)
    if isinstance(reply, Exception):
        raise reply
    return reply
