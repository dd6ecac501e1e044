"""The peak memory of a training step, beyond the network and the batch.

Every candidate is measured in a process of its own, because a process may hold on to freed memory. The process builds
network and batch, notes the memory in use, and takes two steps; in the second, all that is stored between steps exists.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from bench.engine.device import peak_memory_mib, reset_peak_memory
from bench.processes.fork_server import process_context
from bench.profiling.step import MethodStep, StepBenchmark, StepFactory
from bench.records.speed import BASELINE, OURS
from methods.adapters.counterparts import import_errors

STEPS = 2


def measure_memory(
    benchmark: StepBenchmark,
    steps: Sequence[MethodStep],
    threads: int,
    on_sample: Callable[[str], None] = lambda name: None,
) -> dict[MethodStep, float | None]:
    """MiB by step, without baselines; None if the system doesn't report memory or the process ended early."""
    context = _process_context()
    peaks: dict[MethodStep, float | None] = {}
    for step in steps:
        if step.candidate != BASELINE:
            on_sample(f"{step}, memory")
            peaks[step] = _in_a_process(context, benchmark, step, threads)
    return peaks


def _process_context() -> Any:
    context = process_context([__name__])
    first = context.Process(target=int)  # waits for the server; interrupted meanwhile, it leaves no work behind
    first.start()
    first.join()
    return context


def _in_a_process(context: Any, benchmark: StepBenchmark, step: MethodStep, threads: int) -> float | None:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(theirs, benchmark, step, threads), daemon=True)
    process.start()
    theirs.close()
    try:
        peak: float | None = ours.recv()
        process.join()
    except EOFError:  # killed, for example by the system when it ran out of memory
        peak = None
    finally:
        ours.close()
        process.kill()
        process.join()
    return peak


def _report(connection: Connection, benchmark: StepBenchmark, step: MethodStep, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C, and ends this one
    torch.set_num_threads(threads)
    try:
        connection.send(peak_of_steps(benchmark, step))
    except (RuntimeError, MemoryError):  # out of memory; other errors were recorded when the step was timed
        connection.send(None)


def peak_of_steps(benchmark: StepBenchmark, step: MethodStep) -> float | None:
    """MiB that STEPS steps take, in this process; None if the system doesn't report memory."""
    if step.candidate not in (OURS, BASELINE):
        import_errors([step.candidate])  # imports the package, which isn't part of a step
    factory = StepFactory(benchmark)
    factory.network(step)
    reset_peak_memory(benchmark.device)
    before = peak_memory_mib(benchmark.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call = factory.step(step)
        for _ in range(STEPS):
            call()
    after = peak_memory_mib(benchmark.device)
    return None if before is None or after is None else after - before
